"""`arch reproduce`: checkpoints on datasets, set beside what the authors of ARCH published."""

from arch_bench.reproduction.experiments import EXPERIMENTS
from arch_bench.reproduction.plan import Plan
from arch_bench.reproduction.run import Reproduced, plan_reproduction, reproduce

__all__ = ["EXPERIMENTS", "Plan", "Reproduced", "plan_reproduction", "reproduce"]
