"""What is exported, and the original that it is checked against."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from arch_export import logmel, parity
from arch_export.checkpoints import Checkpoint, locate
from arch_export.encoder import ClipEncoder, FeatureExtractor, Normalization, load_encoder, read_feature_extractor
from arch_export.errors import ExportUsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOGMEL = "logmel"

Step = Callable[[str], None]


@dataclass(frozen=True)
class Subject:
    """What is exported, and what it is checked against.

    Attributes:
        name: what the model is called unless told otherwise.
        module: waveform, num_samples -> the outputs.
        outputs: the names of the module's outputs.
        reference: the original's embeddings, of the unchanged module: ask it before the module is rewritten.
        extractor: what happens to the waveform first, and its sample rate.
        source: see `Checkpoint`.
        revision: see `Checkpoint`.
        family: see `Checkpoint`.
    """

    name: str
    module: torch.nn.Module
    outputs: list[str]
    reference: parity.Reference
    extractor: FeatureExtractor
    source: str
    revision: str
    family: str


def open_subject(reference: str, layers: bool, on_step: Step) -> Subject:
    """Find and load what `reference` means: an alias, a hub id, a checkpoint folder, or `logmel`.

    Raises:
        ExportUsageError: if there is no such checkpoint or it is not supported.
        ExportError: if it cannot be downloaded.
    """
    if reference != LOGMEL:
        return _checkpoint(reference, layers, on_step)
    if layers:
        raise ExportUsageError(f"{LOGMEL} has no layers")
    return _logmel()


def _checkpoint(reference: str, layers: bool, on_step: Step) -> Subject:
    on_step("finding the checkpoint")
    checkpoint = locate(reference)
    on_step("loading the checkpoint")
    extractor = read_feature_extractor(checkpoint.folder)
    encoder = load_encoder(checkpoint)
    return Subject(
        name=re.sub(r"[^A-Za-z0-9._-]+", "-", checkpoint.name).lstrip("."),
        module=ClipEncoder(encoder, extractor.normalization, layers),
        outputs=["embedding", "layer_embeddings"] if layers else ["embedding"],
        reference=_torch_reference(checkpoint, encoder, extractor, layers),
        extractor=extractor,
        source=checkpoint.source,
        revision=checkpoint.revision,
        family=checkpoint.family,
    )


def _torch_reference(
    checkpoint: Checkpoint, encoder: torch.nn.Module, extractor: FeatureExtractor, layers: bool
) -> parity.Reference:
    """Embed as the ARCH reference does: transformers' own feature extractor, no attention mask, mean over frames."""
    from transformers import AutoFeatureExtractor

    try:
        features = AutoFeatureExtractor.from_pretrained(checkpoint.folder, local_files_only=True)
    except Exception as error:  # transformers raises whatever the file at fault provokes
        reason = str(error).strip().splitlines()[0]
        raise ExportUsageError(f"the feature extractor of {checkpoint.source} cannot be loaded: {reason}") from error

    def embed(clip: NDArray[np.float32], length: int) -> NDArray[np.floating[Any]]:
        inputs = features(
            [clip],
            sampling_rate=extractor.sample_rate,
            padding="max_length",
            max_length=length,
            truncation=True,
            return_tensors="pt",
        )
        with torch.no_grad():
            output = encoder(inputs["input_values"], output_hidden_states=layers)
        states = [output.last_hidden_state, *(output.hidden_states if layers else ())]
        return np.stack([frames[0].mean(dim=0).numpy() for frames in states])

    return embed


def _logmel() -> Subject:
    def embed(clip: NDArray[np.float32], length: int) -> NDArray[np.floating[Any]]:
        return logmel.reference(np.pad(clip, (0, length - len(clip))))[None]

    return Subject(
        name=LOGMEL,
        module=logmel.LogMel().eval(),
        outputs=["embedding"],
        reference=embed,
        extractor=FeatureExtractor(Normalization.NONE, logmel.SAMPLE_RATE),
        source=f"builtin:{LOGMEL}",
        revision=version("arch-bench"),
        family=LOGMEL,
    )
