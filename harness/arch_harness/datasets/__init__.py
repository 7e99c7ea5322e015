"""The datasets: one declaration a module; the protocol (decode, stream, probe, score) is elsewhere and exists once."""

from __future__ import annotations

from arch_harness.datasets import audio_mnist, demo, esc50
from arch_harness.datasets.base import Clip, Dataset, Declaration, Fold, load_dataset

DECLARATIONS: dict[str, Declaration] = {
    declaration.id: declaration for declaration in (audio_mnist.DECLARATION, esc50.DECLARATION, demo.DECLARATION)
}

__all__ = ["DECLARATIONS", "Clip", "Dataset", "Declaration", "Fold", "load_dataset"]
