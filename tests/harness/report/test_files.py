"""Report files: self-contained, safe against hostile names, linked, written whole or not at all."""

from __future__ import annotations

import json
import os
import re
import stat
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest
from arch_common.errors import ArchError
from arch_harness.report import write_report
from arch_harness.report.choice.choose import choose
from arch_harness.report.plots.pareto import draw_fronts
from arch_harness.report.plots.style import colour_and_marker
from arch_harness.results.measurement import Measurement
from arch_harness.results.run import Run, read_run, write_run
from pydantic import ValidationError
from support.measurements import measurement
from support.pages import Page, terminal
from support.runs import HOSTILE, RUNS, hostile, run_of, small, usual

if TYPE_CHECKING:
    from pathlib import Path

REQUESTING = {"script", "link", "img", "iframe", "object", "embed", "image", "video", "audio", "form", "base"}


@pytest.mark.parametrize("name", ["usual", "hostile"])
def test_the_page_is_one_file_without_script_or_request(name: str, tmp_path: Path) -> None:
    run = RUNS[name]()
    write_report(run, tmp_path)
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert page.problems == []
    assert not page.tags & REQUESTING
    for attribute, value in page.attributes:
        assert attribute not in {"src", "srcset", "action", "data"}
        assert not attribute.startswith("on")
        if attribute.endswith("href"):
            assert value.startswith("#") or (tmp_path / value).is_file()
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text
    ids = [value for attribute, value in page.attributes if attribute == "id"]
    assert len(ids) == len(set(ids))
    used = {value[1:] for name, value in page.attributes if name.endswith("href") and value[0] == "#"}
    assert used | set(re.findall(r"url\(#([^)]+)\)", text)) <= set(ids)
    assert len(re.findall("<svg", text)) == 6 * len(run.datasets) + 1


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    run = hostile()
    write_report(run, tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert "<b>" not in text
    page = Page(text)
    for prefix in "dmnr":
        assert prefix + HOSTILE in page.text
    assert f"c{HOSTILE} \N{REPLACEMENT CHARACTER}[31m.wav" in page.text
    # The command stands in a code block, where nothing is markup.
    assert "<b>" not in re.sub("(?s)```console.*?```", "", (tmp_path / "report.md").read_text().replace("'|`", ""))
    assert "\x1b" not in (tmp_path / "report.md").read_text() + terminal(run, 80)
    assert f"m{HOSTILE}" in terminal(run, 250)
    for path in (tmp_path / "plots").iterdir():
        drawing = ElementTree.fromstring(path.read_text())  # noqa: S314  # written by the test
        words = "".join(drawing.itertext())
        # The confusion is the best model's alone.
        assert ("_leading" in words) == (not path.name.startswith("confusion"))
        assert "m<b>" in words


def test_plots_are_linked_drawn_and_the_same_each_time(tmp_path: Path) -> None:
    write_report(usual(), tmp_path)
    links = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (tmp_path / "report.md").read_text())
    assert sorted(links) == sorted(f"plots/{path.name}" for path in (tmp_path / "plots").iterdir())
    assert links[:2] == ["plots/front-over-all.svg", "plots/score-esc50.svg"]
    assert "42.5 ms alone" in (tmp_path / "plots/latency-esc50.svg").read_text()
    first = (tmp_path / "plots/score-esc50.svg").read_bytes()
    write_report(usual(), tmp_path)
    assert (tmp_path / "plots/score-esc50.svg").read_bytes() == first


def test_a_model_has_one_look_in_every_plot() -> None:
    looks = {colour_and_marker(index) for index in range(56)}
    assert len(looks) == 56


def test_file_names_of_like_named_datasets_differ() -> None:
    run = run_of(("m",), ("a/b", "a b", "../../etc"))
    files = [plot.file for plot in draw_fronts(choose(run))[0].plots]
    assert files == ["front-over-all.svg", "score-a-b-1.svg", "score-a-b-2.svg", "score-etc.svg"]


def test_plots_of_an_earlier_report_are_removed_and_other_files_kept(tmp_path: Path) -> None:
    write_report(usual(), tmp_path)
    (tmp_path / "plots/mine.svg").write_text("mine")
    write_report(small(), tmp_path)
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == [
        "batch-sizes-esc50.svg",
        "confusion-esc50.svg",
        "latency-esc50.svg",
        "mine.svg",
        "score-esc50.svg",
        "stages-esc50.svg",
        "timeline-esc50.svg",
    ]


def nothing_measured() -> dict[str, Any]:
    """A pass that took no time: figures of 0 everywhere, and no samples."""
    found = measurement(1.0, 0.0, 0) | {"phases": [], "loads": [], "clips_per_s": 0, "measured_clips": 0}
    empty: dict[str, Any] = {"seconds": [], "client_cores": [], "machine_cores": [], "gpu": None, "clips_per_s": []}
    found["server"] |= {"batch_sizes": {}, "mean_batch_size": 0}
    found["stages"] |= {"decode_ms": 0, "resample_ms": 0}
    return found | {"utilisation": empty}


def test_odd_runs_are_reported(tmp_path: Path) -> None:
    nothing = run_of(("m",), ("d",), results=[])
    write_report(nothing, tmp_path / "nothing")
    assert "The run has no results." in (tmp_path / "nothing/report.md").read_text()
    assert "The run has no results." in (tmp_path / "nothing/report.html").read_text()
    assert terminal(nothing, 80)

    zero = run_of(("m", "n"), ("d",))
    for found in zero.results:
        found.score = found.chance = 0
        found.interval, found.probes, found.folds = None, [], []
        found.measurement = Measurement.model_validate(nothing_measured())
    write_report(zero, tmp_path / "zero")
    assert "no executions recorded" in (tmp_path / "zero/report.html").read_text()

    perfect = run_of(("m",), ("d",))
    perfect.results[0].score = perfect.results[0].chance = 1
    perfect.results[0].interval, perfect.results[0].probes = None, []
    perfect.results[0].folds = []
    write_report(perfect, tmp_path / "perfect")


def test_results_round_trip(tmp_path: Path) -> None:
    run = hostile()
    path = write_report(run, tmp_path)[0]
    assert path == tmp_path / "results.json"
    assert read_run(path) == run


def changed(path: Path, **changes: Any) -> Path:
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | changes))
    return path


def test_a_wrong_results_file_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    for changes, expected in (
        ({"surprise": 1}, "surprise: Extra inputs"),
        ({"schema_version": 2}, "follows version 2 of the schema, and this arch reads version 5"),
        ({"settings": {"seed": 1, "epochs": float("nan"), "concurrency": 1, "workers": 1}}, "settings.epochs"),
        ({"models": []}, "which is not described"),
    ):
        write_run(small(), path)
        with pytest.raises(ArchError, match=re.escape(expected)) as caught:
            read_run(changed(path, **changes))
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)
    document = json.loads(small().model_dump_json())
    document["results"][0]["measurement"]["seconds"] = float("nan")
    path.write_text(json.dumps(document))
    with pytest.raises(ArchError, match=r"measurement\.seconds"):
        read_run(path)
    with pytest.raises(ArchError, match="cannot read"):
        read_run(tmp_path / "missing.json")


def test_a_run_made_invalid_leaves_the_earlier_report_as_it_was(tmp_path: Path) -> None:
    write_report(small(), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    run = usual()
    run.results[0].probe_seconds = float("nan")
    with pytest.raises(ValidationError):
        write_report(run, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_failing_write_leaves_the_old_file_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_report(small(), tmp_path)
    before = (tmp_path / "report.html").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArchError, match=r"cannot write .*: No space left on device"):
        write_report(usual(), tmp_path)
    assert (tmp_path / "report.html").read_bytes() == before
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]


def test_a_fault_in_a_plot_does_not_lose_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(run: Run, kinds: object) -> None:
        raise RuntimeError("fault")

    monkeypatch.setattr("arch_harness.report.draw_plots", fail)
    with pytest.raises(RuntimeError):
        write_report(small(), tmp_path)
    assert read_run(tmp_path / "results.json") == small()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArchError, match="cannot write"):
        write_report(small(), tmp_path / "file" / "out")


def test_the_written_files_follow_the_umask(tmp_path: Path) -> None:
    write_report(small(), tmp_path)
    (tmp_path / "plain").write_text("")
    assert stat.S_IMODE((tmp_path / "report.html").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
