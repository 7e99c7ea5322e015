"""What is asked of a tuning, as the command line says it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from arch_common.errors import UsageError

from arch_bench.extras import needs

if TYPE_CHECKING:
    from arch_harness.load.asked import Slo
    from arch_harness.tuning.space import Form, Space

Several = str | int | Sequence[str | int]
_USUAL_LOSS = 0.01
_MIB = {"mb": 1e6 / 2**20, "gb": 1e9 / 2**20, "mib": 1.0, "gib": 1024.0}


@dataclass(frozen=True)
class TuneRequest:
    """What is asked for; an empty sequence leaves the choice to the tuning.

    Attributes:
        slo: the promise.
        max_loss: in score against the baseline, a share; None where nothing was asked, see `allowed_loss`.
        max_memory_mib: of a model's processes; None is no limit.
        precisions: that are tried.
        cuts: layers after which the encoder ends; None for all.
        lengths: padded or exact.
        batches: largest batches.
        instances: that execute side by side.
        threads: of one operator.
        delays_us: queue delays in µs.
        conv_searches: of a GPU's convolutions.
        run_seconds: length of the shortest runs; None takes one that suits the model.
        clips: of the dataset that are sent.
        seed: of arrivals, clips and the order of measurements.
    """

    slo: Slo
    max_loss: float | None
    max_memory_mib: float | None
    precisions: tuple[str, ...]
    cuts: tuple[int | None, ...]
    lengths: tuple[str, ...]
    batches: tuple[int, ...]
    instances: tuple[int, ...]
    threads: tuple[int, ...]
    delays_us: tuple[int, ...]
    conv_searches: tuple[str, ...]
    run_seconds: float | None
    clips: int
    seed: int

    @property
    def allowed_loss(self) -> float:
        """As asked for, or by default a point."""
        return _USUAL_LOSS if self.max_loss is None else self.max_loss

    @property
    def names_a_form(self) -> bool:
        """Whether anything was asked that makes another model of a checkpoint."""
        return bool(self.precisions or self.cuts or self.lengths)


def request_of(
    slo: str,
    max_loss: str | None,
    max_memory: str | None,
    precision: Several,
    layers: Several,
    lengths: Several,
    max_batch: Several,
    instances: Several,
    threads: Several,
    queue_delay: Several,
    conv_search: Several,
    run_seconds: float | None,
    clips: int,
    seed: int,
) -> TuneRequest:
    """Read what was asked for.

    Raises:
        UsageError: if it cannot be right.
    """
    with needs("load"):
        from arch_harness.load.asked import parse_slo
    with needs("export"):
        from arch_export.encoder.options import EncoderOptions
        from arch_export.encoder.precision import settle
        from arch_export.serving import ServingOptions, parse_delay
    precisions, cuts, forms = _parts(precision), _parts(layers), _parts(lengths)
    for one in precisions:
        settle(one, "auto")
    if "all" in cuts:
        raise UsageError("--layers all is no form of its own: name none, or layers to cut after, such as none,9,6")
    for one in forms or ["padded"]:
        for cut in cuts or ["none"]:
            EncoderOptions.parse(cut, one)
    numbers = {
        option: tuple(_integer(option, part) for part in _parts(given))
        for option, given in (("--max-batch", max_batch), ("--instances", instances), ("--threads", threads))
    }
    for batch in numbers["--max-batch"]:
        ServingOptions(max_batch=batch)
    for count in numbers["--instances"]:
        ServingOptions(instances=count)
    for count in numbers["--threads"]:
        ServingOptions(threads=count)
    delays = tuple(parse_delay(part) for part in _parts(queue_delay))
    for delay in delays:
        ServingOptions(queue_delay_us=delay)
    searches = tuple(_parts(conv_search))
    for search in searches:
        ServingOptions(conv_search=search)
    if run_seconds is not None and not 0.1 <= run_seconds <= 3600:
        raise UsageError(f"--run-seconds cannot be {run_seconds:g}: wants 0.1 to 3600")
    if clips < 1:
        raise UsageError(f"--clips cannot be {clips}: wants 1 or more")
    return TuneRequest(
        parse_slo(slo),
        None if max_loss is None else _loss(max_loss),
        None if max_memory is None else _mib(max_memory),
        tuple(precisions),
        tuple(None if cut == "none" else int(cut) for cut in cuts),
        tuple(forms),
        numbers["--max-batch"],
        numbers["--instances"],
        numbers["--threads"],
        delays,
        searches,
        run_seconds,
        clips,
        seed,
    )


def forms_of(asked: TuneRequest, precisions: Sequence[str]) -> list[Form]:
    """The forms that are tried, where `precisions` are those that this machine runs."""
    from arch_harness.tuning.space import Form

    return [
        Form(precision, cut, lengths)
        for precision in asked.precisions or precisions
        for cut in asked.cuts or (None,)
        for lengths in asked.lengths or ("padded",)
    ]


def baseline_of(forms: Sequence[Form]) -> Form:
    """What losses are against: fp32, uncut, padded if any form is."""
    from arch_harness.tuning.space import Form

    return Form("fp32", None, "padded" if any(one.lengths == "padded" for one in forms) else "exact")


def space_of(asked: TuneRequest, forms: Sequence[Form], cores: int, has_gpu: bool, on_gpu: bool) -> Space:
    """What is tried of the serving, with what was left open.

    Args:
        asked: what was asked for.
        forms: that are tried.
        cores: of the machine.
        has_gpu: whether it serves on a GPU, where the threads of a CPU do little.
        on_gpu: whether the models are for one.
    """
    from arch_harness.tuning.space import BATCHES, CONV_SEARCHES, DELAYS_US, Space, workers_of

    instances, threads = asked.instances, asked.threads
    if has_gpu:
        instances, threads = instances or (1, 2, 4), threads or (max(1, cores // 4),)
    searches: Sequence[str | None] = (asked.conv_searches or CONV_SEARCHES) if on_gpu else (None,)
    workers = workers_of(cores, instances, threads)
    return Space(forms, asked.batches or BATCHES, workers, asked.delays_us or DELAYS_US, searches)


def _parts(given: Several) -> list[str]:
    """The values of a list with commas, each once."""
    several = [given] if isinstance(given, str | int) else given
    return list(dict.fromkeys(part.strip() for one in several for part in str(one).split(",") if part.strip()))


def _integer(option: str, text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text):
        raise UsageError(f"{option} cannot be {text!r}: wants whole numbers, such as 1,8,32")
    return int(text)


def _loss(text: str) -> float:
    found = re.fullmatch(r"(\d{1,3}(?:\.\d{1,6})?) ?(?:pt|pts|points?)", text.strip())
    if found is None or float(found[1]) > 100:
        raise UsageError(f"--max-loss cannot be {text!r}: wants percentage points, such as 1pt")
    return float(found[1]) / 100


def _mib(text: str) -> float:
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?) ?([kmg]i?b)", text.strip().lower())
    if found is None or found[2] not in _MIB or float(found[1]) <= 0:
        raise UsageError(f"--max-memory cannot be {text!r}: wants a size with its unit, such as 4GB or 800MiB")
    return float(found[1]) * _MIB[found[2]]
