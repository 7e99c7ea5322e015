"""The forms of an encoder: exported once each, and scored once each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from arch_common.errors import ArchError
from arch_common.files import whole_file

from arch_bench import api

if TYPE_CHECKING:
    from arch_harness.datasets import Dataset
    from arch_harness.results.run import Run
    from arch_harness.tuning.results import FormScore
    from arch_harness.tuning.space import Form

FORMS = "forms.json"


@dataclass(frozen=True)
class FormModel:
    """A form as an exported model.

    Attributes:
        folder: in a model repository.
        content_hash: of its graph.
        batched: whether it may be served in batches.
        facts: the parameters in its configuration.
    """

    folder: Path
    content_hash: str
    batched: bool
    facts: Mapping[str, str]

    @property
    def name(self) -> str:
        """The model's."""
        return self.folder.name


def model_in(folder: Path) -> FormModel | None:
    """The exported model in a folder; None if there is none."""
    from arch_export.repository.triton_config import read_config

    config = read_config(folder)
    if config is None or "content_hash" not in config.parameters:
        return None
    facts = {key: value.string_value for key, value in config.parameters.items()}
    return FormModel(folder, facts["content_hash"], config.max_batch_size > 1, facts)


def digest_of(checkpoint: str) -> str:
    """What tells the files of a local checkpoint or model from others; the same for all that is elsewhere."""
    folder = Path(checkpoint).expanduser()
    if not folder.is_dir():
        return ""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    facts = [(str(file.relative_to(folder)), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(json.dumps(facts).encode(errors="backslashreplace")).hexdigest()


def export_forms(
    checkpoint: str, forms: Sequence[Form], output: Path, target: str, note: Callable[[str], None]
) -> tuple[dict[Form, FormModel], dict[Form, str]]:
    """Export what an earlier command has not, into a repository of the tuning's own.

    Args:
        checkpoint: as `arch export` takes it.
        forms: the first is the baseline.
        output: folder of the tuning.
        target: of all.
        note: told what is being done.

    Returns:
        The models; and why a form has none.

    Raises:
        ArchError: if the baseline cannot be exported.
    """
    repository = output / "models"
    there = _known(output)
    found: dict[Form, FormModel] = {}
    faults: dict[Form, str] = {}
    for form in forms:
        earlier = model_in(repository / there[str(form)]) if str(form) in there else None
        if earlier is not None:
            found[form] = earlier
            continue
        note(f"exporting {checkpoint} in {form}")
        try:
            exported = api.export(
                checkpoint,
                repository,
                layers=form.layers,
                lengths=form.lengths,
                precision=form.precision,
                target=target,
                on_warning=lambda text: note(f"warning: {text}"),
            )
        except ArchError as error:
            if form == forms[0]:
                raise
            faults[form] = str(error)
            note(f"warning: {form} is left out: {error}")
            continue
        model = model_in(exported.folder)
        if model is None:
            raise ArchError(f"{exported.folder} cannot be read")
        found[form] = model
        there[str(form)] = model.name
        with whole_file(output / FORMS) as file:
            file.write(json.dumps(there, indent=2).encode())
    return found, faults


def _known(output: Path) -> dict[str, str]:
    """Names of the models that earlier commands exported, by form."""
    try:
        found = json.loads((output / FORMS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(form): str(name) for form, name in found.items()} if isinstance(found, dict) else {}


def scored_before(folder: Path, models: Mapping[Form, FormModel], dataset: Dataset) -> Run | None:
    """The run of an earlier command that scored all these models on these clips; None if there is none."""
    try:
        run = api.load(folder).run
    except ArchError:
        return None
    known = {one.name: one.content_hash for one in run.models}
    listings = {one.id: one.listing for one in run.datasets}
    there = {one.model for one in run.outcomes if one.dataset == dataset.id}
    wanted = {one.name: one.content_hash for one in models.values()}
    same = wanted.items() <= known.items() and set(wanted) <= there and listings.get(dataset.id) == dataset.listing
    return run if same and not run.partial else None


def scores_of(
    run: Run, models: Mapping[Form, FormModel], tried: Sequence[Form], max_loss: float
) -> dict[Form, FormScore]:
    """What each form scores and loses, by a run of all of them on one dataset.

    Args:
        run: of `bench`.
        models: of the forms, the baseline first.
        tried: forms whose speed is wanted.
        max_loss: that is allowed.

    Raises:
        ArchError: if the baseline has no score.
    """
    from arch_harness.tuning.choosing import loses_more
    from arch_harness.tuning.results import FormScore

    base = next(iter(models.values())).name
    results = {one.model: one for one in run.results}
    reasons = {one.model: one.reason for one in run.unscored}
    if base not in results:
        raise ArchError(f"the baseline {base} has no score: {reasons.get(base, 'the run tells no reason')}")
    found = {}
    for form, model in models.items():
        result = results.get(model.name)
        loss, low, high = _loss(run, model.name, base)
        reason = ""
        if result is None:
            reason = reasons.get(model.name, "it could not be scored")
        elif form not in tried:
            reason = "it is the baseline only, and was not asked for"
        elif loss is None:
            reason = "it shares no test clips with the baseline"
        elif loses_more(loss, max_loss):
            reason = "it loses more than is allowed"
        interval = None if result is None else result.interval
        facts = next((one for one in run.models if one.name == model.name), None)
        found[form] = FormScore(
            model=model.name,
            precision=form.precision,
            cut=form.cut,
            lengths=form.lengths,
            content_hash=model.content_hash,
            executed_by="" if facts is None else facts.executed_by,
            score=None if result is None else result.score,
            low=None if interval is None else interval.low,
            high=None if interval is None else interval.high,
            loss=None if result is None else loss,
            loss_low=None if result is None else low,
            loss_high=None if result is None else high,
            admissible=not reason,
            reason=reason,
        )
    return found


def _loss(run: Run, model: str, base: str) -> tuple[float | None, float | None, float | None]:
    """Score of the baseline less that of a model on the same clips, and its interval; of the baseline itself 0."""
    if model == base:
        return 0.0, 0.0, 0.0
    for one in run.comparisons:
        if (one.model, one.other) == (base, model):
            return one.difference, one.low, one.high
        if (one.model, one.other) == (model, base):
            return -one.difference, -one.high, -one.low
    return None, None, None


def unscored(form: Form, model: FormModel) -> FormScore:
    """The one form of a tuning of speed alone."""
    from arch_harness.tuning.results import FormScore

    nothing = dict.fromkeys(("score", "low", "high", "loss", "loss_low", "loss_high"))
    return FormScore(
        model=model.name,
        precision=form.precision,
        cut=form.cut,
        lengths=form.lengths,
        content_hash=model.content_hash,
        executed_by="",
        admissible=True,
        reason="",
        **nothing,
    )
