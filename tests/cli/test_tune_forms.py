"""The forms of a tuning as a run has scored them."""

from __future__ import annotations

from pathlib import Path

from arch_bench.tuning.forms import FormModel, scores_of
from arch_harness.tuning.space import Form
from support.runs import comparison, run_of


def test_a_loss_of_just_what_is_allowed_is_allowed(tmp_path: Path) -> None:
    base, other = Form("fp32"), Form("int8")
    models = {form: FormModel(tmp_path / name, "sha256:0", True, {}) for form, name in ((base, "a"), (other, "b"))}
    loss = 0.90 - 0.89
    assert loss > 0.01  # by rounding
    run = run_of(("a", "b"), ("demo",), comparisons=[comparison("demo", "a", "b", 0.0, 0.02) | {"difference": loss}])
    assert scores_of(run, models, [other], 0.01)[other].admissible
    assert scores_of(run, models, [other], 0.0099)[other].reason == "it loses more than is allowed"
