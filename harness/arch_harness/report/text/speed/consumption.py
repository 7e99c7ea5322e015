"""Energy, memory and price: what each model takes of the servers' hardware, and what is not told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arch_harness.report.text.numbers import UNKNOWN, clean, format_metric, number
from arch_harness.report.text.tables import (
    NOT_TOLD,
    Section,
    Table,
    cells_of,
    columns_of,
    meanings_of,
    measured_model,
)
from arch_harness.results import rows
from arch_harness.results.price import PRICES
from arch_harness.results.repeats import CONFIDENCE, POWER_FIGURES, power_sources, runs_of, spread_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arch_harness.report.text.tables import Column
    from arch_harness.results.measurement import Measurement
    from arch_harness.results.run import Result, Run

_TOLD = (*POWER_FIGURES, "gpu_memory_mib", "server_memory_mib", "memory_mib")


def consumption_section(run: Run, results: Sequence[Result], known: Sequence[Column] = ()) -> Section | None:
    """The section on `results`, in the order in which they are shown; None if none of them was measured.

    Args:
        run: whose results they are.
        results: of the run.
        known: columns that are explained already.
    """
    measured = [(result, result.measurement) for result in results if result.measurement is not None]
    if not measured:
        return None
    prices = PRICES if run.settings.price else ()
    columns = columns_of("dataset", "model", "clips_per_s", *_TOLD, *prices, "energy_source")
    found = [_cells(columns, _values(run, result, one)) for result, one in measured]
    return Section("Energy, memory and price", _text(run, measured), Table(columns, found), meanings_of(columns, known))


def _cells(columns: Sequence[Column], values: dict[str, Any]) -> tuple[str, ...]:
    cells = zip(columns, cells_of(columns, values), strict=True)
    return tuple(NOT_TOLD if cell == UNKNOWN and column.id in _TOLD else cell for column, cell in cells)


def _values(run: Run, result: Result, measurement: Measurement) -> dict[str, Any]:
    values = rows.row_of(run, result) | {"model": measured_model(result)}
    for figure in POWER_FIGURES:
        spread = spread_of(measurement, figure)
        if spread is not None and spread.half is not None and figure != "idle_power_w":
            values[figure] = f"{format_metric(figure, spread.mean)} ± {number(spread.half)}"
    return values


def _text(run: Run, measured: Sequence[tuple[Result, Measurement]]) -> str:
    """What the energy is of, or why there is none, and what the prices are of."""
    powered = [one for _, one in measured if power_sources(one)]
    if powered:
        text = (
            "Energy per clip: the mean power while the servers are saturated, less that of the same hardware with the "
            "models loaded and nothing in flight, over clips/s. "
        )
        if any(one.startswith("CPU") for found in powered for one in power_sources(found)):
            text += "CPU packages are those of this machine, with the client's decoding and sending. "
        if any(len(runs_of(one)) > 1 for one in powered):
            text += f"± is half of the {100 * CONFIDENCE:.0f} % interval over the runs. "
    else:
        reasons = dict.fromkeys(rows.consumption_row(one)["energy_source"] for _, one in measured)
        told = " / ".join(clean(reason).removeprefix("not told: ") for reason in reasons)
        text = f"No energy is told, since no power could be read. {told}. "
    if run.settings.price:
        text += f"Prices are of servers at {run.settings.price:g} an hour that are kept saturated. "
    return text + (
        "Server memory is that of the whole server while it was measured, peak memory that of the model's processes "
        "since they started."
    )
