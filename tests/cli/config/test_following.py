"""Load tests and a gate after a run: what is looked at before it, and a whole run by a file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from arch_bench.commands.bench import bench
from arch_bench.commands.gate import gate
from arch_bench.commands.load import load
from arch_bench.config.following import Following
from arch_bench.config.model import config_model
from arch_bench.config.reading import parse_config
from arch_common.errors import ConfigError, UsageError
from arch_harness.results.run import write_run
from support.commands import arch
from support.runs import run_of

MODEL = config_model(bench, load, gate)


def following(text: str, folder: Path, **changed: Any) -> Following:
    config = parse_config(text, "bench.yaml", folder, MODEL)
    given: dict[str, Any] = {
        "data_root": folder,
        "output": folder / "out",
        "cache": None,
        "servers": [],
        "ray_address": None,
        "strict": False,
        "own": True,
    }
    return Following(config, config.options.get("dataset", []), config.options.get("model", []), **(given | changed))


def test_what_cannot_be_is_told_before_anything_starts(tmp_path: Path, demo_dataset: Path) -> None:
    write_run(run_of(("a", "b"), ("esc50",)), tmp_path / "results.json")
    text = f"""\
datasets:
  - demo={demo_dataset}
  - esc50
models: [tiny]
loads:
  - {{slo: p99=1s}}
  - {{scenario: offline, rate: 5}}
  - {{slo: p99=1s, dataset: esc50}}
gate:
  baseline: .
  models: [tiny, b, c]
  datasets: [demo, esc50, us8k]
  pairs: [tiny=a, tiny2=d]
  junit: nowhere/gate.xml
  json: out/gate.json
"""
    with pytest.raises(ConfigError) as caught:
        following(text, tmp_path)
    lines = [line.replace(str(tmp_path), "TMP") for line in str(caught.value).split("\n")]
    assert lines[0].startswith("bench.yaml:3:5: datasets[1]: esc50: there is no folder TMP/esc50")
    assert lines[2].startswith("bench.yaml:8:19: loads[2].dataset: esc50: there is no folder TMP/esc50")
    assert [lines[1], *lines[3:]] == [
        "bench.yaml:7:5: loads[1]: --rate is of the scenario server: LoadGen sends offline as fast as answers come",
        "bench.yaml:9:1: gate: no threshold is given: use one or more of max-drop, min-speed, max-p99, max-failed, "
        "min-cosine",
        "bench.yaml:11:21: gate.models[2]: neither this run nor the baseline has 'c'; they have a, b, tiny",
        "bench.yaml:12:27: gate.datasets[2]: neither this run nor the baseline has 'us8k'; they have demo, esc50",
        "bench.yaml:13:19: gate.pairs[1]: the baseline has no model 'd'; it has a, b",
        "bench.yaml:14:3: gate.junit: there is no folder TMP/nowhere that can be written",
    ]


def test_load_tests_that_cannot_be_are_told_by_their_lines(tmp_path: Path, demo_dataset: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "load-2").write_text("no folder")
    text = f"""\
datasets: [demo={demo_dataset}]
loads:
  - {{slo: p99=1s, full: true, min-duration: 10}}
  - {{slo: p99=1s}}
  - {{slo: p99=1s, samples-per-query: 8}}
  - {{slo: p99=1s, rate: 5, repeats: 3}}
  - {{scenario: single-stream, hop: 1}}
  - {{scenario: offline, slo: p99=1s}}
  - {{scenario: multi-stream, slo: p99=1s, samples-per-query: 8}}
"""
    with pytest.raises(ConfigError) as caught:
        following(text, tmp_path)
    assert [line.replace(str(tmp_path), "TMP") for line in str(caught.value).split("\n")] == [
        "bench.yaml:3:5: loads[0]: --full and --min-duration: choose one",
        "bench.yaml:4:5: loads[1]: its folder TMP/out/load-2 is a file, and must be a folder",
        "bench.yaml:5:5: loads[2]: --samples-per-query is of the scenario multi-stream: in server it has no use",
        "bench.yaml:6:5: loads[3]: --repeats is of the search for the highest rate: with --rate there is none",
        "bench.yaml:7:5: loads[4]: --hop is of the scenario server: in single-stream no streams are counted",
        "bench.yaml:8:5: loads[5]: --slo is of the other scenarios: offline sends all clips at once and judges no "
        "latency",
    ]


@pytest.mark.parametrize("named", ["./out/", "out/results.json", "now", "now/results.json"])
def test_a_baseline_that_the_run_itself_writes(named: str, tmp_path: Path, demo_dataset: Path) -> None:
    (tmp_path / "out").mkdir()
    write_run(run_of(("a", "b"), ("demo",)), tmp_path / "out" / "results.json")  # of an earlier run into the folder
    (tmp_path / "now").symlink_to("out")
    text = f"datasets: [demo={demo_dataset}]\ngate:\n  max-drop: 1pt\n  baseline: {named}\n"
    with pytest.raises(ConfigError, match=r"^bench\.yaml:4:3: gate\.baseline: is the output, which this run writes"):
        following(text, tmp_path)


def test_a_baseline_that_is_none(tmp_path: Path, demo_dataset: Path) -> None:
    text = f"datasets: [demo={demo_dataset}]\ngate:\n  max-drop: 1pt\n  baseline: before\n"
    with pytest.raises(ConfigError, match=r"^bench\.yaml:4:3: gate\.baseline: .*before"):
        following(text, tmp_path)


def test_data_that_the_command_line_names_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^esc50: there is no folder"):
        following("datasets: [esc50]", tmp_path, own=False)


def test_a_file_is_refused_by_lines_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "bench.yaml").write_text("datasets: [esc51]\nprobes: {seed: on}\n")
    done = arch("bench", "-f", str(tmp_path / "bench.yaml"), "--output", str(tmp_path / "out"))
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"arch: {tmp_path}/bench.yaml:1:12: datasets[0]: unknown dataset 'esc51'; did you mean esc50?",
        f"arch: {tmp_path}/bench.yaml:2:10: probes.seed: must be a whole number such as 3, not 'on'",
    ]
    assert not (tmp_path / "out").exists()


@pytest.mark.triton
@pytest.mark.ray
@pytest.mark.torch
@pytest.mark.slow
def test_a_run_by_a_file_with_a_load_test_and_a_gate(
    repository: Path, demo_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the first keeps of its settings is the second's file, whose gate fails: a clip of its data is broken."""
    from arch_bench import read_load_test
    from arch_harness.results.run import read_run

    monkeypatch.delenv("ARCH_CACHE")  # it would go before the file's
    (tmp_path / "first.yaml").write_text(
        f"datasets: [demo={demo_dataset}]\nmodels: [logmel]\nservers: {{repository: {repository}}}\n"
        "probes: {seeds: 1}\noutput: out\ncache: store\n"
    )
    done = arch("bench", "-f", str(tmp_path / "first.yaml"))
    assert done.returncode == 0, done.stderr
    first = read_run(tmp_path / "out" / "results.json")
    assert yaml.safe_load(first.config) == {
        "datasets": [{"name": "demo", "path": str(demo_dataset)}],
        "models": ["logmel"],
        "servers": {"repository": str(repository)},
        "probes": {"seeds": 1},
        "output": str(tmp_path / "out"),
        "cache": str(tmp_path / "store"),
    }
    assert first.command == f"arch bench -f {tmp_path}/first.yaml"
    assert (tmp_path / "store").is_dir()
    shutil.copytree(demo_dataset, tmp_path / "broken")
    min((tmp_path / "broken" / "audio").iterdir()).write_bytes(b"no audio")
    (tmp_path / "second.yaml").write_text(
        first.config.replace(f"{tmp_path}/out", f"{tmp_path}/now").replace(str(demo_dataset), f"{tmp_path}/broken")
        + "loads:\n  - {scenario: single-stream, min-duration: 1, clips: 8}\n"
        + "gate: {baseline: out, max-failed: 0%, json: now/gate.json}\n"
    )
    done = arch("bench", "-f", str(tmp_path / "second.yaml"))
    assert done.returncode == 3, done.stderr
    assert "arch: 1 clips failed" in done.stderr  # which alone is exit code 1
    assert f"report: {tmp_path}/now/report.html" in done.stdout
    assert f"report: {tmp_path}/now/load.html" in done.stdout
    judged = json.loads((tmp_path / "now" / "gate.json").read_text())
    assert judged["passed"] is False
    assert [line for line in done.stdout.splitlines() if line.startswith("FAIL    max-failed 0%")]
    (one,) = read_load_test(tmp_path / "now").report.models
    assert one.model.name == "logmel"
    assert one.runs[0].clips_per_s > 0
