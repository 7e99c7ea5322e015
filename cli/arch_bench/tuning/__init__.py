"""`tune`: an encoder's precision, cut and serving, chosen by measurements."""

from arch_bench.tuning.tuning import Tuned, tune

__all__ = ["Tuned", "tune"]
