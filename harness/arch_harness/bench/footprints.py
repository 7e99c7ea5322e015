"""What the models of a run take of their servers, gathered while the servers still run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from arch_harness.results.run import Footprint

if TYPE_CHECKING:
    from arch_harness.results.run import ModelFacts, Run
    from arch_harness.triton.server import Server


def gather_footprints(run: Run, servers: Sequence[Server], models: Iterable[ModelFacts]) -> list[Footprint]:
    """The run's footprints, with those of `models` as the servers tell them now.

    Of several servers the highest figure counts, and of memory an earlier one of the run too: a server that was
    restarted has not seen all. A model of which nothing was measured has none, for its server has had no work.

    Args:
        run: so far.
        servers: that share the load.
        models: that the servers run.
    """
    found = {one.model: one for one in run.footprints}
    measured = {result.model for result in run.results if result.measurement is not None}
    for model in models:
        if model.name in measured:
            told = [one for server in servers if (one := server.footprint(model)) is not None]
            earlier = found.get(model.name)
            if told:
                found[model.name] = Footprint(
                    model=model.name,
                    memory_mib=_highest([one.memory_mib for one in (*told, *([earlier] if earlier else []))]),
                    disk_mib=_highest([one.disk_mib for one in told]),
                    load_seconds=_highest([one.load_seconds for one in told]),
                )
    return [found[model.name] for model in run.models if model.name in found]


def _highest(values: Sequence[float | None]) -> float | None:
    return max((one for one in values if one is not None), default=None)
