"""The probes that are trained by gradient descent: their parameters and their outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


DROPOUT = 0.1
"""Share of the hidden units that a training step sets to 0."""


@dataclass(frozen=True)
class Network:
    """A linear layer, with a hidden layer before it or a weighted sum of an encoder's layers, or neither.

    The hidden layer is the reference's: as wide as the embedding, ReLU, dropout. The weights of the sum are a
    softmax that is trained with the probe and starts out equal, as in SUPERB and s3prl (arXiv 2105.01051).

    All parameters lie in one row: the logarithms of the sum's weights up to a constant, then each layer as [inputs + 1,
    outputs], its last row the bias.

    Attributes:
        dimensions: of an embedding, or of one of the layers that are summed.
        classes: number of outputs.
        hidden: whether there is a hidden layer.
        summed: how many layers are summed; 0 for none. Not with a hidden layer.
    """

    dimensions: int
    classes: int
    hidden: bool = False
    summed: int = 0

    @property
    def inputs(self) -> int:
        """Numbers per clip that it takes: the embedding, or all layers one after the other."""
        return self.dimensions * max(1, self.summed)

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Inputs and outputs of each layer; the inputs without the bias."""
        hidden = [(self.dimensions, self.dimensions)] if self.hidden else []
        return [*hidden, (self.dimensions, self.classes)]

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.summed + sum((inputs + 1) * outputs for inputs, outputs in self.shapes)

    def split(self, parameters: Any) -> tuple[Any, list[Any]]:
        """Views of parameters [..., size], of NumPy or torch: [..., summed], and each layer [..., inputs + 1, outputs].

        Needs the last axis to be contiguous.
        """
        layers, start = [], self.summed
        for inputs, outputs in self.shapes:
            end = start + (inputs + 1) * outputs
            layers.append(parameters[..., start:end].reshape(*parameters.shape[:-1], inputs + 1, outputs))
            start = end
        return parameters[..., : self.summed], layers

    def initialise(self, random: np.random.Generator) -> NDArray[np.float32]:
        """Initial parameters, FP32 [size]: layers uniform in +-1/sqrt(inputs) as torch.nn.Linear's, the rest 0."""
        drawn = [np.zeros(self.summed, dtype=np.float32)]
        for inputs, outputs in self.shapes:
            bound = inputs**-0.5
            drawn.append(random.uniform(-bound, bound, (inputs + 1) * outputs).astype(np.float32))
        return np.concatenate(drawn)

    def weights(self, parameters: NDArray[np.float32]) -> NDArray[np.float32]:
        """The weights of the summed layers, FP32 [..., summed]; each row sums to 1."""
        mixing, _ = self.split(parameters)
        raised = np.exp(mixing - mixing.max(axis=-1, keepdims=True))
        normalised: NDArray[np.float32] = raised / raised.sum(axis=-1, keepdims=True)
        return normalised

    def logits(self, parameters: NDArray[np.float32], inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs [clips, classes], as they are scored: without dropout.

        Args:
            parameters: FP32 [size].
            inputs: FP32 [clips, `inputs`].
        """
        _, layers = self.split(parameters)
        if self.summed:
            inputs = np.matmul(self.weights(parameters), inputs.reshape(len(inputs), self.summed, self.dimensions))
        for layer in layers[:-1]:
            inputs = np.maximum(inputs @ layer[:-1] + layer[-1], 0)
        outputs: NDArray[np.float32] = inputs @ layers[-1][:-1] + layers[-1][-1]
        return outputs
