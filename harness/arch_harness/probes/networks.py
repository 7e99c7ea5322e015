"""The probes that are trained by gradient descent: their parameters, forward pass and gradients.

Every array has a leading axis over problems that are trained side by side. All parameters of a problem lie in one row,
so that the optimiser sees one array. A layer lies in it as [inputs + 1, outputs]: the bias is the last row, and the
layer's inputs end in a column of ones, so one product serves both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

DROPOUT = 0.1


class Network(Protocol):
    """What training needs of a probe.

    Attributes:
        size: number of parameters.
    """

    size: int

    def initialise(self, random: np.random.Generator) -> NDArray[np.float32]:
        """Initial parameters, FP32 [size], uniform in +-1/sqrt(inputs) as torch.nn.Linear's."""

    def logits(self, parameters: NDArray[np.float32], inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs [problems, clips, classes], as they are scored: without dropout.

        Args:
            parameters: FP32 [problems, size].
            inputs: FP32 [problems, clips, dimensions + 1] or [clips, dimensions + 1], the last column 1.
        """

    def forward(
        self,
        parameters: NDArray[np.float32],
        inputs: NDArray[np.float32],
        random: Sequence[np.random.Generator],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Training's outputs, and the inputs of the last layer; `random` holds a generator per problem."""

    def backward(
        self,
        parameters: NDArray[np.float32],
        inputs: NDArray[np.float32],
        hidden: NDArray[np.float32],
        residual: NDArray[np.float32],
        gradients: NDArray[np.float32],
    ) -> None:
        """Write the gradients [problems, size].

        Args:
            parameters: as given to `forward`, and so are the inputs.
            inputs: see there.
            hidden: what `forward` returned beside the outputs.
            residual: the loss's gradient at the outputs, [problems, clips, classes].
            gradients: overwritten.
        """


def _draw(random: np.random.Generator, inputs: int, outputs: int) -> NDArray[np.float32]:
    bound = inputs**-0.5
    return random.uniform(-bound, bound, (inputs + 1) * outputs).astype(np.float32)


class Linear:
    """One linear layer.

    Args:
        dimensions: of the embeddings.
        classes: number of outputs.
    """

    def __init__(self, dimensions: int, classes: int) -> None:
        self._dimensions, self._classes = dimensions, classes
        self.size = classes * (dimensions + 1)

    def layer(self, parameters: NDArray[np.float32]) -> NDArray[np.float32]:
        """The layer as [problems, dimensions + 1, classes]; a view."""
        return parameters.reshape(len(parameters), self._dimensions + 1, self._classes)

    def initialise(self, random: np.random.Generator) -> NDArray[np.float32]:
        """See `Network`."""
        return _draw(random, self._dimensions, self._classes)

    def logits(self, parameters: NDArray[np.float32], inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Network`."""
        outputs: NDArray[np.float32] = np.matmul(inputs, self.layer(parameters))
        return outputs

    def forward(
        self,
        parameters: NDArray[np.float32],
        inputs: NDArray[np.float32],
        random: Sequence[np.random.Generator],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See `Network`."""
        del random
        return self.logits(parameters, inputs), inputs

    def backward(
        self,
        parameters: NDArray[np.float32],
        inputs: NDArray[np.float32],
        hidden: NDArray[np.float32],
        residual: NDArray[np.float32],
        gradients: NDArray[np.float32],
    ) -> None:
        """See `Network`."""
        del parameters, inputs
        np.matmul(hidden.transpose(0, 2, 1), residual, out=self.layer(gradients))


class Mlp:
    """The reference's non-linear probe: one hidden layer as wide as the embedding, dropout 0.1, ReLU.

    Args:
        dimensions: of the embeddings.
        classes: number of outputs.
    """

    def __init__(self, dimensions: int, classes: int) -> None:
        self._dimensions, self._classes = dimensions, classes
        self._split = (dimensions + 1) * dimensions
        self.size = self._split + (dimensions + 1) * classes

    def _layers(self, parameters: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        rows = self._dimensions + 1
        return (
            parameters[:, : self._split].reshape(len(parameters), rows, self._dimensions),
            parameters[:, self._split :].reshape(len(parameters), rows, self._classes),
        )

    def initialise(self, random: np.random.Generator) -> NDArray[np.float32]:
        """See `Network`."""
        layers = [_draw(random, self._dimensions, outputs) for outputs in (self._dimensions, self._classes)]
        return np.concatenate(layers)

    def _hidden(self, first: NDArray[np.float32], inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        hidden = np.ones((len(first), inputs.shape[-2], self._dimensions + 1), dtype=np.float32)
        np.maximum(np.matmul(inputs, first), 0, out=hidden[..., :-1])
        return hidden

    def logits(self, parameters: NDArray[np.float32], inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Network`."""
        first, last = self._layers(parameters)
        outputs: NDArray[np.float32] = np.matmul(self._hidden(first, inputs), last)
        return outputs

    def forward(
        self,
        parameters: NDArray[np.float32],
        inputs: NDArray[np.float32],
        random: Sequence[np.random.Generator],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See `Network`."""
        first, last = self._layers(parameters)
        hidden = self._hidden(first, inputs)
        for units, generator in zip(hidden[..., :-1], random, strict=True):
            units *= generator.random(units.shape, dtype=np.float32) >= DROPOUT
            units *= np.float32(1 / (1 - DROPOUT))
        return np.matmul(hidden, last), hidden

    def backward(
        self,
        parameters: NDArray[np.float32],
        inputs: NDArray[np.float32],
        hidden: NDArray[np.float32],
        residual: NDArray[np.float32],
        gradients: NDArray[np.float32],
    ) -> None:
        """See `Network`."""
        _, last = self._layers(parameters)
        first_gradients, last_gradients = self._layers(gradients)
        np.matmul(hidden.transpose(0, 2, 1), residual, out=last_gradients)
        back = np.matmul(residual, last[:, :-1].transpose(0, 2, 1))
        # A hidden unit that ReLU or dropout set to 0 passes no gradient back.
        back *= hidden[..., :-1] > 0
        back *= np.float32(1 / (1 - DROPOUT))
        np.matmul(inputs.transpose(0, 2, 1), back, out=first_gradients)


class WeightedSum:
    """A linear layer on a weighted sum of an encoder's layers; the weights are a softmax and start out equal.

    Source: SUPERB's and s3prl's way to use frozen encoders (arXiv 2105.01051). Inputs hold all layers of a clip in one
    row.

    Args:
        layers: number of layers.
        dimensions: of each layer.
        classes: number of outputs.
    """

    def __init__(self, layers: int, dimensions: int, classes: int) -> None:
        self._layers, self._dimensions = layers, dimensions
        self._linear = Linear(dimensions, classes)
        self.size = layers + self._linear.size

    def weights(self, parameters: NDArray[np.float32]) -> NDArray[np.float32]:
        """The weights of the layers, FP32 [problems, layers]; each row sums to 1."""
        raised = np.exp(parameters[:, : self._layers] - parameters[:, : self._layers].max(axis=1, keepdims=True))
        normalised: NDArray[np.float32] = raised / raised.sum(axis=1, keepdims=True)
        return normalised

    def _stacked(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        return inputs[..., :-1].reshape(*inputs.shape[:-1], self._layers, self._dimensions)

    def _mix(self, parameters: NDArray[np.float32], inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        stacked = self._stacked(inputs)
        mixed = np.ones((len(parameters), stacked.shape[-3], self._dimensions + 1), dtype=np.float32)
        # [problems, 1, 1, layers] x [..., clips, layers, dimensions]
        np.matmul(self.weights(parameters)[:, None, None, :], stacked, out=mixed[..., None, :-1])
        return mixed

    def initialise(self, random: np.random.Generator) -> NDArray[np.float32]:
        """See `Network`."""
        return np.concatenate([np.zeros(self._layers, dtype=np.float32), self._linear.initialise(random)])

    def logits(self, parameters: NDArray[np.float32], inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Network`."""
        return self._linear.logits(parameters[:, self._layers :], self._mix(parameters, inputs))

    def forward(
        self,
        parameters: NDArray[np.float32],
        inputs: NDArray[np.float32],
        random: Sequence[np.random.Generator],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See `Network`."""
        del random
        mixed = self._mix(parameters, inputs)
        return self._linear.logits(parameters[:, self._layers :], mixed), mixed

    def backward(
        self,
        parameters: NDArray[np.float32],
        inputs: NDArray[np.float32],
        hidden: NDArray[np.float32],
        residual: NDArray[np.float32],
        gradients: NDArray[np.float32],
    ) -> None:
        """See `Network`."""
        linear = parameters[:, self._layers :]
        self._linear.backward(linear, inputs, hidden, residual, gradients[:, self._layers :])
        back = np.matmul(residual, self._linear.layer(linear)[:, :-1].transpose(0, 2, 1))
        of_weights = np.einsum("pbd,pbld->pl", back, self._stacked(inputs))
        weights = self.weights(parameters)
        gradients[:, : self._layers] = weights * (of_weights - (weights * of_weights).sum(axis=1, keepdims=True))
