"""The ONNX graph: traced from torch, converted to other precisions, run."""
