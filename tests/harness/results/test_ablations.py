"""Names of ablations, and their place in `results.json`."""

from __future__ import annotations

from typing import Any

import pytest
from arch_common.errors import UsageError
from arch_harness.results.checks.ablations import ASPECTS, SETTINGS, settings_of
from arch_harness.results.run import Run
from pydantic import ValidationError
from support.runs import ablation, small


def test_aspects_stand_for_their_settings() -> None:
    assert ASPECTS == ("padding", "normalisation", "resampler", "loudness", "length")
    assert settings_of(["padding,normalisation", "resampler, loudness,length"]) == list(SETTINGS)
    assert settings_of(["loudness"]) == ["loudness=peak", "loudness=rms"]
    assert settings_of(["length=centre,loudness=peak", "loudness=peak"]) == ["loudness=peak", "length=centre"]
    assert settings_of([]) == []


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("volume", "--ablate 'volume': there is padding, normalisation, resampler, loudness, length"),
        ("loudness=lufs", "--ablate 'loudness=lufs': there is loudness=peak, loudness=rms"),
    ],
)
def test_what_there_is_not_is_told_with_what_there_is(asked: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        settings_of([asked])
    assert str(caught.value) == message


def test_an_earlier_file_still_validates() -> None:
    document: dict[str, Any] = small().model_dump(mode="json")
    for name in ("ablations", "unablated"):
        del document[name]
    del document["settings"]["ablate"]
    for name in ("lengths", "normalization", "cut_after_layer"):
        del document["models"][0][name]
    assert Run.model_validate(document) == small()


def test_an_ablation_without_its_result_is_refused() -> None:
    run = small()
    document = run.model_dump(mode="json") | {"ablations": [ablation(run, "loudness=peak").model_dump(mode="json")]}
    assert len(Run.model_validate(document).ablations) == 1
    with pytest.raises(ValidationError, match="an ablation on 'esc50' names a model without a result there"):
        Run.model_validate(document | {"results": []})
