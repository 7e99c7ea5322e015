"""What a tuning tries: forms of an encoder, and ways to serve each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

from arch_common import conv_search
from arch_common.errors import UsageError

BATCHES = (1, 2, 4, 8, 16, 32)
DELAYS_US = (0, 2_000, 5_000)
CONV_SEARCHES = (conv_search.USUAL, "exhaustive")
MOST_CONFIGURATIONS = 2_000
_OVER = 2  # times the cores: threads that a default may start, as some wait while others compute


@dataclass(frozen=True)
class Form:
    """What decides an embedding: two configurations of one form have the same score.

    Attributes:
        precision: that the encoder computes in.
        cut: the layer after which it ends, counted from 1; None for all.
        lengths: `padded` or `exact`.
    """

    precision: str
    cut: int | None = None
    lengths: str = "padded"

    @property
    def layers(self) -> str:
        """As `arch export --layers` takes it."""
        return "none" if self.cut is None else str(self.cut)

    def __str__(self) -> str:
        cut = f", cut after layer {self.cut}" if self.cut else ""
        return self.precision + cut + (", exact" if self.lengths == "exact" else "")


@dataclass(frozen=True)
class Configuration:
    """A form, and how it is served.

    Attributes:
        form: of the encoder.
        max_batch: clips of a batch, at most.
        instances: that execute side by side.
        threads: of one operator, in each instance.
        queue_delay_us: that a request may wait for others to share its batch, in µs.
        conv_search: on a GPU, how cuDNN's algorithms for convolutions are chosen; None on a CPU.
    """

    form: Form
    max_batch: int
    instances: int
    threads: int
    queue_delay_us: int
    conv_search: str | None = None

    @property
    def suffix(self) -> str:
        """How it is served, for the end of a model's name."""
        return suffix_of(self.max_batch, self.instances, self.threads, self.queue_delay_us, self.conv_search)

    @property
    def key(self) -> str:
        """All of it, in a word."""
        cut = f"-l{self.form.cut}" if self.form.cut else ""
        exact = "-exact" if self.form.lengths == "exact" else ""
        return f"{self.form.precision}{cut}{exact}-{self.suffix}"


def suffix_of(max_batch: int, instances: int, threads: int, queue_delay_us: int, conv_search: str | None) -> str:
    """How a form is served, in a word."""
    search = f"-{conv_search}" if conv_search else ""
    return f"b{max_batch}-i{instances}-t{threads}-d{delay_text(queue_delay_us)}{search}"


def delay_text(microseconds: int) -> str:
    """A delay as `arch export --queue-delay` takes it: 0, 2ms, 500us."""
    if not microseconds:
        return "0"
    return f"{microseconds}us" if microseconds % 1000 else f"{microseconds // 1000}ms"


@dataclass(frozen=True)
class Space:
    """The values that are tried, and how each is combined with all others.

    Attributes:
        forms: of the encoder.
        batches: largest batches.
        workers: (instances, threads) that are tried together.
        delays_us: queue delays in µs.
        conv_searches: of a GPU; None on a CPU.
    """

    forms: Sequence[Form]
    batches: Sequence[int]
    workers: Sequence[tuple[int, int]]
    delays_us: Sequence[int]
    conv_searches: Sequence[str | None] = (None,)

    def configurations(self, unbatched: Iterable[Form] = ()) -> list[Configuration]:
        """All of them. With batches of 1 no request waits for another, so that one delay stands for all.

        Args:
            unbatched: forms that are served one clip at a time, whatever is asked.

        Raises:
            UsageError: if they are too many to be tried.
        """
        alone = set(unbatched)
        found = dict.fromkeys(
            Configuration(
                form,
                1 if form in alone else batch,
                instances,
                threads,
                min(self.delays_us) if batch == 1 or form in alone else delay,
                search,
            )
            for form, batch, (instances, threads), delay, search in product(
                self.forms, self.batches, self.workers, self.delays_us, self.conv_searches
            )
        )
        if len(found) > MOST_CONFIGURATIONS:
            raise UsageError(
                f"{len(found):,} configurations are too many to be tried, at most {MOST_CONFIGURATIONS:,}: narrow them "
                "with --max-batch, --instances, --threads, --queue-delay, --conv-search, --precision, --layers or "
                "--lengths"
            )
        return list(found)


def workers_of(cores: int, instances: Sequence[int] = (), threads: Sequence[int] = ()) -> list[tuple[int, int]]:
    """Instances and threads that are tried together.

    Args:
        cores: that there are.
        instances: that were asked for; none takes powers of 2 up to the cores.
        threads: likewise.

    Returns:
        All pairs of what was asked for. Where either was left open, those that use from half to twice the cores.
    """
    every = list(product(instances or _powers(cores), threads or _powers(cores)))
    if instances and threads:
        return every
    # One side alone may be asked for in a number that no partner brings near the cores.
    return [pair for pair in every if cores <= 2 * pair[0] * pair[1] <= 2 * _OVER * cores] or every


def _powers(most: int) -> list[int]:
    found = [1]
    while 2 * found[-1] <= most:
        found.append(2 * found[-1])
    return found if found[-1] == most else [*found, most]
