"""The files of a leaderboard: a page, tables for programs, and a folder for each model."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
from typing import TYPE_CHECKING

from arch_common.errors import ArchError
from arch_common.files import whole_file

from arch_harness.decision.leaderboard.card import OF_ARCH, benched_card
from arch_harness.decision.leaderboard.document import entries, leaderboard_text
from arch_harness.decision.leaderboard.eval_results import EVAL_RESULTS, eval_results
from arch_harness.report.formats.templates import template_environment

if TYPE_CHECKING:
    from pathlib import Path

    from arch_harness.decision.leaderboard.merge import Leaderboard

PAGE = "index.html"
_MODELS, _CARD = "models", "README.md"


def write_leaderboard(board: Leaderboard, folder: Path, benchmark: str, source: str | None = None) -> list[Path]:
    """Write `index.html`, `leaderboard.json`, `leaderboard.csv`, and `models/<name>/` with a card and the Hub's YAML.

    Each file is written whole or not at all. The YAML and card of a model that stands there no longer are removed.

    Args:
        board: what is written.
        folder: made if it is not there.
        benchmark: dataset repository on the Hugging Face Hub that the YAML names.
        source: address that the YAML gives as its source.

    Returns:
        The files written, the page first. A model whose scores are all in doubt has no YAML.

    Raises:
        ArchError: if the folder or a file in it cannot be written.
    """
    rows = entries(board)
    contents = {
        folder / PAGE: to_page(board),
        folder / "leaderboard.json": _to_json(board, rows),
        folder / "leaderboard.csv": _to_csv(rows),
    }
    taken: dict[str, int] = {}
    for of_model in board.models:
        name = re.sub(r"[^\w.-]|^\.+", "_", of_model[0].model.name)
        taken[name] = taken.get(name, 0) + 1
        place = folder / _MODELS / (name if taken[name] == 1 else f"{name}-{taken[name]}")
        contents[place / _CARD] = benched_card(of_model)
        if not all(one.doubts for one in of_model):
            contents[place / EVAL_RESULTS] = eval_results(of_model, benchmark, source)
    for path, text in contents.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArchError(f"cannot write {path}: {error.strerror}") from error
        with whole_file(path) as file:
            file.write(text.encode(errors="replace"))
    _remove_stale(folder, set(contents))
    return list(contents)


def _remove_stale(folder: Path, written: set[Path]) -> None:
    """Remove what an earlier leaderboard said of models that this one does not show; nothing else is touched."""
    cards = (folder / _MODELS).glob(f"*/{_CARD}")
    ours = [path for path in cards if OF_ARCH in path.read_text(encoding="utf-8", errors="replace")]
    for path in {*ours, *(folder / _MODELS).glob(f"*/{EVAL_RESULTS}")} - written:
        with contextlib.suppress(OSError):
            path.unlink()
    for place in [*(folder / _MODELS).glob("*/.eval_results"), *(folder / _MODELS).glob("*")]:
        with contextlib.suppress(OSError):  # it is no folder, or not empty
            place.rmdir()


def to_page(board: Leaderboard) -> str:
    """One self-contained document: each table is put into another order by its heads, without script or request."""
    page = template_environment("arch_harness.decision").get_template("leaderboard.html.j2")
    return page.render(page=leaderboard_text(board))


def _to_json(board: Leaderboard, rows: list[dict[str, object]]) -> str:
    document = {
        "probe": board.probe,
        "datasets": board.datasets,
        "entries": rows,
        "left_out": [vars(one) for one in board.left_out],
        "remarks": board.remarks,
    }
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _to_csv(rows: list[dict[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
