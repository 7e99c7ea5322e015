"""What the report says of the classes: the picture, and the tables of confused pairs and of every class."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from arch_harness.report.plots.confusion import draw_confusion
from arch_harness.report.text.overview import build_overview
from arch_harness.results.scores import ClassScore
from support.runs import run_of

if TYPE_CHECKING:
    from arch_harness.results.run import Run


def confused(classes: int) -> Run:
    """A run of one dataset of so many classes, each taken for the next in as many percent as its number says."""
    run = run_of(("a", "b"), ("d",))
    best = max(run.results, key=lambda one: one.score).probes[0]
    best.classes = [ClassScore(name=f"class {index}", clips=100, f1=1 - index / 100) for index in range(classes)]
    matrix = np.diag(100 - np.arange(classes)) + np.roll(np.diag(np.arange(classes)), 1, axis=1)
    best.confusion = matrix.tolist()
    return run


def test_the_confusion_matrix_is_drawn_as_long_as_it_can_be_read() -> None:
    few, many, too_many = (draw_confusion(confused(classes)) for classes in (10, 50, 70))
    assert too_many == []
    for groups, classes in ((few, 10), (many, 50)):
        (plot,) = groups[0].plots
        assert plot.file == "confusion-d.svg"
        assert plot.wide == (classes == 50)
        texts = re.findall(r">([^<]+)</text>", plot.svg)
        assert texts.count(f"class {classes - 1}") == 2
        assert ("91" in texts) == (classes == 10)  # class 9 is right in 91 % of its clips
        assert plot.svg.count('id="PatchCollection') == 2  # right and wrong


def test_a_probe_that_is_never_or_always_wrong_is_drawn() -> None:
    run = confused(3)
    for matrix in (np.eye(3, dtype=int), np.roll(np.eye(3, dtype=int), 1, axis=1)):
        max(run.results, key=lambda one: one.score).probes[0].confusion = matrix.tolist()
        (group,) = draw_confusion(run)
        assert group.plots[0].svg.count('id="PatchCollection') == 1


def test_many_classes_have_a_table_of_confused_pairs_instead() -> None:
    sections = {one.title: one.table.rows for one in build_overview(confused(70)).probing}
    assert len(sections["Confused pairs"]) == 20
    assert [row[2:] for row in sections["Confused pairs"]][:2] == [
        ("class 69", "class 0", "69.0"),
        ("class 68", "class 69", "68.0"),
    ]
    assert len(sections["Classes"]) == 70
    assert "Confused pairs" not in [one.title for one in build_overview(confused(60)).probing]
