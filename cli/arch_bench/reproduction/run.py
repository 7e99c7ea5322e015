"""An experiment from what is missing to the table of ours against published."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from arch_common import interrupt
from arch_common.errors import ArchError, UsageError
from arch_common.files import check_folder

from arch_bench import api, data
from arch_bench import cache as store
from arch_bench.extras import needs
from arch_bench.loaded import LoadedRun
from arch_bench.reproduction.estimate import estimate
from arch_bench.reproduction.experiments import Asked, settle
from arch_bench.reproduction.plan import Plan, PlannedDataset, PlannedModel, disks, survey
from arch_bench.servers.reaching import listed

if TYPE_CHECKING:
    from arch_harness.datasets.download.fetch import Watch
    from arch_harness.published.reproduction import Reproduction
    from rich.console import Console, ConsoleOptions, RenderResult


@dataclass(frozen=True)
class Reproduced:
    """A run, and what it is beside the published scores.

    Attributes:
        run: that was benched.
        found: ours against published, as `reproduction.json` holds it.
        problems: exports, models and pairs that failed, a line each; not what was known to be missing.
    """

    run: LoadedRun
    found: Reproduction
    problems: tuple[str, ...]

    @property
    def page(self) -> Path:
        """The page to read."""
        return self.run.folder / "reproduction.html"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Ours against published, for a terminal."""
        from arch_harness.published.formats import TerminalReproduction

        yield TerminalReproduction(self.found)


def plan_reproduction(
    experiment: str | None = None,
    *,
    models: str | Sequence[str] = (),
    datasets: str | Sequence[str] = (),
    repository: str | Path = api.REPOSITORY,
    output: str | Path | None = None,
    data_root: str | Path | None = None,
    cache: str | Path | None = None,
) -> Plan:
    """What there is of an experiment and what is missing; nothing is downloaded or written.

    The arguments are those of `reproduce`.

    Raises:
        UsageError: if there is no such experiment, or no published score of a model or dataset.
    """
    asked = settle(experiment, listed(models), listed(datasets))
    folder = Path(output) if output else _usual(asked)
    return _plan(asked, Path(repository), folder, data.root(data_root), store.root(cache))


def reproduce(
    experiment: str | None = None,
    *,
    models: str | Sequence[str] = (),
    datasets: str | Sequence[str] = (),
    repository: str | Path = api.REPOSITORY,
    output: str | Path | None = None,
    data_root: str | Path | None = None,
    cache: str | Path | None = None,
    fetch: bool = False,
    mirror: str | None = None,
    downloads: Callable[[], AbstractContextManager[Watch | None]] = nullcontext,
    seeds: int = 3,
    seed: int = 0,
    on_plan: Callable[[Plan], None] = lambda _: None,
    on_step: Callable[[str], None] = lambda _: None,
    command: str = "arch_bench.reproduce(…)",
    console: Console | None = None,
) -> Reproduced:
    """Run checkpoints of the ARCH tables on its datasets, and set the scores beside the published ones.

    What is there is run, and what is missing is told; the same call goes on from where an earlier one ended, with what
    is there by then. It needs all parts of arch.

    Args:
        experiment: `hubert-as-base`, `discrete-vs-continuous` or `base-vs-large`.
        models: instead of those of the experiment: aliases, hub ids, or `ALIAS=FOLDER` for a checkpoint folder.
        datasets: instead of the twelve: ids, or `ID=PATH`.
        repository: exports that are there as they must be are kept.
        output: folder for the report; by default one in `reports` named after the experiment.
        data_root: where an id without a path is looked for; by default `$ARCH_DATA` or `data`.
        cache: the embedding store.
        fetch: download the datasets that are missing, too.
        mirror: take their files from `<mirror>/<id>/<file name>`.
        downloads: opens what is told of the progress of downloads.
        seeds: probes trained per fold.
        seed: the first.
        on_plan: told what is there and what is missing, before anything starts.
        on_step: told what is being done.
        command: what the report names as its origin.
        console: draws progress and notes; None stays silent.

    Raises:
        UsageError: if there is no such experiment, or no published score of a model or dataset.
        ArchError: if nothing of it can be run, or the server is lost; what was done is kept.
    """
    asked = settle(experiment, listed(models), listed(datasets))
    repository, root, output = Path(repository), data.root(data_root), Path(output) if output else _usual(asked)
    with needs("bench"):
        from arch_harness.results.run import check_settings
    check_settings(seeds=seeds, seed=seed, epochs=1, concurrency=None, workers=1)
    check_folder(output, "--output")
    store.check(cache)
    plan = _plan(asked, repository, output, root, store.root(cache))
    on_plan(plan)
    problems: list[str] = []
    if fetch:
        _fetch(plan, root, mirror, downloads, problems)
        plan = dataclasses.replace(plan, datasets=survey(asked, repository, root)[1])
    ready = [one for one in plan.datasets if one.is_there]
    if not ready:
        raise ArchError("; ".join(["nothing can be run: none of the datasets is there", *problems]))
    exported = _export(plan.models, repository, on_step, problems)
    if not exported:
        raise ArchError(f"nothing can be run, for no model is exported: {(problems or plan.left_out)[-1]}")
    if plan.hours is None:
        models_now = [dataclasses.replace(one, state="exported") for one in exported]
        on_step(f"time: {estimate(models_now, ready, repository, output)[1]}")
    run, failure = None, None
    # One model at a time in a server of its own: large ones need not fit into memory side by side.
    for model in exported:
        interrupt.check()
        try:
            run = api.bench(
                [one.name for one in ready],
                models=[model.subject.name],
                repository=repository,
                output=output,
                data_root=root,
                seeds=seeds,
                seed=seed,
                cache=cache,
                command=command,
                console=console,
            )
            problems += run.problems
        except KeyboardInterrupt:
            with suppress(ArchError):  # nothing is finished, or the disk is full: the interruption is to be told
                done = api.load(output, cache=cache)
                _write(asked, plan, exported, ready, done, [*problems, "interrupted: the same command goes on"])
            raise
        except ArchError as error:  # another model may be served, and what was done of this one is kept
            failure = error
            problems.append(f"{model.subject.name} is not benched to its end: {error}")
            if not isinstance(error, UsageError):  # which refuses what was asked for, before anything is computed
                run = _finished(output, cache, exported, ready) or run
    if run is None:
        raise failure or ArchError("nothing can be run: no model is exported")
    return Reproduced(run, _write(asked, plan, exported, ready, run, problems), tuple(problems))


def _finished(
    output: Path, cache: str | Path | None, models: Sequence[PlannedModel], datasets: Sequence[PlannedDataset]
) -> LoadedRun | None:
    """The run as it was left by an error; None where it holds no result of what was asked for, or cannot be read."""
    names, ids = {one.subject.name for one in models}, {one.id for one in datasets}
    with suppress(ArchError):  # the error that ended the run is to be told, and not this one
        done = api.load(output, cache=cache)
        if any(one.model in names and one.dataset in ids for one in done.run.results):
            return done
    return None


def _write(
    asked: Asked,
    plan: Plan,
    models: Sequence[PlannedModel],
    datasets: Sequence[PlannedDataset],
    run: LoadedRun,
    problems: Sequence[str],
) -> Reproduction:
    with needs("bench"):
        from arch_harness.published.formats import write_reproduction
        from arch_harness.published.reproduction import beside_published
    found = beside_published(
        run.run,
        {one.subject.name: one.subject.checkpoint for one in models},
        [one.id for one in datasets],
        asked.title,
        asked.pairs,
        [*plan.left_out, *problems],
    )
    write_reproduction(found, run.folder)
    return found


def _plan(asked: Asked, repository: Path, output: Path, data_root: Path, cache: Path) -> Plan:
    models, datasets = survey(asked, repository, data_root)
    hours, note = estimate(models, datasets, repository, output)
    return Plan(asked, models, datasets, disks(models, datasets, repository, data_root, cache), hours, note)


def _fetch(
    plan: Plan,
    data_root: Path,
    mirror: str | None,
    downloads: Callable[[], AbstractContextManager[Watch | None]],
    problems: list[str],
) -> None:
    for one in plan.datasets:
        if one.can_be_fetched:
            try:
                with downloads() as watch:
                    data.fetch(one.declaration.id, data_root, watch=watch, mirror=mirror)
            except ArchError as error:  # the others can be fetched all the same
                problems.append(str(error))


def _export(
    models: Sequence[PlannedModel], repository: Path, on_step: Callable[[str], None], problems: list[str]
) -> list[PlannedModel]:
    """Export what is not exported yet; those that are there in the end."""
    there = []
    for one in models:
        if one.problem:
            continue
        if one.state != "exported":
            interrupt.check()
            name = one.subject.name

            def step(text: str, name: str = name) -> None:
                on_step(f"{name}: {text}")

            def warn(text: str, name: str = name) -> None:
                on_step(f"warning: {name}: {text}")

            try:
                api.export(one.subject.reference, repository, on_step=step, on_warning=warn)
            except ArchError as error:  # the others can be exported all the same
                problems.append(f"{name} is not exported: {error}")
                continue
        there.append(one)
    return there


def _usual(asked: Asked) -> Path:
    return Path("reports") / f"reproduce-{asked.slug}"
