"""`arch reproduce`: what is asked for, what is listed before it starts, and a run of it to the end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import arch_bench
import pytest
from arch_bench.reproduction.estimate import estimate
from arch_bench.reproduction.experiments import EXPERIMENTS, settle
from arch_bench.reproduction.plan import disks, survey
from arch_common.errors import ArchError, UsageError
from arch_export.checkpoint.aliases import ALIASES
from arch_harness.datasets.catalog import ARCH
from arch_harness.published.table import published_models
from arch_harness.results.run import write_run
from support.commands import arch
from support.runs import run_of

if TYPE_CHECKING:
    from support.http_site import Site

HUBERT = "ALM/hubert-base-audioset"
NOBODY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was downloaded before, and nothing answers."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", NOBODY)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_ENDPOINT", NOBODY)


def test_the_three_experiments() -> None:
    assert list(EXPERIMENTS) == ["hubert-as-base", "discrete-vs-continuous", "base-vs-large"]
    one = settle("hubert-as-base", [], [])
    assert [subject.checkpoint for subject in one.subjects] == [HUBERT]
    assert one.datasets == tuple(dataset.id for dataset in ARCH)
    two = settle("discrete-vs-continuous", [], [])
    assert two.pairs == ((HUBERT, "ALM/wav2vec2-base-audioset"),)
    assert {subject.checkpoint for subject in two.subjects} == set(two.pairs[0])
    sizes = {checkpoint: found.size for checkpoint, found in published_models().items()}
    for large, base in settle("base-vs-large", [], []).pairs:
        assert (sizes[large], sizes[base]) == ("L", "B")


def test_every_alias_was_published_and_every_published_checkpoint_has_an_alias() -> None:
    assert {one.checkpoint: one.parameters_m for one in ALIASES.values()} == {
        name: one.parameters_m for name, one in published_models().items()
    }


def test_a_hub_id_is_the_alias_of_the_same_checkpoint() -> None:
    asked = settle(None, [HUBERT, "hubert-base-as"], ["esc50"])
    assert [(one.reference, one.name) for one in asked.subjects] == [("hubert-base-as", "hubert-base-as")]
    assert asked.slug == "hubert-base-as"


@pytest.mark.parametrize(
    ("experiment", "models", "datasets", "told"),
    [
        ("hubert", [], [], "there is no experiment 'hubert'; there are: hubert-as-base, "),
        (None, [], [], "what is to be reproduced\\? Name an experiment"),
        (None, ["logmel"], [], "no score of 'logmel' was published; there are scores of wav2vec2-base, "),
        (None, ["{tmp}"], [], "a folder stands for one of them as ALIAS={tmp}"),
        (None, ["hubert-base-as={tmp}/none"], [], "there is no folder {tmp}/none"),
        (None, ["hubert-base-as={tmp}/a/x", "hubert-base={tmp}/b/x"], [], "would both be the model 'x'"),
        ("hubert-as-base", [], ["demo"], "no scores on 'demo' were published; there are scores on esc50, "),
        ("hubert-as-base", [], ["esc5"], "unknown dataset 'esc5'; did you mean esc50"),
    ],
)
def test_what_cannot_be_right_is_said_at_once(
    tmp_path: Path, experiment: str | None, models: list[str], datasets: list[str], told: str
) -> None:
    for folder in ("a/x", "b/x"):
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(UsageError, match=told.format(tmp=tmp_path)) as caught:
        settle(experiment, [one.format(tmp=tmp_path) for one in models], datasets)
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_listed(tmp_path: Path) -> None:
    arch_bench.data.imitate("ravdess", tmp_path / "data" / "ravdess", quirks=False)
    (tmp_path / "data" / "us8k").mkdir()
    datasets = ["ravdess", "esc50", "vivae", "emovo", "us8k"]
    plan = arch_bench.plan_reproduction(
        "hubert-as-base", datasets=datasets, repository=tmp_path / "models", data_root=tmp_path / "data"
    )
    lines = plan.lines()
    assert lines[1:3] == [
        "checkpoints:",
        f"  hubert-base-as: to download from the hub ({HUBERT}, about 0.4 GB) and to be exported",
    ]
    assert lines[4:7] == [
        "  ravdess: 40 clips; an imitation, of which nothing is reproduced",
        "  esc50: not here: arch data fetch esc50 (0.6 GB)",
        "  vivae: not here: arch data fetch vivae",
    ]
    assert lines[7].startswith("  emovo: not here, and to be placed by hand: EMOVO is given by its authors only.")
    assert lines[7].endswith(f"Its place is {tmp_path / 'data' / 'emovo'}")
    assert lines[8].startswith(f"  us8k: {tmp_path / 'data' / 'us8k'} does not hold ")
    # Twice 380 MB of weights, and 0.6 GB twice, as archive and unpacked; embeddings of 12,000 clips are 62 MB.
    assert lines[9].startswith("disk: about 2.0 GB needed for all of it, ")
    assert lines[10] == "  and what vivae need, whose size is not known"
    assert lines[11] == "time: cannot be estimated yet: no model is exported"
    assert [line.partition(":")[0] for line in plan.left_out] == ["esc50", "vivae", "emovo", "us8k"]
    assert not (tmp_path / "models").exists()


def test_no_dataset_no_estimate(tmp_path: Path) -> None:
    plan = arch_bench.plan_reproduction("base-vs-large", data_root=tmp_path, repository=tmp_path / "models")
    assert plan.hours is None
    assert plan.lines()[-1] == "time: cannot be estimated yet: no dataset is here"
    assert "  hubert-large-as: " in plan.lines()[3]
    assert plan.lines()[3].endswith("; no published score of it is on file")


CONFIG = 'parameters {{ key: "{}" value {{ string_value: "{}" }} }}\n'


def install(repository: Path, name: str, **facts: str) -> None:
    (repository / name).mkdir(parents=True)
    text = "".join(CONFIG.format(key, value) for key, value in facts.items())
    (repository / name / "config.pbtxt").write_text(text)


def test_an_export_that_is_there_is_kept_and_another_model_of_the_name_is_not_touched(tmp_path: Path) -> None:
    good = {"source": HUBERT, "precision": "fp32", "lengths": "padded", "parameter_count": "94371712"}
    asked = settle("hubert-as-base", [], ["esc50"])
    install(tmp_path / "good", "hubert-base-as", **good)
    ((model,), _) = survey(asked, tmp_path / "good", tmp_path)
    assert (model.state, model.parameters, model.export_bytes, model.problem) == ("exported", 94371712, 0, "")
    for place, (key, value, was) in enumerate(
        (
            ("lengths", "exact", "padded"),
            ("precision", "int8", "fp32"),
            ("source", "local:x", HUBERT),
            ("cut_after_layer", "6", ""),
        )
    ):
        repository = tmp_path / str(place)
        install(repository, "hubert-base-as", **good | {key: value})
        ((model,), _) = survey(asked, repository, tmp_path)
        assert model.problem == (
            f"{repository}/hubert-base-as is another model ({key} {value!r} and not {was!r}); move it away, or name "
            "another --repository"
        )


def test_the_hours_follow_from_what_was_measured(tmp_path: Path) -> None:
    arch_bench.data.imitate("ravdess", tmp_path / "ravdess", quirks=False)
    arch_bench.data.imitate("emovo", tmp_path / "emovo", quirks=False)
    asked = settle(None, ["hubert-base-as", "hubert-large-as"], ["ravdess", "emovo"])
    models, datasets = survey(asked, tmp_path / "models", tmp_path)
    run = run_of(("hubert-base-as",), ("ravdess",))
    write_run(run, tmp_path / "results.json")
    measured = run.results[0].measurement
    assert measured is not None
    hours, words = estimate(models, datasets, tmp_path / "models", tmp_path)
    # Base on EMOVO, large on both, 40 clips of 5 s each; base on RAVDESS is done.
    clips = 40 + 2 * 40 * 317 / 95
    assert hours == pytest.approx(clips / measured.clips_per_s / 3600)
    assert f"by the speed of hubert-base-as in {tmp_path}" in words
    write_run(run_of(("hubert-base-as", "hubert-large-as"), ("ravdess", "emovo")), tmp_path / "results.json")
    assert estimate(models, datasets, tmp_path / "models", tmp_path) == (0.0, "all that is here is done already")


def test_the_disk_is_that_which_is_written_to(tmp_path: Path) -> None:
    models, datasets = survey(settle("hubert-as-base", [], ["esc50"]), tmp_path / "m", tmp_path)
    (need,) = disks(models, datasets, tmp_path / "m", tmp_path / "d", tmp_path / "c")
    assert need.folders == (tmp_path / "hf" / "hub", tmp_path / "m", tmp_path / "d", tmp_path / "c")
    assert need.free == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `reproduce` is given: two models that are exported, one dataset, and the speed of an earlier run."""
    arch_bench.data.imitate("ravdess", tmp_path / "data" / "ravdess", quirks=False)
    models = {name: ALIASES[name].checkpoint for name in ("hubert-base-as", "wav2vec2-base-as")}
    for name, source in models.items():
        install(tmp_path / "models", name, source=source, precision="fp32", lengths="padded")
    (tmp_path / "out").mkdir()
    write_run(run_of(("wav2vec2-base-as",), ("emovo",)), tmp_path / "out" / "results.json")
    where = {"repository": tmp_path / "models", "output": tmp_path / "out", "data_root": tmp_path / "data"}
    return {"models": list(models), "datasets": ["ravdess"], "cache": tmp_path / "cache", **where}


def test_a_model_that_fails_does_not_keep_others_from_being_run(
    two: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def bench(datasets: list[str], *, models: list[str], output: Path, **_: Any) -> arch_bench.LoadedRun:
        asked.append((datasets, models))
        if models == ["hubert-base-as"]:
            raise UsageError("the model 'hubert-base-as' is on the server but not ready: x")
        return arch_bench.LoadedRun(output, run_of(("wav2vec2-base-as",), ("ravdess",)), output)

    monkeypatch.setattr("arch_bench.api.bench", bench)
    done = arch_bench.reproduce("discrete-vs-continuous", **two)
    assert asked == [(["ravdess"], ["hubert-base-as"]), (["ravdess"], ["wav2vec2-base-as"])]
    told = "hubert-base-as is not benched to its end: the model 'hubert-base-as' is on the server but not ready: x"
    assert done.problems == (told,)
    assert done.found.left_out == [told]
    (one,) = done.found.results
    assert (one.model, one.dataset) == ("wav2vec2-base-as", "ravdess")
    assert one.published == pytest.approx(0.4594)
    assert done.found.pairs == []
    assert done.page.is_file()


def publish_esc50(site: Site, folder: Path) -> None:
    """An imitation of ESC-50 as its publisher packs it."""
    arch_bench.data.imitate("esc50", folder / "source", quirks=False)
    with zipfile.ZipFile(folder / "esc50.zip", "w") as packed:
        for path in sorted((folder / "source").rglob("*")):
            packed.write(path, Path("ESC-50-master") / path.relative_to(folder / "source"))
    site.files["ESC-50-master.zip"] = (folder / "esc50.zip").read_bytes()


def test_what_can_be_fetched_is_and_what_cannot_is_told(
    two: dict[str, Any], tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bench(datasets: list[str], *, output: Path, **_: Any) -> arch_bench.LoadedRun:
        assert datasets == ["ravdess", "esc50"]
        return arch_bench.LoadedRun(output, run_of(("hubert-base-as",), ("esc50",)), output)

    monkeypatch.setattr("arch_bench.api.bench", bench)
    publish_esc50(site, tmp_path)
    two["datasets"] = ["ravdess", "esc50", "vivae", "emovo"]
    done = arch_bench.reproduce("discrete-vs-continuous", **two, fetch=True, mirror=site.url)
    assert arch_bench.data.open_dataset("esc50", two["data_root"]).counts.clips == 40
    assert [line.partition(":")[0] for line in done.found.left_out[:2]] == ["vivae", "emovo"]
    (problem,) = done.problems
    assert problem.startswith(f"{site.url}/vivae/")
    assert "the server answers 404" in problem


def test_where_every_model_fails_the_error_is_that_of_the_last(
    two: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def bench(*_: Any, **__: Any) -> None:
        raise UsageError("out holds results of another machine or package versions; choose another --output")

    monkeypatch.setattr("arch_bench.api.bench", bench)
    with pytest.raises(UsageError, match="choose another --output"):
        arch_bench.reproduce("discrete-vs-continuous", **two)
    assert not (two["output"] / "reproduction.json").exists()


def test_what_a_model_finished_before_it_failed_is_set_beside_the_published(
    two: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def bench(*_: Any, models: list[str], output: Path, **__: Any) -> None:
        if models == ["hubert-base-as"]:
            write_run(run_of(("hubert-base-as",), ("ravdess",)), output / "results.json")
        raise ArchError("the server is gone")

    monkeypatch.setattr("arch_bench.api.bench", bench)
    done = arch_bench.reproduce("discrete-vs-continuous", **two)
    assert [(one.model, one.dataset) for one in done.found.results] == [("hubert-base-as", "ravdess")]
    names = ("hubert-base-as", "wav2vec2-base-as")
    assert done.problems == tuple(f"{name} is not benched to its end: the server is gone" for name in names)
    assert done.found.left_out == list(done.problems)
    assert done.page.is_file()


def test_nothing_there_is_one_line(tmp_path: Path) -> None:
    done = arch("reproduce", "hubert-as-base", "--dataset", "esc50", "--data-root", str(tmp_path))
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert "  esc50: not here: arch data fetch esc50 (0.6 GB)" in lines
    assert lines[-1] == "arch: nothing can be run: none of the datasets is there"


@pytest.mark.torch
@pytest.mark.triton
@pytest.mark.ray
@pytest.mark.slow
def test_from_the_hub_and_the_publishers_to_the_table_and_once_more(
    tmp_path: Path, checkpoint: Path, site: Site
) -> None:
    """A tiny checkpoint under the published one's name, and an imitation of ESC-50: nothing of it is a reproduction."""
    from support.hub_site import COMMIT, serve_hub

    publish_esc50(site, tmp_path)
    command = ["reproduce", "hubert-as-base", "--dataset", "esc50", "--dataset", "emovo", "--seeds", "1"]
    fetching = ["--fetch", "--mirror", site.url]
    with serve_hub(checkpoint, HUBERT) as (endpoint, hub):
        environment = {"HF_ENDPOINT": endpoint, "NO_PROXY": "127.0.0.1"}
        first = run_in(tmp_path, environment, *command, "--dry-run")
        assert first.returncode == 0, first.stderr
        size = (checkpoint / "model.safetensors").stat().st_size / 1e6
        assert f"hubert-base-as: to download from the hub ({HUBERT}, {size:.0f} MB)" in first.stdout
        assert hub.fetched == []
        assert not (tmp_path / "data").exists()

        done = run_in(tmp_path, environment, *command, *fetching)
        assert done.returncode == 0, done.stdout + done.stderr
        assert sorted(hub.fetched) == ["config.json", "model.safetensors", "preprocessor_config.json"]
        assert "time: about 1 min for what is here" in done.stderr
    folder = tmp_path / "reports" / "reproduce-hubert-as-base"
    found = json.loads((folder / "reproduction.json").read_text())
    run = arch_bench.load(folder).run
    (row,) = found["results"]
    assert row["score"] == run.results[0].score
    assert row["published"] == pytest.approx(0.688)
    assert row["difference"] == pytest.approx(run.results[0].score - 0.688)
    assert row["revision"] == COMMIT
    assert row["verdict"] == "no reproduction"
    assert row["obstacles"] == [
        f"the encoder has {run.models[0].parameter_count / 1e6:.3g} M parameters and the published one 95 M",
        "the dataset is an imitation with synthesised audio",
    ]
    assert [line.partition(":")[0] for line in found["left_out"]] == ["emovo"]
    assert "None of 1 result can be set against a published score" in done.stdout
    assert "left out: emovo" in done.stdout
    assert {"report.html", "reproduction.html", "reproduction.md", "results.csv"} <= {
        path.name for path in folder.iterdir()
    }

    # The same command, with nothing to download from, keeps all and measures nothing again.
    site.files.clear()
    again = run_in(tmp_path, {}, *command)
    assert again.returncode == 0, again.stderr
    assert "hubert-base-as: exported, kept" in again.stderr
    assert "time: all that is here is done already" in again.stderr
    assert "hubert-base-as on esc50: done by an earlier run, kept" in again.stderr
    assert json.loads((folder / "reproduction.json").read_text()) == found


def run_in(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a folder of its own; its hub's client reads the environment once."""
    return arch(*arguments, cwd=folder, env=os.environ | environment)
