"""Frame transforms without phases: spectral magnitudes, and loudness in mel bands.

What comes back has the same frames, more or less, but not the same samples: phases start at random,
always the same, and are mended by `phases.griffin_lim`.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch.nn.functional as F
from torch import Tensor

from signal_diffusion.errors import InputError
from signal_diffusion.nn.frames import FrameTransform
from signal_diffusion.nn.mel import Mel
from signal_diffusion.nn.phases import griffin_lim, reach, stft


class Phaseless(FrameTransform):
    """What both transforms share: the way back from magnitudes.

    Args:
        frame: samples of a frame and of its Hann window.
        hop: samples between frames.
        iterations: of `phases.griffin_lim`.
    """

    def __init__(self, frame: int, hop: int, iterations: int) -> None:
        super().__init__()
        if not frame <= 64 * hop <= 32 * frame:
            raise InputError(f"hop is {hop}; it goes from 1/64 to 1/2 of a frame, {frame}")
        self.frame, self.hop, self.iterations = frame, hop, iterations
        # A step is heard wherever its phase has come to matter.
        self.window = hop * (1 + reach(window=frame, hop=hop, iterations=iterations))

    @abstractmethod
    def magnitudes(self, state: Tensor) -> Tensor:
        """State (B, K, N) to spectral magnitudes (B, frame // 2 + 1, N)."""

    def decode(self, state: Tensor, length: int, *, start: int = 0) -> Tensor:
        """State (B, K, N) to signal (B, 1, length).

        Args:
            state: frames.
            length: samples.
            start: number of the first frame, by which phases go.
        """
        x = griffin_lim(
            self.magnitudes(state.float()),
            window=self.frame,
            hop=self.hop,
            iterations=self.iterations,
            start=start,
        )
        return F.pad(x, (0, max(0, length - x.shape[-1])))[:, None, :length]


class Magnitudes(Phaseless):
    """STFT magnitudes |X|^power, where white noise of variance 1 has |X|^2 = 1.

    Args:
        frame: samples of a frame and of its Hann window.
        hop: samples between frames.
        power: exponent, under 1 to lift what is faint.
        floor: magnitude under which nothing counts.
        iterations: of the way back.

    >>> import torch
    >>> codec = Magnitudes(512, hop=128)
    >>> codec.encode(torch.randn(2, 1, 4096)).shape
    torch.Size([2, 257, 33])
    """

    def __init__(
        self,
        frame: int = 1024,
        *,
        hop: int = 256,
        power: float = 0.5,
        floor: float = 1e-5,
        iterations: int = 32,
    ) -> None:
        super().__init__(frame, hop, iterations)
        self.power, self.floor = power, floor

    def encode(self, x: Tensor) -> Tensor:
        x = F.pad(x[:, 0], (0, -x.shape[-1] % self.hop))
        return self.compressed(stft(x, window=self.frame, hop=self.hop).abs())

    def compressed(self, magnitudes: Tensor) -> Tensor:
        """Spectral magnitudes (B, frame // 2 + 1, N) to the state."""
        return (magnitudes / self._unit).clamp_min(self.floor) ** self.power

    def magnitudes(self, state: Tensor) -> Tensor:
        return self._unit * state.clamp_min(self.floor**self.power) ** (1 / self.power)

    def state_channels(self, channels: int) -> int:
        return channels * (self.frame // 2 + 1)

    @property
    def _unit(self) -> float:
        """The root of the Hann window's energy."""
        return math.sqrt(3 * self.frame / 8)


class LogMel(Phaseless):
    """Log-mel frames, shifted and scaled to about unit size: (ln(power + floor) - middle) / spread.

    Args:
        mel: settings of the frames.
        floor: power in a band under which nothing counts.
        middle, spread: of ln(power + floor) over the signals that it is for.
        iterations: of the way back.

    >>> import torch
    >>> codec = LogMel(Mel(sample_rate=8000, window=512, hop=128, bands=40))
    >>> state = codec.encode(torch.zeros(1, 1, 8192))
    >>> state.shape, codec.decode(state, 8192).shape
    (torch.Size([1, 40, 65]), torch.Size([1, 1, 8192]))
    """

    def __init__(
        self,
        mel: Mel,
        *,
        floor: float = 1e-3,
        middle: float = -2.0,
        spread: float = 4.0,
        iterations: int = 32,
    ) -> None:
        super().__init__(mel.window, mel.hop, iterations)
        self.mel, self.floor, self.middle, self.spread = mel, floor, middle, spread

    def encode(self, x: Tensor) -> Tensor:
        x = F.pad(x[:, 0], (0, -x.shape[-1] % self.hop))
        return ((self.mel(x).exp() + self.floor).log() - self.middle) / self.spread

    def magnitudes(self, state: Tensor) -> Tensor:
        power = (state * self.spread + self.middle).exp() - self.floor
        return self.mel.magnitudes(power.clamp_min(1e-10).log())

    def state_channels(self, channels: int) -> int:
        return channels * self.mel.bands
