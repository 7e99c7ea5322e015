"""Which preprocessing ablations each model of a run can have, and from where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from arch_common.errors import UsageError

from arch_harness.datasets.preprocessing import Preprocessing
from arch_harness.results.checks.ablations import aspect_of

if TYPE_CHECKING:
    from arch_harness.results.checks.ablations import AblationSetting
    from arch_harness.results.run import ModelFacts

BY_CLIENT: dict[AblationSetting, Preprocessing] = {
    "normalisation=on": Preprocessing(normalised=True),
    "resampler=soxr-qq": Preprocessing(quality="QQ"),
    "resampler=soxr-lq": Preprocessing(quality="LQ"),
    "resampler=soxr-vhq": Preprocessing(quality="VHQ"),
    "loudness=peak": Preprocessing(loudness="peak"),
    "loudness=rms": Preprocessing(loudness="rms"),
    "length=centre": Preprocessing(part="centre"),
    "length=first-half": Preprocessing(share=0.5),
    "length=centre-half": Preprocessing(part="centre", share=0.5),
}
"""What is done before a clip is sent. The other settings are in a model's graph, where nothing undoes them."""

_NEVER = "none"
_LOGMEL = "logmel"


@dataclass(frozen=True)
class Planned:
    """One setting of one model.

    Attributes:
        setting: which one.
        variant: the model of the run that has it in its graph; None where the client does it.
    """

    setting: AblationSetting
    variant: str | None = None


@dataclass(frozen=True)
class AblationPlan:
    """What is ablated.

    Attributes:
        of_model: the settings of each model, by its name.
        left_out: what was asked for and cannot be, a line each, with what to do.
    """

    of_model: dict[str, list[Planned]]
    left_out: list[str]


def plan_ablations(models: Sequence[ModelFacts], asked: Sequence[AblationSetting]) -> AblationPlan:
    """Find for each model what of the settings it can have.

    Raises:
        UsageError: if no model can have anything of an aspect that was asked for.
    """
    plan = AblationPlan({model.name: [] for model in models}, [])
    for aspect in dict.fromkeys(map(aspect_of, asked)):
        settings = [one for one in asked if aspect_of(one) == aspect]
        lines = []
        for model in models:
            found = [planned for one in settings if (planned := _planned(model, models, one))]
            plan.of_model[model.name] += found
            if not found and not _is_twin(model, models, aspect):
                lines.append(f"--ablate {aspect}: {_why_not(model, settings[0])}")
        if len(lines) == len(models):
            raise UsageError(lines[0])
        plan.left_out.extend(lines)
    return plan


def _planned(model: ModelFacts, models: Sequence[ModelFacts], setting: AblationSetting) -> Planned | None:
    if setting == "normalisation=on" and model.normalization != _NEVER:
        return None  # its graph would undo it
    if setting in BY_CLIENT:
        return Planned(setting)
    if setting == "padding=exact" and model.lengths == "padded":
        variant = _twin(model, models, lengths="exact", normalised=model.normalization != _NEVER)
    elif setting == "normalisation=off" and model.normalization not in ("", _NEVER):
        variant = _twin(model, models, lengths=model.lengths, normalised=False)
    else:
        return None
    return Planned(setting, variant) if variant else None


def _twin(model: ModelFacts, models: Sequence[ModelFacts], lengths: str, normalised: bool) -> str | None:
    """Another export of the same checkpoint, cut at the same layer and in the same precision."""
    for other in models:
        alike = all(
            getattr(other, name) == getattr(model, name)
            for name in ("source", "revision", "precision", "cut_after_layer", "embedding_size", "sample_rate")
        )
        told = other is not model and other.lengths == lengths and other.normalization
        if alike and told and (other.normalization != _NEVER) == normalised:
            return other.name
    return None


def _is_twin(model: ModelFacts, models: Sequence[ModelFacts], aspect: str) -> bool:
    """Whether it is the exact form of a padded model of the run, beside which it is shown."""
    normalised = model.normalization != _NEVER
    return aspect == "padding" and model.lengths == "exact" and _twin(model, models, "padded", normalised) is not None


def _why_not(model: ModelFacts, setting: AblationSetting) -> str:
    """Why a model has no such setting, and what to do."""
    name = model.name
    if not model.lengths or not model.normalization:
        return f"{name} was exported by an earlier arch, which did not write what it does there: export it again"
    if setting == "padding=exact":
        if model.family == _LOGMEL:
            return f"{name} has no form that leaves padding out"
        if model.lengths == "exact":
            return (
                f"{name} leaves padding out already; what it is compared with is the padded export, without --lengths"
            )
        return f"{name} needs its exact form beside it: {_command(model, '--lengths exact')}, and bench both"
    if setting == "normalisation=off" and model.normalization != _NEVER:
        return f"{name} normalises in its graph: {_command(model, '--unnormalised')}, and bench both"
    if setting == "normalisation=off":
        return f"{name} does not normalise"
    return f"{name} normalises in its graph, which undoes what is done before: ablate normalisation=off"


def _command(model: ModelFacts, option: str) -> str:
    source = "CHECKPOINT" if model.source.startswith("local:") else model.source
    words = ["arch export", source, option]
    words += [f"--lengths {model.lengths}"] if model.lengths == "exact" else []
    words += [f"--layers {model.cut_after_layer}"] if model.cut_after_layer else []
    words += [f"--precision {model.precision}"] if model.precision != "fp32" else []
    return " ".join(words)
