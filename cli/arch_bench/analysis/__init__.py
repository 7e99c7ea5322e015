"""`analyse`: what the layers of a run's encoders represent."""

from arch_bench.analysis.analysing import Analysed, analyse

__all__ = ["Analysed", "analyse"]
