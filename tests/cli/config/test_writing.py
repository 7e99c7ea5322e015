"""`--print-config` and `-f`: a command line, the file that is printed of it, and what a run is then asked for."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
import yaml
from arch_bench import api, data, options
from arch_bench.config.keys import BENCH
from arch_bench.main import app
from arch_common.errors import ConfigError, UsageError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

RUNNER = CliRunner()
ENDPOINTS_OF = options.endpoints_of  # the real one
NAMES = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=12).filter(
    lambda text: not text.startswith("-") and text.strip()
)
PATHS = st.sampled_from(["here", "a b/c", "../above", "/data/é: x", "~/home", "on", "1.0", "2024-01-01", "a#b", "null"])
NUMBERS = st.floats(0.01, 1e5).map(str)
WHOLE = st.integers(1, 1000).map(str)
DATASETS = st.sampled_from(
    ["esc50", "ravdess@strict", "emovo=../g", "us8k=/data/u s", "ravdess@strict=r", "./own", "own/birds.yaml", "/o=n/e"]
)
VALUES: dict[str, Any] = {
    "--dataset": st.lists(DATASETS, min_size=1, max_size=3, unique=True),
    "--model": st.lists(NAMES, min_size=1, max_size=3),
    "--server": st.lists(st.sampled_from(["gpu1:8001", "10.0.0.1:1", "[::1]:8001"]), min_size=1, max_size=2),
    "--splits": st.sampled_from(["arch", "strict"]),
    "--probe": st.lists(st.sampled_from(["linear", "logreg", "mlp", "knn"]), min_size=1, max_size=3, unique=True),
    "--ray-address": NAMES,
    "--transport": st.sampled_from(["grpc", "shared-memory"]),
    "--price": st.sampled_from(["2.49/h", "3", ".5", "0.010"]),
    "--ablate": st.lists(st.sampled_from(["padding", "loudness,length", "loudness=peak"]), min_size=1, max_size=2),
    "--rate": NUMBERS,
    **dict.fromkeys(("--seeds", "--seed", "--concurrency", "--workers"), WHOLE),
    "--repeat": st.integers(1, 100).map(str),
    **dict.fromkeys(
        ("--output", "--data-root", "--repository", "--cache", "--log-file", "--tls-ca", "--tls-cert", "--tls-key"),
        PATHS,
    ),
}
SWITCHES = ("tls", "layers", "recompute", "verbose", "quiet")


class AskedError(Exception):
    """What a run was asked for, instead of the run."""

    def __init__(self, asked: dict[str, Any]) -> None:
        super().__init__()
        self.asked = asked


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def bench(datasets: list[str], **asked: Any) -> None:
        raise AskedError({"datasets": datasets, **asked})

    monkeypatch.setattr(api, "bench", bench)
    monkeypatch.setattr(api, "default_output", lambda: Path("made"))
    monkeypatch.setattr(options, "endpoints_of", lambda *given: list(given))
    monkeypatch.setattr(data, "open_dataset", lambda name, *_, **__: SimpleNamespace(id=name))
    monkeypatch.delenv("ARCH_CACHE", raising=False)
    monkeypatch.chdir(tmp_path)


def asked(*arguments: str) -> dict[str, Any]:
    """What a command line asks a run for, its paths whole."""
    ended = RUNNER.invoke(app, ["bench", *arguments], catch_exceptions=True).exception
    assert isinstance(ended, AskedError), ended
    found = {name: value for name, value in ended.asked.items() if name not in ("command", "config")}
    found["console"] = found["console"] is not None
    return {name: whole(value) for name, value in found.items()}


def whole(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [whole(one) for one in value]
    if isinstance(value, str):
        name, equals, path = value.partition("=")
        if equals and "/" not in name and name.isidentifier():
            return f"{name}={whole(Path(path))}"
        return str(whole(Path(value))) if "/" in value and ":" not in value[:9] else value
    return Path(value).expanduser().resolve() if isinstance(value, Path) else value


def printed(*arguments: str) -> str:
    done = RUNNER.invoke(app, ["bench", *arguments, "--print-config"])
    assert done.exit_code == 0, (done.exception, done.output)
    return done.stdout


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """Any options together, each with any value."""
    words: list[str] = []
    for name in ["--dataset", *draw(st.lists(st.sampled_from(sorted(VALUES)), unique=True, max_size=8))]:
        if name in words:
            continue
        value = draw(VALUES[name])
        for one in value if isinstance(value, list) else [value]:
            words += [name, one]
    for name in draw(st.lists(st.sampled_from(SWITCHES), unique=True)):
        if not (name == "quiet" and "--verbose" in words) and not (name == "verbose" and "--quiet" in words):
            is_needed = name == "tls" and {"--tls-ca", "--tls-cert", "--tls-key"} & {*words}
            words.append(draw(st.sampled_from([f"--{name}"] if is_needed else [f"--{name}", f"--no-{name}"])))
    return words


ALL = [
    *("--dataset", "esc50", "--model", "m", "--server", "a:1", "--splits", "strict", "--probe", "knn"),
    *("--ray-address", "auto", "--transport", "shared-memory", "--price", "2.49/h", "--ablate", "padding"),
    *("--rate", "16", "--seeds", "5", "--seed", "2", "--concurrency", "8", "--workers", "2", "--repeat", "3"),
    *("--output", "o", "--data-root", "d", "--repository", "r", "--cache", "c", "--log-file", "l"),
    *(
        "--tls-ca",
        "ca.pem",
        "--tls-cert",
        "cert.pem",
        "--tls-key",
        "key.pem",
        "--tls",
        "--layers",
        "--recompute",
        "--quiet",
    ),
]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(command_lines())
@example(ALL)
def test_the_file_of_a_command_line_asks_for_the_same(words: list[str]) -> None:
    Path("bench.yaml").write_text(printed(*words), encoding="utf-8")
    assert asked("-f", "bench.yaml") == asked(*words)
    # What is printed of the file is the file.
    assert printed("-f", "bench.yaml") == Path("bench.yaml").read_text(encoding="utf-8")


def test_all_options_are_in_that_test() -> None:
    known = {*VALUES, *(f"--{name}" for name in SWITCHES), "--header"}
    assert {"--" + name.replace("_", "-") for name in BENCH} == known
    assert {word.replace("--verbose", "--quiet") for word in known - {"--header", "--verbose"}} <= {*ALL}


def test_what_is_printed_has_what_was_given_and_says_what_it_means() -> None:
    text = printed("--dataset", "esc50=data/esc50", "--dataset", "emovo", "--seeds", "3", "--price", "2.49/h")
    folder = Path.cwd()
    lines = text.splitlines()
    assert re.fullmatch(r"# yaml-language-server: \$schema=https://\S+/bench\.schema\.json", lines[0])
    assert str(folder) in " ".join(lines[1:4])
    assert yaml.safe_load(text) == {
        "datasets": [{"name": "esc50", "path": "data/esc50"}, "emovo"],
        "probes": {"seeds": 3},
        "price": "2.49/h",
    }
    assert "  # Probes trained per fold, with seeds that follow one another.\n  seeds: 3\n" in text
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("headers", ["'authorization: Bearer HUSH'", "['authorization Bearer HUSH']", "[{a: HUSH}]"])
def test_a_header_is_not_in_what_is_wrong_with_it(headers: str) -> None:
    Path("b.yaml").write_text(f"datasets: [esc50]\nservers: {{headers: {headers}}}\n")
    done = RUNNER.invoke(app, ["bench", "-f", "b.yaml"])
    assert done.exception is not None
    assert "headers" in str(done.exception)
    assert "HUSH" not in str(done.exception)


def test_headers_are_not_printed_and_not_recorded() -> None:
    words = ["--dataset", "esc50", "--header", "authorization: Bearer HUSH"]
    text = printed(*words)
    assert "HUSH" not in text
    assert "ARCH_HEADER" in text
    ended = RUNNER.invoke(app, ["bench", *words]).exception
    assert isinstance(ended, AskedError)
    assert "HUSH" not in ended.asked["config"]
    assert ended.asked["servers"][3] == ["authorization: Bearer HUSH"]
    Path("b.yaml").write_text("datasets: [esc50]\nservers: {headers: ['authorization: Bearer HUSH']}\n")
    assert asked("-f", "b.yaml")["servers"][3] == ["authorization: Bearer HUSH"]
    assert "HUSH" not in printed("-f", "b.yaml")


@pytest.fixture
def file() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        path = Path(folder) / "bench.yaml"
        path.write_text(
            "datasets: [esc50, demo=data]\nprobes: {seeds: 7, layers: true}\nspeed: {repeat: 2}\n"
            "cache: store\nquiet: true\n"
            "loads:\n  - {slo: p99=1s, dataset: demo=data}\ngate: {baseline: before, max-drop: 1pt, json: g.json}\n"
        )
        yield path


def test_the_command_line_goes_before_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arch_bench.commands.bench._following", lambda *_: None)
    found = asked("-f", str(file))
    assert (found["seeds"], found["repeat"], found["layers"]) == (7, 2, True)
    # Also where it says what is the default: what counts is that it was said.
    words = ("--seeds", "3", "--dataset", "emovo", "--no-layers", "--no-quiet", "--verbose")
    found = asked(*words, "-f", str(file))
    assert (found["seeds"], found["repeat"], found["layers"], found["datasets"]) == (3, 2, False, ["emovo"])
    merged = yaml.safe_load(printed("-f", str(file), *words))
    assert merged["probes"] == {"seeds": 3, "layers": False}
    assert (merged["datasets"], merged["quiet"], merged["verbose"]) == (["emovo"], False, True)


def switched(on: bool) -> dict[str, Any]:
    """What a file says that turns every switch on, or off, by its keys; what means one that is on stands beside it."""
    found: dict[str, Any] = {"datasets": ["esc50"]}
    for name in SWITCHES:
        section, *key = BENCH[name]
        if key:
            found.setdefault(section, {})[key[0]] = on
        else:
            found[section] = on
    if on:
        found["servers"] |= {"addresses": ["a:1"], "tls-ca": "ca.pem", "tls-cert": "cert.pem", "tls-key": "key.pem"}
        del found["verbose"]  # not beside quiet
    return found


def test_every_switch_of_a_file_can_be_turned_off_on_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arch_bench.commands.bench._following", lambda *_: None)
    whole: Any = typer.main.get_command(app)
    switches = {one.name for one in whole.commands["bench"].params if one.is_flag and one.name in BENCH}
    assert switches == {*SWITCHES}
    Path("on.yaml").write_text(yaml.safe_dump(switched(on=True)))
    Path("off.yaml").write_text(yaml.safe_dump(switched(on=False)))
    off = [f"--no-{name}" for name in SWITCHES]
    found, wanted = asked("-f", "on.yaml", *off), asked("-f", "off.yaml", "--server", "a:1")
    assert found == wanted
    assert found["servers"] == [["a:1"], False, None, None, [None, None]]
    assert (found["layers"], found["recompute"], found["console"]) == (False, False, True)
    merged = yaml.safe_load(printed("-f", "on.yaml", *off))
    assert merged == {**switched(on=False), "servers": {"addresses": ["a:1"], "tls": False}}
    # The file's certificates are not even looked for.
    monkeypatch.setattr(options, "endpoints_of", ENDPOINTS_OF)
    (endpoint,) = asked("-f", "on.yaml", "--no-tls")["servers"]
    assert (endpoint.address, endpoint.tls) == ("a:1", False)


@pytest.mark.parametrize("certificate", ["--tls-ca", "--tls-cert", "--tls-key"])
def test_certificates_and_none_cannot_both_be_asked_for(certificate: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arch_bench.commands.bench._following", lambda *_: None)
    for words in (["--no-tls", certificate, "x.pem"], [certificate, "x.pem", "--no-tls"]):
        done = RUNNER.invoke(app, ["bench", "--dataset", "esc50", "--server", "a:1", *words])
        assert isinstance(done.exception, UsageError)
        assert str(done.exception) == f"--no-tls and {certificate}: choose one, for certificates mean TLS"
    # Of the command line and a file the command line goes first, whichever says no.
    Path("b.yaml").write_text("datasets: [esc50]\nservers: {tls: false}\n")
    assert yaml.safe_load(printed("-f", "b.yaml", certificate, "x.pem"))["servers"] == {certificate[2:]: "x.pem"}
    Path("c.yaml").write_text(f"datasets: [esc50]\nservers: {{tls: false, {certificate[2:]}: x.pem}}\n")
    done = RUNNER.invoke(app, ["bench", "-f", "c.yaml"])
    assert isinstance(done.exception, ConfigError)
    assert str(done.exception) == (
        f"c.yaml:2:11: servers.tls: is false beside {certificate[2:]}, which means TLS: leave one of them out"
    )


def test_the_environment_goes_before_the_file_and_is_not_printed(
    file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("arch_bench.commands.bench._following", lambda *_: None)
    assert asked("-f", str(file))["cache"] == file.parent.resolve() / "store"
    monkeypatch.setenv("ARCH_CACHE", "elsewhere")
    assert asked("-f", str(file))["cache"] == tmp_path.resolve() / "elsewhere"
    assert "cache" not in yaml.safe_load(printed("-f", str(file)))
    monkeypatch.setenv("ARCH_DATA", "there")
    ended = RUNNER.invoke(app, ["bench", "--dataset", "esc50"]).exception
    assert isinstance(ended, AskedError)
    recorded = yaml.safe_load(ended.asked["config"])
    assert recorded == {
        "datasets": ["esc50"],
        "data-root": str(tmp_path / "there"),
        "cache": str(tmp_path / "elsewhere"),
    }


def test_load_tests_and_the_gate_are_printed_with_paths_for_the_new_place(file: Path) -> None:
    below = file.parent.name
    merged = yaml.safe_load(printed("-f", str(file)))
    assert merged["loads"] == [{"slo": "p99=1s", "dataset": f"demo={below}/data"}]
    assert merged["gate"] == {"baseline": f"{below}/before", "max-drop": "1pt", "json": f"{below}/g.json"}
    assert merged["datasets"] == ["esc50", {"name": "demo", "path": f"{below}/data"}]


def test_a_command_line_that_no_file_can_have_is_refused() -> None:
    done = RUNNER.invoke(app, ["bench", "--dataset", "esc51", "--print-config"])
    assert isinstance(done.exception, ConfigError)
    assert "datasets[0]: unknown dataset 'esc51'; did you mean esc50?" in str(done.exception)
    assert done.stdout == ""
    done = RUNNER.invoke(app, ["bench", "--print-config", "--dataset", "esc50", "--quiet", "--verbose"])
    assert isinstance(done.exception, UsageError)


def test_a_file_without_datasets_wants_them_on_the_command_line() -> None:
    Path("b.yaml").write_text("probes: {seeds: 1}\n")
    assert asked("-f", "b.yaml", "--dataset", "esc50")["datasets"] == ["esc50"]
    done = RUNNER.invoke(app, ["bench", "-f", "b.yaml"])
    assert (done.exit_code, "--dataset" in done.output) == (2, True)


def test_typer_has_what_this_is_built_on() -> None:
    """An option that is looked at first can give the others their defaults, whichever version of typer it is."""
    whole: Any = typer.main.get_command(app)
    assert next(one for one in whole.commands["bench"].params if "-f" in one.opts).is_eager
