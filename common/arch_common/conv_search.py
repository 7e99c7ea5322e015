"""How cuDNN's algorithms for convolutions are chosen: what an export asks for, a server does, and results name.

It needs nothing of arch: `arch_serve` copies it beside the server's backend, as it does `session.py`.
"""

from __future__ import annotations

PARAMETER = "cudnn_conv_algo_search"
"""As the backends' parameter and the option of ONNX Runtime's CUDA provider are called."""

NUMBERS = {"exhaustive": "0", "heuristic": "1", "default": "2"}
"""By which NVIDIA's backend knows each; the provider knows it by its name in capitals."""

USUAL = "heuristic"
"""ONNX Runtime's own default, exhaustive, tries out every convolution again for every new input shape."""


def name_of(number: str) -> str:
    """The name of a parameter's value; the usual one for one that is not known."""
    return next((name for name, known in NUMBERS.items() if known == number), USUAL)
