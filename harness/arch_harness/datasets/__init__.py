"""The datasets: declarations, what lies on the disk, and how it is split."""

from arch_harness.datasets.dataset import Dataset, load_dataset
from arch_harness.datasets.declaration import Clip, Declaration, Fold, Listing

__all__ = ["Clip", "Dataset", "Declaration", "Fold", "Listing", "load_dataset"]
