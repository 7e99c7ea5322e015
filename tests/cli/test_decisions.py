"""`arch compare` and `arch gate` as their users run them."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import arch_bench
import numpy as np
import pytest
from support.commands import arch, one_line
from support.decisions import right, write_folder
from support.runs import HOSTILE

pytestmark = pytest.mark.slow


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    write_folder(folder, {("hubert", data): right(2000, 0.9) for data in ("esc50", "gtzan")})
    return folder


@pytest.fixture
def worse(tmp_path: Path) -> Path:
    """40 clips of the first dataset are labelled wrongly, everything is 10 % slower, and two files are broken."""
    folder = tmp_path / "worse"
    values = right(2000, 0.9)
    fallen = values.copy()
    fallen[np.flatnonzero(values == 1)[:40]] = 0
    pairs = {("hubert", "esc50"): fallen, ("hubert", "gtzan"): values}
    write_folder(folder, pairs, (90, 91, 89), failed={"gtzan": ["a.wav", "b.wav"]})
    return folder


def test_compare_shows_what_is_real_in_80_columns(base: Path, worse: Path) -> None:
    done = arch("compare", str(base), str(worse / "results.json"))
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    assert max(map(len, lines)) <= 80
    assert [" ".join(line.split()) for line in lines if line.startswith("  hubert")] == [
        "hubert 88.0 -2.0 (-2.9 to -1.2) real × 0.90 real × 1.00 noise",
        "hubert 90.0 +0.0 (+0.0 to +0.0) noise × 0.90 real × 1.00 noise",
    ]
    assert "1 of 2 scores really differs: hubert on esc50 -2.0 points." in lines
    assert any(
        "results[].failed is 2, and 0 in the baseline" in " ".join(lines[place : place + 2]) for place in range(9)
    )


def test_compare_writes_every_format(base: Path, worse: Path, tmp_path: Path) -> None:
    files = {name: tmp_path / f"compared.{name}" for name in ("markdown", "html", "json")}
    options = [word for name, path in files.items() for word in (f"--{name}", str(path))]
    done = arch("compare", str(base), str(worse), str(base), "--verbose", *options)
    assert done.returncode == 0, done.stderr
    assert "p99 equal rate, ms" in done.stdout
    first, second = json.loads(files["json"].read_text())
    assert (first["run"], first["baseline"], second["run"]) == (str(worse), str(base), str(base))
    score = first["pairs"][0]["scores"][0]
    assert score["difference"] == pytest.approx(-0.02)
    assert score["verdict"] == "real"
    assert second["pairs"][0]["scores"][0]["difference"] == 0
    markdown = files["markdown"].read_text()
    assert "| esc50 | hubert | -2.0 | -2.9 to -1.2 | real | 88.0 | 90.0 | 2,000 | accuracy | linear |" in markdown
    html = files["html"].read_text()
    assert '<td class="short real">real</td>' in html
    assert "<script" not in html
    assert html.count("<h1>") == 2


def test_gate_fails_with_3_on_what_is_real(base: Path, worse: Path, tmp_path: Path) -> None:
    junit, markdown, found = tmp_path / "gate.xml", tmp_path / "gate.md", tmp_path / "gate.json"
    rules = ["--max-drop", "1pt", "--min-speed", "0.95", "--max-failed", "1%", "--max-p99", "200ms@5/s"]
    files = ["--junit", str(junit), "--markdown", str(markdown), "--json", str(found)]
    done = arch("gate", str(worse), "--baseline", str(base), *rules, *files)
    assert done.returncode == 3
    assert one_line(done) == "arch: gate failed: 3 FAIL, 5 PASS"
    assert "FAIL    max-drop 1pt  hubert on esc50: 88.0 % against 90.0 %: -2.0 points" in done.stdout
    assert "PASS    max-failed 1%  gtzan: 2 of 2,000 files failed (0.1 %): a.wav, b.wav" in done.stdout.splitlines()
    lines = [line.split()[0] for line in done.stdout.splitlines()]
    assert lines == ["warning:", "FAIL", "PASS", "FAIL", "FAIL", "PASS", "PASS", "PASS", "PASS", "Gate"]
    assert ElementTree.parse(junit).getroot().get("failures") == "3"  # noqa: S314 - our own
    assert "| FAIL | max-drop 1pt | hubert on esc50 |" in markdown.read_text()
    document = json.loads(found.read_text())
    assert (document["passed"], sum(check["failed"] for check in document["checks"])) == (False, 3)


def test_gate_passes_where_nothing_has_changed(base: Path, tmp_path: Path) -> None:
    file = tmp_path / "gate.yaml"
    file.write_text("max-drop: 1pt\nmin-speed: 0.95\nmax-failed: 1%\n")
    done = arch("gate", str(base), "--baseline", str(base), "--thresholds", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "Gate passed: 6 PASS"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["gate", "{base}", "--baseline", "{base}"], 2, "no threshold is given: use one or more of --max-drop,"),
        (["gate", "{base}", "--baseline", "{base}", "--max-drop", "1"], 2, "--max-drop cannot be '1': wants"),
        (["gate", "{base}", "--baseline", "{base}/no", "--max-drop", "1pt"], 2, "{base}/no holds no results.json"),
        (["gate", "{base}", "--baseline", "{base}", "--max-p99", "9ms@16/s"], 1, "gate could not be made whole: 2"),
        (["gate", "{base}", "--baseline", "{base}", "--max-p99", "9ms@16/s", "--strict"], 3, "gate failed: 2 MISSING"),
        (["gate", "{base}", "--baseline", "{base}", "--max-drop", "1pt", "--pair", "x"], 2, "--pair 'x' cannot be"),
        (["compare", "{base}"], 2, "name two runs or more: the first is the baseline"),
        (["compare", "{base}", "{base}/no"], 2, "{base}/no holds no results.json"),
        (["compare", "{base}", "{base}", "--json", "{base}/no/x.json"], 1, "cannot write {base}/no/x.json: "),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(base: Path, arguments: list[str], code: int, message: str) -> None:
    done = arch(*(argument.format(base=base) for argument in arguments))
    assert done.returncode == code, done.stderr
    assert one_line(done).startswith("arch: " + message.format(base=base))


def test_compare_of_other_data_says_so_and_fails(base: Path, tmp_path: Path) -> None:
    document = json.loads((base / "results.json").read_text())
    for one in document["datasets"]:
        one["listing"] = "1" * 64
    other = tmp_path / "other"
    other.mkdir()
    (other / "results.json").write_text(json.dumps(document))
    done = arch("compare", str(base), str(other))
    assert done.returncode == 1
    assert "datasets[].listing (clips, labels and folds) is 111111111111" in " ".join(done.stdout.split())
    assert one_line(done).startswith("arch: not everything that the runs have in common could be compared")


def test_names_are_shown_as_they_are_and_break_no_format(tmp_path: Path) -> None:
    """Of models, datasets and files: they come from outside."""
    name = HOSTILE.replace("/", "")  # a model's name is a file's
    write_folder(tmp_path / "one", {(name, f"d{name}"): right(300, 0.8)}, failed={f"d{name}": ["\x1b[31mred\x00.wav"]})
    run = arch_bench.compare(tmp_path / "one", tmp_path / "one")
    run.write(html=tmp_path / "a.html", markdown=tmp_path / "a.md", json=tmp_path / "a.json")
    html = (tmp_path / "a.html").read_text()
    assert "<b>" not in html
    assert "&lt;b&gt;" in html
    assert "<b>" not in (tmp_path / "a.md").read_text()
    gate = arch_bench.gate(tmp_path / "one", tmp_path / "one", max_failed="0", max_drop="1pt")
    gate.write(junit=tmp_path / "g.xml", markdown=tmp_path / "g.md")
    cases = [case.get("name") for case in ElementTree.parse(tmp_path / "g.xml").iter("testcase")]  # noqa: S314
    assert cases == [f"{name} on d{name}", f"d{name}"]
    done = arch("gate", str(tmp_path / "one"), "--baseline", str(tmp_path / "one"), "--max-failed", "0")
    assert done.returncode == 3
    assert "\x1b[31m" not in done.stdout
    assert f"FAIL    max-failed 0%  d{name}: 1 of 300 files failed" in done.stdout


def test_the_same_from_python(base: Path, worse: Path) -> None:
    ours, theirs = arch_bench.load(worse), arch_bench.load(base)
    by_method = ours.compare(theirs)
    (by_function,) = arch_bench.compare(theirs, worse)
    assert by_method == by_function
    assert [one.scores[0].more_than_noise for one in by_method.pairs] == [True, False]
    gate = arch_bench.gate(ours, base, max_drop="1pt")
    assert not gate.passed
    with pytest.raises(arch_bench.GateError, match="gate failed: 1 FAIL, 1 PASS") as raised:
        gate.enforce()
    assert raised.value.exit_code == 3
