"""`arch tune` against a real Triton: a small checkpoint, two forms of it, and one way to serve one."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import arch_bench
import pytest
from arch_bench.tuning.asked import request_of, space_of
from arch_bench.tuning.winner import made_by
from arch_harness.tuning.space import Form
from support.commands import arch, one_line
from support.model_configs import config_of, facts_of

pytestmark = [pytest.mark.triton, pytest.mark.torch, pytest.mark.ray, pytest.mark.slow]

ASKED: dict[str, Any] = {
    "slo": "p99=100ms",
    "max_loss": "40pt",
    "precision": "int8",
    "max_batch": 4,
    "instances": 1,
    "threads": 1,
    "queue_delay": "0",
    "run_seconds": 0.2,
    "clips": 1000,  # more than there are
}


@pytest.mark.usefixtures("traced_once")
def test_a_checkpoint_is_tuned_and_goes_on_where_it_ended(checkpoint: Path, demo_dataset: Path, tmp_path: Path) -> None:
    dataset, repository, output = f"demo={demo_dataset}", tmp_path / "repository", tmp_path / "out"
    arch_bench.export("logmel", repository)
    before = (repository / "logmel" / "config.pbtxt").read_bytes()
    found = arch_bench.tune(checkpoint, dataset, repository=repository, output=output, **ASKED)
    report = found.report
    assert [(one.precision, one.model) for one in report.forms] == [
        ("fp32", "tiny-hubert"),
        ("int8", "tiny-hubert-int8"),
    ]
    assert report.forms[0].loss == 0
    assert all(one.score is not None and one.low is not None for one in report.forms)
    assert all(one.executed_by.startswith(f"{one.precision} on ") for one in report.forms)
    # fp32 was not asked for: it is what the loss is against, and is not measured.
    assert [one.admissible for one in report.forms] == [False, True]
    base, int8 = (one.score for one in report.forms)
    assert base is not None
    assert int8 is not None
    assert report.forms[1].loss == pytest.approx(base - int8)
    assert [one.configuration.split("-")[0] for one in report.points] == ["int8"]
    won = report.chosen
    assert (won.rung, won.runs) >= (2, 11)
    assert won.low <= won.rate <= won.high
    assert won.memory_mib is not None
    assert won.memory_mib > 20
    # The winner is a model of its own, with the graph of its form and the configuration that was measured.
    assert found.model is not None
    name = f"{report.forms[won.form].model}-b{won.max_batch}-i1-t1-d0"
    assert found.model == repository / name
    config = config_of(found.model)
    assert (config.name, config.max_batch_size) == (name, won.max_batch)
    assert config.parameters["intra_op_thread_count"].string_value == "1"
    assert config.dynamic_batching.max_queue_delay_microseconds == 0
    assert facts_of(found.model)["content_hash"] == report.forms[won.form].content_hash
    assert (repository / "logmel" / "config.pbtxt").read_bytes() == before
    assert f"--name {name} --precision {won.configuration[:4]}" in report.commands[0]
    assert found.page.is_file()
    assert {"onnxruntime", "mlcommons-loadgen"} <= set(report.settings.packages)
    assert {"nvidia-pytriton", "tritonserver"} & set(report.settings.packages)
    has = len(list((demo_dataset / "audio").iterdir()))
    assert (report.settings.clips, report.clips.count) == (1000, has)
    # The same again makes no run, exports nothing, and finds the same.
    journal = (output / "runs.jsonl").read_bytes()
    again = arch_bench.tune(checkpoint, dataset, repository=repository, output=output, **ASKED)
    assert (output / "runs.jsonl").read_bytes() == journal
    assert again.report.points == report.points
    assert sorted(one.name for one in repository.iterdir()) == sorted(["logmel", name])
    # A model of that name that somebody has changed is theirs.
    mine = found.model / "config.pbtxt"
    mine.write_text(mine.read_text() + "# by hand\n")
    other = arch_bench.tune(checkpoint, dataset, repository=repository, output=output, **ASKED)
    assert other.model == repository / f"{name}-2"
    assert mine.read_text().endswith("# by hand\n")
    assert f"{name} is another model of {repository}, and stays as it is" in other.report.notes
    with pytest.raises(arch_bench.UsageError, match=r"holds another tuning, its milliseconds is 100\.0, and 50\.0 now"):
        arch_bench.tune(checkpoint, dataset, output=output, **(ASKED | {"slo": "p99=50ms"}))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"slo": "100ms"}, "--slo '100ms' is no promise"),
        ({"max_loss": ""}, "--max-loss cannot be '': wants percentage points"),
        ({"max_loss": "1"}, "--max-loss cannot be '1': wants percentage points, such as 1pt"),
        ({"max_memory": "4"}, "--max-memory cannot be '4': wants a size with its unit, such as 4GB"),
        ({"max_batch": "8,x"}, "--max-batch cannot be 'x': wants whole numbers"),
        ({"max_batch": "0"}, "--max-batch 0: from 1 to 1,024 clips"),
        ({"threads": (0,)}, "--threads 0: from 1 to 1,024 threads"),
        ({"precision": "fp32,fp8"}, "unknown precision 'fp8'"),
        ({"layers": "all"}, "--layers all is no form of its own"),
        ({"layers": "none,0"}, "--layers '0': use none, all, or the number"),
        ({"lengths": "exakt"}, "--lengths 'exakt': use padded or exact"),
        ({"queue_delay": "2"}, "--queue-delay '2' is no time"),
        ({"conv_search": "best"}, "--conv-search 'best' is none of exhaustive, heuristic, default"),
        ({"conv_search": "default"}, "--conv-search needs a model for --target gpu, and this one is for "),
        ({"run_seconds": 0.0}, "--run-seconds cannot be 0: wants 0.1 to 3600"),
    ],
)
def test_what_cannot_be_asked(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(arch_bench.UsageError) as caught:
        arch_bench.tune("logmel", "demo", **({"slo": "p99=100ms"} | asked))
    assert message in str(caught.value)


def test_models_of_others_are_not_replaced(tmp_path: Path) -> None:
    theirs = tmp_path / "models" / "hubert-base"
    theirs.mkdir(parents=True)
    for repository, message in ((tmp_path / "models", "is the repository"), (tmp_path / "r", "that are no tuning's")):
        with pytest.raises(arch_bench.UsageError, match=message):
            arch_bench.tune("logmel", "demo", slo="p99=1s", output=tmp_path, repository=repository)
    assert theirs.is_dir()


def test_what_is_asked_is_read() -> None:
    found = request_of(
        "p99=1s", "0.5pt", "4GB", "fp32,int8,fp32", "none,6", (), [1, 8], "2", (), "0,500us", (), None, 9, 0
    )
    assert found.max_loss == found.allowed_loss == 0.005
    assert replace(found, max_loss=None).allowed_loss == 0.01
    assert found.max_memory_mib == pytest.approx(3814.7, rel=1e-4)
    assert (found.precisions, found.cuts, found.lengths) == (("fp32", "int8"), (None, 6), ())
    assert (found.batches, found.instances, found.threads, found.delays_us) == ((1, 8), (2,), (), (0, 500))


def test_a_gpus_searches_for_convolutions_are_tried_there_alone() -> None:
    asked = request_of("p99=1s", "1pt", None, (), (), (), 8, 2, 1, 0, "exhaustive,default", None, 9, 0)
    forms = [Form("fp16")]
    assert [one.key for one in space_of(asked, forms, 8, True, True).configurations()] == [
        "fp16-b8-i2-t1-d0-exhaustive",
        "fp16-b8-i2-t1-d0-default",
    ]
    left = replace(asked, conv_searches=())
    found = space_of(left, forms, 8, True, True).configurations()
    assert [one.conv_search for one in found] == ["heuristic", "exhaustive"]
    assert [one.conv_search for one in space_of(left, forms, 8, True, False).configurations()] == [None]
    won = made_by("hubert-base", {"target": "gpu"}, found[1], "name", Path("models"))
    assert won[-2:] == ["--conv-search", "exhaustive"]


def test_a_model_of_the_repository_is_made_by_no_command(
    repository: Path, demo_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is not written there is nothing to load-test either; a store of the environment is not in the way."""
    monkeypatch.setenv("ARCH_CACHE", str(tmp_path / "store"))
    mine, output = tmp_path / "repository", tmp_path / "out"
    shutil.copytree(repository / "tiny-hubert", mine / "tiny-hubert")
    words = ["tune", "--model", "tiny-hubert", "--dataset", f"demo={demo_dataset}", "--repository", str(mine)]
    words += ["--slo", "p99=1s", "--max-batch", "1", "--instances", "1", "--threads", "1", "--run-seconds", "0.1"]
    words += ["--clips", "4", "--output", str(output)]
    done = arch(*words, "--no-write")
    assert done.returncode == 0, done.stderr
    assert "by hand:" not in done.stdout
    assert "batches of up to 1, 1 instance of 1 thread, queue delay 0, fp32" in " ".join(done.stdout.split())
    assert "The same by hand" not in (output / "tune.html").read_text()
    done = arch(*words)
    assert done.returncode == 0, done.stderr
    assert f"by hand: arch load --repository {mine} --model tiny-hubert-b1-i1-t1-d0 " in done.stdout
    assert (mine / "tiny-hubert-b1-i1-t1-d0").is_dir()


def test_names_that_mean_nothing_and_forms_of_what_is_exported(
    repository: Path, demo_dataset: Path, tmp_path: Path
) -> None:
    at = ["--repository", str(repository), "--dataset", f"demo={demo_dataset}", "--slo", "p99=1s"]
    done = arch("tune", "--model", "huber-base", *at, "--output", str(tmp_path / "out"))
    assert done.returncode == 2
    assert one_line(done).startswith("arch: unknown checkpoint 'huber-base': did you mean ")
    assert one_line(done).endswith(f"; nor is it a model of {repository}")
    assert not (tmp_path / "out").exists()
    with pytest.raises(arch_bench.UsageError, match="of which the serving alone can be tuned: for --precision"):
        arch_bench.tune(
            "tiny-hubert",
            f"demo={demo_dataset}",
            slo="p99=1s",
            precision="int8",
            repository=repository,
            output=tmp_path / "out",
        )
    for option, value in (("max_loss", "1pt"), ("cache", tmp_path / "store")):
        told = f"is a model of {repository}, of which no score is measured: leave --{option.replace('_', '-')} out"
        asked: dict[str, Any] = {option: value}
        with pytest.raises(arch_bench.UsageError, match=told):
            arch_bench.tune(
                "tiny-hubert", f"demo={demo_dataset}", slo="p99=1s", repository=repository, output=tmp_path, **asked
            )
        done = arch("tune", "--model", "tiny-hubert", *at, f"--{option.replace('_', '-')}", str(value))
        assert (done.returncode, told in one_line(done)) == (2, True)
