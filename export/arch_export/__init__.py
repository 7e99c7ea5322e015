"""Checkpoint to verified ONNX encoder in a Triton model repository."""
