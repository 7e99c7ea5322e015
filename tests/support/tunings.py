"""Tunings as they are stored, small."""

from __future__ import annotations

from typing import Any

from arch_harness.load.asked import Slo
from arch_harness.load.report import ClipMix
from arch_harness.tuning.halving import RUNGS, Speed
from arch_harness.tuning.report import Tuning
from arch_harness.tuning.results import FormScore, TuneRun, TuneSettings
from arch_harness.tuning.space import Configuration, Form

FP32, INT8, CUT = Form("fp32"), Form("int8"), Form("fp32", 6)


def settings_of(**other: Any) -> TuneSettings:
    facts = {
        "model": "hubert-base",
        "source": "",
        "dataset": "esc50",
        "listing": "0" * 64,
        "share": 0.99,
        "milliseconds": 100.0,
        "run_seconds": None,
        "clips": 256,
        "seed": 0,
        "cpu": "AMD EPYC 7B13",
        "cores": 2,
    }
    return TuneSettings.model_validate(facts | other)


def run_of(configuration: str, rate: float, **other: Any) -> TuneRun:
    facts = {
        "configuration": configuration,
        "content_hash": "sha256:0",
        "rung": 0,
        "rate": rate,
        "answers": 100,
        "over": 0,
        "answered": rate,
        "judged_ms": 40.0,
        "late_ms": 0.1,
        "seconds": 1.0,
        "memory_mib": 300.0,
    }
    return TuneRun.model_validate(facts | other)


def form_of(model: str, form: Form, score: float, loss: float, high: float, reason: str = "") -> FormScore:
    return FormScore(
        model=model,
        precision=form.precision,
        cut=form.cut,
        lengths=form.lengths,
        content_hash="sha256:0",
        executed_by=f"{form.precision} on CPUExecutionProvider",
        score=score,
        low=score - 0.02,
        high=score + 0.02,
        loss=loss,
        loss_low=loss - 0.004,
        loss_high=high,
        admissible=not reason,
        reason=reason,
    )


def speed_at(rate: float, rung: int = len(RUNGS) - 1, **other: Any) -> Speed:
    runs = tuple(run_of("any", rate, rung=place) for place in range(rung + 1))
    return Speed(**{"rate": rate, "low": 0.96 * rate, "high": 1.03 * rate, "runs": runs, **other})


def tuning_of(found: dict[Configuration, Speed] | None = None, **other: Any) -> Tuning:
    """Three forms, of which one loses too much, and a handful of configurations."""
    forms = {
        FP32: form_of("hubert-base", FP32, 0.90, 0.0, 0.0),
        INT8: form_of("hubert-base-int8", INT8, 0.893, 0.007, 0.012),
        CUT: form_of("hubert-base-l6", CUT, 0.81, 0.09, 0.11, "it loses more than is allowed"),
    }
    found = found or {
        Configuration(FP32, 8, 1, 2, 2000): speed_at(40.0),
        Configuration(FP32, 1, 2, 1, 0): speed_at(44.0),
        Configuration(FP32, 32, 1, 1, 5000): speed_at(12.0, rung=0),
        Configuration(INT8, 8, 1, 2, 0): speed_at(66.0),
        Configuration(INT8, 8, 2, 1, 0): speed_at(71.0),
        Configuration(INT8, 8, 2, 2, 0): Speed(fault="out of memory"),
    }
    asked: dict[str, Any] = {
        "settings": settings_of(),
        "slo": Slo(0.99, 100),
        "forms": forms,
        "found": found,
        "max_loss": 0.01,
        "max_memory_mib": None,
        "run_seconds": 1.0,
        "ceiling": 1500.0,
        "baseline": "hubert-base",
        "clips": ClipMix(count=24, mean_seconds=2.5, least_seconds=1.0, most_seconds=5.0, unreadable=0),
    }
    return Tuning(**{**asked, **other})
