"""What is exported, and the original that it is checked against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from arch_common.errors import ExportUsageError

from arch_export.checkpoint.aliases import ALIASES, LOGMEL, SEE_CARD
from arch_export.checkpoint.configuration import build_skeleton
from arch_export.checkpoint.files import Checkpoint, fp32_size
from arch_export.checkpoint.loading import FeatureExtractor, is_untrained, load_encoder, read_feature_extractor
from arch_export.checkpoint.locate import locate
from arch_export.encoder import logmel
from arch_export.encoder.clip_encoder import ClipEncoder, Normalization
from arch_export.encoder.cuda_encoder import CudaEncoder
from arch_export.encoder.feature_encoder import receptive_field
from arch_export.encoder.options import EncoderOptions, Lengths
from arch_export.verify import parity

if TYPE_CHECKING:
    from numpy.typing import NDArray

Step = Callable[[str], None]


@dataclass(frozen=True)
class Original:
    """A loaded model.

    Attributes:
        reference: its embeddings.
        as_module: makes waveform, num_samples -> the outputs out of it, for CPUs or, given the precision of its weights
            and hidden states, for CUDA; it is of no use afterwards.
        parameter_count: of the whole model, whatever is cut off.
        untrained: whether its weights are as before any training.
    """

    reference: parity.Reference
    as_module: Callable[[torch.dtype | None], torch.nn.Module]
    parameter_count: int
    untrained: bool = False


@dataclass(frozen=True)
class ExportSource:
    """What is exported.

    Attributes:
        checkpoint_name: what the model is called after unless told otherwise.
        outputs: the names of the graph's outputs.
        sample_rate: in Hz.
        encoder_options: how many layers, and what padding does.
        size: of the weights in fp32, in bytes, about.
        facts: what config.pbtxt says of it.
        load: reads the weights. Not before they are needed: they are large.
    """

    checkpoint_name: str
    outputs: list[str]
    sample_rate: int
    encoder_options: EncoderOptions
    size: int
    facts: dict[str, str]
    load: Callable[[], Original]


def open_source(reference: str, encoder_options: EncoderOptions, on_step: Step, on_warning: Step) -> ExportSource:
    """Find what `reference` means: an alias, a hub id, a checkpoint folder, or `logmel`.

    Args:
        reference: as above.
        encoder_options: how many layers, and what padding does.
        on_step: told what is being done.
        on_warning: told what the user should know although the export goes on.

    Raises:
        ExportUsageError: if there is no such checkpoint, or it is not supported in this encoder_options.
        ExportError: if it cannot be downloaded.
    """
    if reference == LOGMEL:
        return _logmel(encoder_options)
    on_step("finding the checkpoint")
    checkpoint = locate(reference, on_warning)
    extractor = read_feature_extractor(checkpoint, on_warning)
    skeleton: Any = build_skeleton(checkpoint.config, checkpoint.source)
    if getattr(skeleton, "adapter", None) is not None:
        raise ExportUsageError(f"{checkpoint.source} has an adapter after its encoder (add_adapter): not supported")
    layers = len(skeleton.encoder.layers)
    if encoder_options.cut_after_layer is not None and encoder_options.cut_after_layer > layers:
        raise ExportUsageError(f"--layers {encoder_options.cut_after_layer}: {checkpoint.source} has {layers} layers")
    exact = encoder_options.lengths is Lengths.EXACT
    normalization = extractor.normalization
    if encoder_options.unnormalised:
        if normalization is Normalization.NONE:
            raise ExportUsageError(f"--unnormalised: {checkpoint.source} does not ask for normalisation: leave it out")
        normalization = Normalization.NONE
        extractor.features.do_normalize = False
    if exact and normalization is Normalization.WHOLE:
        normalization = Normalization.VALID  # the statistics that the clip has alone, unpadded

    def load() -> Original:
        on_step("loading the checkpoint")
        model = load_encoder(checkpoint, on_warning)
        return Original(
            _torch_reference(model, extractor, encoder_options),
            lambda dtype: (
                CudaEncoder(model, normalization, encoder_options, dtype)
                if dtype is not None
                else ClipEncoder(model, normalization, encoder_options)
            ),
            sum(parameter.numel() for parameter in model.parameters()),
            is_untrained(model),
        )

    return ExportSource(
        checkpoint_name=checkpoint.name,
        outputs=["embedding", "layer_embeddings"] if encoder_options.all_layers else ["embedding"],
        sample_rate=extractor.sample_rate,
        encoder_options=encoder_options,
        size=fp32_size(checkpoint.folder),
        facts=_facts(checkpoint, normalization, extractor, skeleton),
        load=load,
    )


def _facts(
    checkpoint: Checkpoint, normalization: Normalization, extractor: FeatureExtractor, skeleton: Any
) -> dict[str, str]:
    sizes = [(layer.conv.kernel_size[0], layer.conv.stride[0]) for layer in skeleton.feature_extractor.conv_layers]
    facts = {
        "source": checkpoint.source,
        "revision": checkpoint.revision,
        "family": checkpoint.family,
        "normalization": str(normalization),
        "sample_rate": str(extractor.sample_rate),
        "receptive_field": str(receptive_field(sizes)),
    }
    if not extractor.is_default:
        facts["checkpoint_normalization"] = str(extractor.normalization)
        facts["checkpoint_sample_rate"] = str(extractor.sample_rate)
    known = {alias.checkpoint: alias.licence for alias in ALIASES.values() if alias.licence != SEE_CARD}
    licence = checkpoint.licence or known.get(checkpoint.source)
    return facts | {"licence": licence} if licence else facts


def _torch_reference(
    model: torch.nn.Module, extractor: FeatureExtractor, encoder_options: EncoderOptions
) -> parity.Reference:
    """Embed as the ARCH reference does: transformers' own feature extractor, no attention mask, mean over frames.

    With `Lengths.EXACT`, each clip alone and without padding.
    """

    def embed(clip: NDArray[np.float32], length: int) -> NDArray[np.floating[Any]]:
        padding = (
            {"padding": False}
            if encoder_options.lengths is Lengths.EXACT
            else {"padding": "max_length", "max_length": length, "truncation": True}
        )
        inputs = extractor.features([clip], sampling_rate=extractor.sample_rate, return_tensors="pt", **padding)
        with torch.inference_mode():
            output = model(
                inputs["input_values"],
                output_hidden_states=encoder_options.all_layers or encoder_options.cut_after_layer is not None,
            )
        states = [output.last_hidden_state]
        if encoder_options.cut_after_layer is not None:
            states = [output.hidden_states[encoder_options.cut_after_layer]]
        elif encoder_options.all_layers:
            states += output.hidden_states
        return np.stack([frames[0].mean(dim=0).numpy() for frames in states])

    return embed


def _logmel(encoder_options: EncoderOptions) -> ExportSource:
    if encoder_options.all_layers or encoder_options.cut_after_layer is not None:
        raise ExportUsageError(f"{LOGMEL} has no layers")
    if encoder_options.lengths is not Lengths.PADDED:
        raise ExportUsageError(f"{LOGMEL} counts padding: export it with --lengths padded")
    if encoder_options.unnormalised:
        raise ExportUsageError(f"{LOGMEL} does not normalise: leave --unnormalised out")

    def embed(clip: NDArray[np.float32], length: int) -> NDArray[np.floating[Any]]:
        return logmel.reference(np.pad(clip, (0, length - len(clip))))[None]

    return ExportSource(
        checkpoint_name=LOGMEL,
        outputs=["embedding"],
        sample_rate=logmel.SAMPLE_RATE,
        encoder_options=encoder_options,
        size=0,
        facts={
            "source": f"builtin:{LOGMEL}",
            "revision": version("arch-bench"),
            "family": LOGMEL,
            "normalization": str(Normalization.NONE),
            "sample_rate": str(logmel.SAMPLE_RATE),
            "receptive_field": str(logmel.WINDOW),
        },
        load=lambda: Original(embed, lambda _: logmel.LogMel().eval(), 0),
    )
