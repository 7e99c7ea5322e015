"""Which form of an encoder is exported: how many of its layers, and what it makes of padding."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from arch_common.errors import ExportUsageError


class Lengths(StrEnum):
    """What padding does to an embedding."""

    PADDED = "padded"
    """It counts as audio, as in the ARCH protocol: the embedding depends on the length that a clip is padded to."""
    EXACT = "exact"
    """Nothing: norms, convolutions, attention and the mean see the clip's own samples only."""


@dataclass(frozen=True)
class EncoderOptions:
    """A form of an encoder.

    Attributes:
        all_layers: a second output holds every layer's mean hidden state.
        cut_after_layer: the encoder ends after this layer, counted from 1, and the embedding is its mean hidden state.
        lengths: what padding does.
        unnormalised: the waveform is taken as it is, though the checkpoint asks for its normalisation.
    """

    all_layers: bool = False
    cut_after_layer: int | None = None
    lengths: Lengths = Lengths.PADDED
    unnormalised: bool = False

    @classmethod
    def parse(cls, layers: str = "none", lengths: str = "padded", unnormalised: bool = False) -> EncoderOptions:
        """Read what the command line says: `layers` is none, all or a number; `lengths` is padded or exact.

        Raises:
            ExportUsageError: if it says something else.
        """
        if lengths not in set(Lengths):
            raise ExportUsageError(f"--lengths {lengths!r}: use {' or '.join(Lengths)}")
        if layers not in ("none", "all") and not re.fullmatch(r"0*[1-9][0-9]{0,3}", layers):
            raise ExportUsageError(
                f"--layers {layers!r}: use none, all, or the number of the layer to cut after, from 1"
            )
        cut = int(layers) if layers not in ("none", "all") else None
        return cls(layers == "all", cut, Lengths(lengths), unnormalised)

    @property
    def suffix(self) -> str:
        """What a model of this form is called after its checkpoint's name."""
        cut = f"-l{self.cut_after_layer}" if self.cut_after_layer else ""
        exact = "-exact" if self.lengths is Lengths.EXACT else ""
        return cut + exact + ("-unnormalised" if self.unnormalised else "")
