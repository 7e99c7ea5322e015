"""A running Triton Inference Server over a model repository."""
