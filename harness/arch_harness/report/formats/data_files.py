"""The rows of a run as files for other programs: CSV, and Parquet with the types of its columns."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from arch_harness.results.metric_kinds import ATTRIBUTES
from arch_harness.results.rows import COLUMNS, rows

if TYPE_CHECKING:
    from arch_harness.results.run import Run

_TRUTH = {"concurrency_found", "incomplete"}


def render_csv(run: Run) -> str:
    """A line for each model, dataset and probe below the names of the columns; a value that is not known is empty.

    Numbers have all their digits, so that what is read back is what was measured.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows(run))
    return text.getvalue()


def render_parquet(run: Run) -> bytes:
    """The same as a Parquet file, in which a value that is not known is null.

    The types are of the column and not of what happens to stand in it, so that the files of several runs can be read as
    one table: text for the columns of words, `concurrency_found` and `incomplete` true or false, float64 for every
    number.
    """
    import pyarrow
    from pyarrow import parquet

    types = {name: pyarrow.string() if name in ATTRIBUTES else pyarrow.float64() for name in COLUMNS}
    types |= dict.fromkeys(_TRUTH, pyarrow.bool_())
    found = rows(run)
    table = pyarrow.table(
        {name: pyarrow.array([one[name] for one in found], kind) for name, kind in types.items()},
    )
    stream = io.BytesIO()
    parquet.write_table(table, stream)
    return stream.getvalue()
