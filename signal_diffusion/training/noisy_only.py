"""What a training run minimises from noisy recordings alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from signal_diffusion.data.batches import Batch
from signal_diffusion.data.white_noise import within
from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.training.objectives import Held, Objective

#: Least noise above the recordings' own that is learnt from them, over it.
LEAST = 1.2


class NoisyOnly(Objective):
    """Learns from recordings x + z' in white Gaussian noise of variance 1, without any x.

    The signal is known to lie in some bands, P x = x (`data.signal_bands`), so that only P z' is
    noise that can't be drawn anew: recordings come as y = P (x + z') + n with a new n that makes
    their noise white again, and P (x + z') is what estimates are compared with. At the
    recordings' own noise, by Stein's unbiased estimate of the squared error, with a divergence
    along random directions b:

        |x_hat(y) - P (x + z')|^2 + 2 P^2 b (x_hat(y + e b) - x_hat(y)) / e - |P|^2

    Above it, by comparing what is made of x_t = y + s z with what has independent noise, so that
    its mean given x_t is that of x,

        |x_hat(x_t) - P (x + z') + P^2 z / s|^2,  s^2 = sigma_t^2 - 1

    Args:
        above: share of the clips above the recordings' noise.
        most: largest sigma_t there.
        probe: e.

    Source: Stein 1981; Ramani and others 2008 for the divergence; Pang and others 2021
    (CVPR, "Recorrupted-to-Recorrupted") for the pair of independent noises.
    """

    def __init__(self, *, above: float = 0.75, most: float = 3.0, probe: float = 0.05) -> None:
        super().__init__()
        self.above, self.most, self.probe = above, most, probe

    def terms(
        self, denoiser: NetworkDenoiser, batch: Batch, generator: torch.Generator
    ) -> dict[str, Tensor]:
        assert batch.bands is not None
        passed, y, bands = batch.clean, batch.noisy, batch.bands
        # Small batches, too, learn the recordings' own noise, which denoising starts from.
        own = max(round(len(y) * (1 - self.above)), int(self.above < 1))
        b, z = torch.randn(y.shape, generator=generator).to(y).tensor_split([own])
        share = torch.rand(len(z), generator=generator).reshape(-1, 1, 1)
        sigma = LEAST * (self.most / LEAST) ** share
        t = time_of(denoiser, torch.cat([torch.ones(2 * own, 1, 1), sigma])).to(y)
        s = (sigma**2 - 1).sqrt().to(y)
        states = torch.cat([y[:own], y[:own] + self.probe * b, y[own:] + s * z])
        # All at once, since many small products are slow.
        made = denoiser(states, t).float()
        x_hat, moved, above = made.tensor_split([own, 2 * own])
        terms = {}
        if own:
            terms["sure"] = self._stein(x_hat, moved, b, passed[:own], bands[:own]).mean()
        if len(above):
            target = passed[own:] - within(z, bands[own:]) / s
            # By the noise of the target, the levels are made alike.
            terms["recorrupted"] = ((above - target).square() / (1 + 1 / s**2)).mean()
        return terms

    def risk(
        self,
        denoiser: NetworkDenoiser,
        y: Tensor,
        generator: torch.Generator,
        *,
        passed: Tensor,
        bands: Tensor,
    ) -> Tensor:
        """Stein's estimate of the mean squared error of each clip (B,), without any clean one.

        Args:
            denoiser: what is judged.
            y: clips (B, 1, L) in noise of variance 1.
            generator: of the direction in which the divergence is measured.
            passed: what the bands pass of the recordings, (B, 1, L).
            bands: responses (B, 1, n), odd and symmetric, of the bands passed twice.
        """
        b = torch.randn(y.shape, generator=generator).to(y)
        both = torch.cat([y, y + self.probe * b])
        t = time_of(denoiser, torch.ones(1, 1, 1)).to(y).expand(len(both), 1, 1)
        x_hat, moved = denoiser(both, t).float().chunk(2)
        return self._stein(x_hat, moved, b, passed, bands)

    def score(self, denoiser: NetworkDenoiser, held: Held) -> Tensor:
        """The estimated SNR of the estimate: the signal's power over Stein's risk in all bands.

        A risk is known to some sqrt(2 / L). Below that, where it may be negative, the logarithm
        goes on as its tangent, so that of two estimates the better one still has the higher score.
        """
        y = held.noisy.reshape(-1, 1, held.noisy.shape[-1])
        everything = torch.ones(len(y), 1, 1).to(y)
        generator = torch.Generator().manual_seed(0)
        risk = self.risk(denoiser, y, generator, passed=y, bands=everything).mean()
        power = (y - y.mean(dim=-1, keepdim=True)).square().mean() - 1
        least = math.sqrt(2 / y.numel())
        below = (1 - risk / least).clamp_min(0)
        natural = power.clamp_min(1e-3).log() - risk.clamp_min(least).log() + below
        return 10 / math.log(10) * natural

    def _stein(
        self, x_hat: Tensor, moved: Tensor, b: Tensor, passed: Tensor, bands: Tensor
    ) -> Tensor:
        """Stein's estimate (B,) from what is made of y and of y + probe b."""
        divergence = (within(b, bands) * (moved - x_hat)).mean(dim=(1, 2)) / self.probe
        noise = bands[:, 0, bands.shape[-1] // 2]
        return (x_hat - passed).square().mean(dim=(1, 2)) + 2 * divergence - noise


def time_of(denoiser: NetworkDenoiser, sigma: Tensor) -> Tensor:
    """The times at which an unpaired process has noises sigma, relative to its signal."""
    return denoiser.schedule.time_at(-sigma.double().log()).to(sigma)
