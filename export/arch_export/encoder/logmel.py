"""The floor that any pretrained encoder must beat: mean and standard deviation over time of 80 log-mel bands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLE_RATE = 16000
BANDS = 80
WINDOW = 400  # 25 ms
HOP = 160  # 10 ms
# Power 100 dB below a full-scale tone ((WINDOW / 4) ** 2 under this window). Levels count from here, so that silence
# and padding are 0: a linear probe trained for a fixed number of steps cannot work off a large common offset.
FLOOR = 1e-6


def mel_filters(bands: int = BANDS, bins: int = WINDOW // 2 + 1, sample_rate: int = SAMPLE_RATE) -> NDArray[np.float64]:
    """Triangular filters on the HTK mel scale from 0 Hz to half the sample rate.

    Returns:
        FP64 [bands, bins]; each filter peaks at 1.
    """
    top = 2595 * np.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    frequencies = np.linspace(0, sample_rate / 2, bins)
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    filters: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling))
    return filters


class LogMel(torch.nn.Module):
    """Log-mel statistics of a clip, padding included as in the ARCH protocol.

    The Fourier transform is a convolution with the windowed cosines and sines: one fast matrix product in every
    ONNX runtime, where the STFT operator is missing or slow.
    """

    def __init__(self) -> None:
        super().__init__()
        time = np.arange(WINDOW)
        window = 0.5 - 0.5 * np.cos(2 * np.pi * time / WINDOW)
        angle = 2 * np.pi * np.outer(np.arange(WINDOW // 2 + 1), time) / WINDOW
        basis = np.concatenate([np.cos(angle), np.sin(angle)]) * window
        self.register_buffer("basis", torch.from_numpy(basis).float().unsqueeze(1))
        self.register_buffer("filters", torch.from_numpy(mel_filters()).float())

    def forward(self, waveform: torch.Tensor, num_samples: torch.Tensor) -> tuple[torch.Tensor]:  # noqa: ARG002 (contract)
        """Embed `waveform` FP32 [batch, samples] as (FP32 [batch, 160],): means, then deviations, in nepers."""
        spectrum = torch.nn.functional.conv1d(waveform.unsqueeze(1), self.basis, stride=HOP)  # type: ignore[arg-type]
        real, imaginary = spectrum.chunk(2, dim=1)
        power = real.square() + imaginary.square()
        bands = torch.log((torch.matmul(self.filters, power) / FLOOR).clamp(min=1))  # type: ignore[arg-type]
        mean = bands.mean(dim=2, keepdim=True)
        deviation = (bands - mean).square().mean(dim=2).sqrt()
        return (torch.cat([mean.squeeze(2), deviation], dim=1),)


def reference(clip: NDArray[np.float32]) -> NDArray[np.float64]:
    """The same features by the fast Fourier transform in double precision: what the exported graph is checked against.

    Args:
        clip: FP32 [samples], padding included.

    Returns:
        FP64 [160].
    """
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    frames = np.lib.stride_tricks.sliding_window_view(clip.astype(np.float64), WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(frames * window)) ** 2
    bands = np.log(np.maximum(power @ mel_filters().T / FLOOR, 1))
    return np.concatenate([bands.mean(axis=0), bands.std(axis=0)])
