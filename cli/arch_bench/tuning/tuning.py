"""A tuning, as one object that can be shown and that knows where its report is."""

from __future__ import annotations

import json
import math
import os
import shlex
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from arch_common.errors import ArchError, ExportUsageError, UsageError
from arch_common.files import check_folder, whole_file
from arch_common.temporary import temporary_folder

from arch_bench import api, data
from arch_bench.extras import needs
from arch_bench.load_tests.testing import ceiling_of
from arch_bench.tuning import forms as of_forms
from arch_bench.tuning.asked import Several, TuneRequest, baseline_of, forms_of, request_of, space_of
from arch_bench.tuning.machine import of_machine, versions
from arch_bench.tuning.winner import CALIBRATION, MODELS, check_apart, install, made_by

if TYPE_CHECKING:
    from arch_harness.load.sending.client import Clips
    from arch_harness.tuning.report import Tuning
    from arch_harness.tuning.results import FormScore, TuneReport, TuneSettings
    from arch_harness.tuning.space import Configuration, Form
    from rich.console import Console, ConsoleOptions, RenderResult

    from arch_bench.tuning.forms import FormModel
    from arch_bench.tuning.speed import Scene

_ANSWERS = 50  # that the shortest run is to have by default
_LEAST_S, _MOST_S = 1.0, 60.0
_CONCURRENCY = 4  # requests in flight for each core while accuracy is measured, whose speed does not matter


@dataclass(frozen=True)
class Tuned:
    """What was found.

    Attributes:
        folder: of `tune.html`, `tune.json` and every run.
        report: all that `tune.json` holds.
        model: the folder of the model that was written; None where that was not wanted.
    """

    folder: Path
    report: TuneReport = field(repr=False)
    model: Path | None

    @property
    def page(self) -> Path:
        """The page to read."""
        return self.folder / "tune.html"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """For a terminal."""
        from arch_harness.tuning.formats import TerminalTuning

        yield TerminalTuning(self.report)


def tune(
    model: str | Path,
    dataset: str | Path,
    *,
    slo: str,
    max_loss: str | None = None,
    max_memory: str | None = None,
    precision: Several = (),
    layers: Several = (),
    lengths: Several = (),
    max_batch: Several = (),
    instances: Several = (),
    threads: Several = (),
    queue_delay: Several = (),
    conv_search: Several = (),
    run_seconds: float | None = None,
    clips: int = 256,
    seed: int = 0,
    repository: str | Path = api.REPOSITORY,
    output: str | Path | None = None,
    data_root: str | Path | None = None,
    cache: str | Path | None = None,
    write: bool = True,
    command: str = "arch_bench.tune(…)",
    console: Console | None = None,
) -> Tuned:
    """The fastest way to serve an encoder on this machine within a promise; needs every part.

    Args:
        model: a checkpoint as `export` takes it, or the name of a model in the repository, of which the serving alone
            is tuned.
        dataset: whose clips are sent, each as long as it is, and which the forms of a checkpoint are scored on.
        slo: the promise, such as `p99=100ms`.
        max_loss: in score against fp32 uncut, in percentage points; by default 1pt. None of a model of the repository.
        max_memory: of a model's processes, such as `4GB`.
        precision: that are tried; by default those of this machine. As the next seven, a list, or a text with commas.
        layers: none, or layers to cut after; by default none.
        lengths: padded or exact; by default padded.
        max_batch: by default powers of 2 up to 32.
        instances: by default powers of 2 up to the cores.
        threads: of one operator, likewise; pairs that use from half to twice the cores.
        queue_delay: by default 0, 2ms and 5ms.
        conv_search: on a GPU, of cuDNN's convolutions; by default heuristic and exhaustive.
        run_seconds: of the shortest runs; by default so long that the model answers 50 clips, from 1 s.
        clips: of the dataset that are sent again and again.
        seed: of arrivals, clips, the order of measurements and the probes.
        repository: where a model by name is, and where the winner is written.
        output: folder for the report; the same again goes on where it was interrupted. By default a new one.
        data_root: where an id without a path is looked for.
        cache: the embedding store that forms of a checkpoint are scored with; none of a model of the repository.
        write: whether the winner is written into the repository.
        command: what the report names as its origin.
        console: draws progress and notes; None stays silent.

    Raises:
        UsageError: if something asked for cannot be right.
        ArchError: if nothing keeps what is asked for; the message names what comes nearest.
    """
    asked = request_of(
        slo, max_loss, max_memory, precision, layers, lengths, max_batch, instances, threads, queue_delay, conv_search,
        run_seconds, clips, seed,
    )  # fmt: skip
    with needs("serve"):
        import arch_serve.server  # noqa: F401
    output, repository = Path(output) if output else api.default_output(), Path(repository)
    check_folder(output, "--output")
    if write:
        check_folder(repository, "--repository")
    check_apart(output, repository)
    run = _Run(str(model), str(dataset), data_root, cache, asked, output, repository, console)
    from arch_harness.bench.resuming.output import held_output
    from arch_harness.tuning.formats import write_tuning

    with held_output(output):
        found = run.search()
        won = found.winner()
        name, variant = f"{run.models[won.form].name}-{won.suffix}", None
        if write:
            try:
                variant = run.write(won)
            except ArchError:  # what was measured is told all the same
                write_tuning(found.report(command, run.notes, "", run.commands(won, name, written=False)), output)
                raise
            name = variant.name
        commands = run.commands(won, name, written=variant is not None)
        report = found.report(command, run.notes, name if variant else "", commands)
        write_tuning(report, output)
    return Tuned(output, report, variant)


class _Run:
    """One tuning from its beginning to the winner."""

    def __init__(
        self,
        model: str,
        dataset: str,
        data_root: str | Path | None,
        cache: str | Path | None,
        asked: TuneRequest,
        output: Path,
        repository: Path,
        console: Console | None,
    ) -> None:
        self._model, self._asked, self._cache = model, asked, cache
        self._output, self._repository, self._console = output, repository, console
        self._cores = len(os.sched_getaffinity(0))
        self.notes: list[str] = []
        self.models: dict[Form, FormModel] = {}
        self._exported = self._find()
        self._target, self._precisions = of_machine()
        if asked.conv_searches and self._served_for != "gpu":
            raise UsageError(f"--conv-search needs a model for --target gpu, and this one is for {self._served_for}")
        self._dataset = data.open_dataset(dataset, data_root)
        if self._model == "logmel":  # has no encoder
            self._precisions = ["fp32"]

    @property
    def _served_for(self) -> str:
        return self._exported.facts["target"] if self._exported else self._target

    def _find(self) -> FormModel | None:
        """The model of the repository that is meant; None for a checkpoint, which a name means if it can.

        Raises:
            UsageError: if it is neither, or forms or scores are asked of a model that is exported already.
        """
        from arch_export.request import settle_request

        try:
            settle_request(self._model)
        except ExportUsageError as error:
            found = None if "/" in self._model else of_forms.model_in(self._repository / self._model)
            if found is None:
                raise ExportUsageError(f"{error}; nor is it a model of {self._repository}") from error
        else:
            return None
        if self._asked.names_a_form:
            raise UsageError(
                f"{self._model} is a model of {self._repository}, of which the serving alone can be tuned: for "
                "--precision, --layers and --lengths name its checkpoint"
            )
        if self._asked.max_loss is not None or self._cache is not None:
            raise UsageError(
                f"{self._model} is a model of {self._repository}, of which no score is measured: leave "
                f"{'--cache' if self._asked.max_loss is None else '--max-loss'} out, or name its checkpoint"
            )
        lacking = [name for name in ("precision", "target", "sample_rate", "source") if name not in found.facts]
        if lacking:
            raise ExportUsageError(
                f"{self._repository / self._model} lacks facts that arch export writes ({', '.join(lacking)}): export "
                "it again"
            )
        return found

    def search(self) -> Tuning:
        """Export, score and measure what is not there yet."""
        from arch_harness.load.measure import mix_of
        from arch_harness.load.sending.client import decoded
        from arch_harness.tuning.halving import halve
        from arch_harness.tuning.journal import Journal
        from arch_harness.tuning.report import Tuning, fits_memory

        from arch_bench.tuning.speed import Scene, SpeedMeter

        asked = self._asked
        settings = self._settings()
        journal = Journal(self._output, settings)
        if journal.count:
            self._note(f"going on after the {journal.count:,} runs in {self._output}")
        scores = self._scores()
        forms = [form for form, score in scores.items() if score.admissible]
        if not forms:
            from arch_harness.tuning.choosing import nothing_lossless

            raise ArchError("; ".join([nothing_lossless(list(scores.values()), asked.allowed_loss), *self.notes]))
        space = space_of(asked, forms, self._cores, self._target == "gpu", self._served_for == "gpu")
        configurations = space.configurations(form for form in forms if not self.models[form].batched)
        rates = {self.models[form].facts["sample_rate"] for form in forms}
        (sample_rate,) = map(int, rates)
        with ExitStack() as stack:
            clips = stack.enter_context(decoded(self._dataset, sample_rate, asked.clips, asked.seed, self._note))
            scene = Scene(asked.slo, clips, self.models, self._output / MODELS, self._cores, asked.seed)
            seconds, ceiling = self._calibrated(scene, configurations[0].form, clips)
            most = math.inf if ceiling is None else ceiling
            meter = SpeedMeter(scene, journal, seconds, most, self._note)
            fits = fits_memory(asked.max_memory_mib)

            def shown(rung: int, count: int) -> None:
                self._note(f"rung {rung + 1}: {count} of {len(configurations)} configurations")

            found = halve(configurations, meter, fits, lambda form: scores[form].score or 0.0, asked.seed, shown)
        return Tuning(
            settings=settings,
            slo=asked.slo,
            forms=scores,
            found=found,
            max_loss=None if self._exported else asked.allowed_loss,
            max_memory_mib=asked.max_memory_mib,
            run_seconds=seconds,
            ceiling=ceiling,
            baseline=next(iter(scores.values())).model,
            clips=mix_of(clips),
        )

    def _settings(self) -> TuneSettings:
        from arch_harness.measuring.machine import describe_machine
        from arch_harness.tuning.results import TuneSettings

        machine, asked = describe_machine(), self._asked
        return TuneSettings(
            model=self._model,
            source=self._exported.content_hash if self._exported else of_forms.digest_of(self._model),
            dataset=self._dataset.id,
            listing=self._dataset.listing,
            share=asked.slo.share,
            milliseconds=asked.slo.milliseconds,
            run_seconds=asked.run_seconds,
            clips=asked.clips,
            seed=asked.seed,
            cpu=machine.cpu,
            cores=machine.cores,
            gpus=machine.gpus,
            target=self._target,
            packages=machine.packages | versions(),
        )

    def _scores(self) -> dict[Form, FormScore]:
        """Export the forms and score them, each once; of a model that is exported already there is one, not scored."""
        from arch_harness.tuning.space import Form

        asked = self._asked
        if self._exported is not None:
            facts = self._exported.facts
            cut = int(facts["cut_after_layer"]) if "cut_after_layer" in facts else None
            form = Form(facts["precision"], cut, facts.get("lengths", "padded"))
            self.models = {form: self._exported}
            self.notes.append(
                f"{self._model} is a model that was exported already: its serving alone was tuned, and no score was "
                "measured; name its checkpoint to try precisions, cuts and lengths"
            )
            return {form: of_forms.unscored(form, self._exported)}
        tried = forms_of(asked, self._precisions)
        base = baseline_of(tried)
        every = list(dict.fromkeys([base, *tried]))
        self.models, faults = of_forms.export_forms(self._model, every, self._output, self._target, self._note)
        self.notes += [f"{form} was left out: {why}" for form, why in faults.items()]
        self._say_what_is_not_tried()
        folder = self._output / "accuracy"
        scored = of_forms.scored_before(folder, self.models, self._dataset)
        if scored is None:
            self._note(f"scoring {len(self.models)} models on {self._dataset.id}")
            scored = api.bench(
                self._dataset.reference,
                models=[one.name for one in self.models.values()],
                repository=self._output / MODELS,
                output=folder,
                seed=asked.seed,
                concurrency=_CONCURRENCY * self._cores,
                cache=self._cache,
                command="arch tune",
                console=self._console,
            ).run
        return of_forms.scores_of(scored, self.models, tried, asked.allowed_loss)

    def _say_what_is_not_tried(self) -> None:
        left = []
        if not self._asked.cuts:
            left.append("cuts (--layers none,9,6)")
        if not self._asked.lengths:
            left.append("lengths (--lengths padded,exact)")
        if left:
            self.notes.append(f"not tried, as each takes an export and a pass over the dataset: {' and '.join(left)}")

    def _calibrated(self, scene: Scene, form: Form, clips: Clips) -> tuple[float, float | None]:
        """Length of the shortest runs in s, and clips/s that the client may send; as an earlier command had them."""
        from arch_harness.load.asked import LoadRequest
        from arch_harness.load.measure import LoadTest
        from arch_harness.tuning.choosing import NO_MEMORY
        from arch_harness.tuning.space import Configuration

        from arch_bench.tuning.speed import measured_alone

        path = self._output / CALIBRATION
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
            return self._asked.run_seconds or float(earlier["run_seconds"]), earlier["ceiling"]
        except (OSError, ValueError, KeyError, TypeError):
            pass
        self._note("finding out how fast the model and this client are")
        usual = Configuration(form, 8 if self.models[form].batched else 1, 1, self._cores, 0)
        with measured_alone(scene, usual) as (facts, alone_ms, memory_mib):
            if self._asked.max_memory_mib is not None and memory_mib is None:
                raise ArchError(NO_MEMORY)
        with temporary_folder("arch-tune-") as folder:
            test = LoadTest(LoadRequest(slo=self._asked.slo), clips, folder, self._note)
            ceiling = ceiling_of(test, facts, self._note)
        seconds = self._asked.run_seconds or min(_MOST_S, max(_LEAST_S, _ANSWERS * alone_ms / 1e3))
        with whole_file(path) as file:
            file.write(json.dumps({"run_seconds": seconds, "ceiling": ceiling.most}).encode())
        return seconds, ceiling.most

    def write(self, won: Configuration) -> Path:
        """Install the winner in the repository."""
        return install(self.models[won.form], won, self._repository, self.notes)

    def commands(self, won: Configuration, name: str, *, written: bool) -> list[str]:
        """What makes the winner by hand, where it is a checkpoint's, and what measures it once it is there."""
        if self._exported and not written:
            return []
        facts = self.models[won.form].facts
        made = None if self._exported else made_by(self._model, facts, won, name, self._repository)
        slo = self._asked.slo
        load = ["load", "--repository", str(self._repository), "--model", name, "--dataset", self._dataset.reference]
        load += ["--slo", f"{slo.name}={slo.milliseconds:g}ms"]
        return [
            shlex.join(["arch", *words]).encode(errors="backslashreplace").decode() for words in (made, load) if words
        ]

    def _note(self, text: str) -> None:
        if self._console is not None:
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)
