"""The checkpoints that have a short name, and the architectures that can be exported."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Alias:
    """A short name of a checkpoint on the hub.

    Attributes:
        checkpoint: the hub id.
        parameters_m: of the encoder, in millions.
        licence: as the model card's metadata names it; `see model card` where that names none.
    """

    checkpoint: str
    parameters_m: int
    licence: str


_APACHE = "apache-2.0"
SEE_CARD = "see model card"

# The checkpoints of the ARCH tables (arXiv 2405.00934), by size.
ALIASES: dict[str, Alias] = {
    "wav2vec2-base": Alias("facebook/wav2vec2-base", 95, _APACHE),
    "wavlm-base": Alias("microsoft/wavlm-base", 95, SEE_CARD),
    "wavlm-base-plus": Alias("microsoft/wavlm-base-plus", 95, SEE_CARD),
    "hubert-base": Alias("facebook/hubert-base-ls960", 95, _APACHE),
    "data2vec-base": Alias("facebook/data2vec-audio-base", 93, _APACHE),
    "wav2vec2-base-as": Alias("ALM/wav2vec2-base-audioset", 95, SEE_CARD),
    "hubert-base-as": Alias("ALM/hubert-base-audioset", 95, SEE_CARD),
    "wav2vec2-large-robust": Alias("facebook/wav2vec2-large-robust", 317, _APACHE),
    "xls-r-300m": Alias("facebook/wav2vec2-xls-r-300m", 317, _APACHE),
    "wavlm-large": Alias("microsoft/wavlm-large", 317, SEE_CARD),
    "hubert-large": Alias("facebook/hubert-large-ll60k", 317, _APACHE),
    "data2vec-large": Alias("facebook/data2vec-audio-large", 313, _APACHE),
    "wav2vec2-large-as": Alias("ALM/wav2vec2-large-audioset", 317, SEE_CARD),
    "hubert-large-as": Alias("ALM/hubert-large-audioset", 317, SEE_CARD),
    "xls-r-1b": Alias("facebook/wav2vec2-xls-r-1b", 964, _APACHE),
    "hubert-xlarge": Alias("facebook/hubert-xlarge-ll60k", 964, _APACHE),
}

# The built-in features: no checkpoint, but named as one.
LOGMEL = "logmel"

FAMILIES = ("data2vec-audio", "hubert", "unispeech", "unispeech-sat", "wav2vec2", "wavlm")
