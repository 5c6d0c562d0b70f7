"""The Lightning module that trains a denoiser, and its learning rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from signal_diffusion.data.mixing import Batch
from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.metrics import si_sdr
from signal_diffusion.tasks.denoise import denoise

SCORE = "valid/si_sdr"


@dataclass(frozen=True)
class Cosine:
    """Factor on the learning rate: a linear warm-up, then half a cosine down to 0.

    Args:
        warmup: share of the run.
    """

    warmup: float = 0.02

    def __call__(self, progress: float) -> float:
        rise = min(1.0, (progress + 1e-4) / max(self.warmup, 1e-4))
        return rise * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


@dataclass(frozen=True)
class Constant:
    """Factor on the learning rate: a linear warm-up over a share of the run, then 1."""

    warmup: float = 0.02

    def __call__(self, progress: float) -> float:
        return min(1.0, (progress + 1e-4) / max(self.warmup, 1e-4))


class DiffusionModule(LightningModule):
    """Trains a denoiser on batches of (clean, noisy) signals.

    Each step draws t and z from (seed, step, rank), forms x_t = alpha x_0 + beta y + sigma z in the
    denoiser's states and minimises the sum of the terms of `loss(x_hat, x_0, signal, t, denoiser)`.

    Args:
        denoiser: what is trained.
        loss: see `losses`.
        optimizer: `optimizer(parameters)`.
        rate: factor on the learning rate as a function of the share of the run that is done.
        ema_decay: decay of the average of weights that is validated and exported.
        noise_std: of the validation recordings, for unpaired schedules; see `denoise`.
        last_time: share of the clips at the last time, where one-step denoising is learnt.
        seed: with the step and the rank, names what a step draws.
        compile: let torch compile the backbone; it pays in runs of more than ten minutes.
    """

    def __init__(
        self,
        denoiser: NetworkDenoiser,
        *,
        loss: nn.Module,
        optimizer: Callable[..., torch.optim.Optimizer],
        rate: Callable[[float], float],
        ema_decay: float = 0.999,
        noise_std: float | None = None,
        last_time: float = 0.0,
        seed: int = 0,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.denoiser, self.loss = denoiser, loss
        self.optimizer, self.rate = optimizer, rate
        self.noise_std, self.last_time, self.seed = noise_std, last_time, seed
        self.losses: list[Tensor] = []
        self.average = AveragedModel(denoiser, multi_avg_fn=_moving_average(ema_decay))
        self.average.requires_grad_(False)
        if compile:
            denoiser.backbone.compile()

    @property
    def averaged(self) -> NetworkDenoiser:
        """The denoiser with averaged weights."""
        return cast(NetworkDenoiser, self.average.module)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimizer = self.optimizer(self.denoiser.parameters())
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        return optimizer

    def terms(self, denoiser: NetworkDenoiser, batch: Batch, *, draw: int) -> dict[str, Tensor]:
        """The loss terms of a batch, with t and z drawn from `draw`."""
        generator = torch.Generator().manual_seed(draw)
        schedule = denoiser.schedule
        x_0 = denoiser.codec.encode(batch.clean)
        y = denoiser.codec.encode(batch.noisy) if schedule.paired else None
        t = self._times(len(x_0), generator).to(x_0)
        z = torch.randn(x_0.shape, generator=generator).to(x_0)
        alpha, beta, sigma = schedule(t)
        x_t = alpha * x_0 + sigma * z + (0.0 if y is None else beta * y)
        x_hat = denoiser(x_t, t, y).float()
        with _full_precision(x_0.device):
            return self.loss(x_hat, x_0, batch.clean, t, denoiser)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        window = self.trainer.accumulate_grad_batches
        step = self.trainer.global_step * window + batch_idx % window
        terms = self.terms(self.denoiser, batch, draw=self._draw(step, self.global_rank))
        loss = torch.stack(list(terms.values())).sum()
        if not torch.isfinite(loss):
            names = "; ".join(batch.names)
            raise FloatingPointError(
                f"the loss is {loss.item()} at step {step} (seed {self.seed}), batch: {names}"
            )
        self.log_dict({f"train/{k}": v.detach() for k, v in terms.items()})
        self.log("train/loss", loss.detach(), prog_bar=True)
        self.losses.append(loss.detach())
        return loss

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        factor = self.rate(run_progress(self.trainer))
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = group["initial_lr"] * factor
        self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if (batch_idx + 1) % self.trainer.accumulate_grad_batches == 0:
            self.average.update_parameters(self.denoiser)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Loader 0 has held-out batches for the loss, loader 1 whole recordings for the score."""
        if dataloader_idx == 0:
            terms = self.terms(self.averaged, batch, draw=batch_idx)
            loss = torch.stack(list(terms.values())).sum()
            self.log("valid/loss", loss, add_dataloader_idx=False, batch_size=1, sync_dist=True)
            return
        clean, noisy, _ = batch
        with _full_precision(self.device):
            rows = noisy.reshape(-1, noisy.shape[-1])
            estimate = denoise(self.averaged, rows, noise_std=self.noise_std)
        score = si_sdr(estimate, clean.reshape(estimate.shape)).mean().float().to(self.device)
        self.log(
            SCORE, score, prog_bar=True, add_dataloader_idx=False, batch_size=1, sync_dist=True
        )

    def on_validation_epoch_end(self) -> None:
        if self.losses:
            since_last = torch.stack(self.losses).mean()
            gap = self.trainer.callback_metrics["valid/loss"] - since_last
            self.log("valid/gap", gap, sync_dist=True)
            self.losses.clear()

    def _times(self, size: int, generator: torch.Generator) -> Tensor:
        schedule = self.denoiser.schedule
        t = torch.rand(size, generator=generator) * (schedule.t_max - schedule.t_min)
        last = torch.rand(size, generator=generator) < self.last_time
        return torch.where(last, schedule.t_start, schedule.t_min + t).reshape(size, 1, 1)

    def _draw(self, step: int, rank: int) -> int:
        return int(np.random.SeedSequence((self.seed, step, rank, 1)).generate_state(1)[0])


def run_progress(trainer: Trainer) -> float:
    """The share of the run that is done, by steps or by time, whichever is further."""
    shares = [0.0]
    if trainer.max_steps > 0:
        shares.append(trainer.global_step / trainer.max_steps)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Timer) and callback._duration:
            shares.append(callback.time_elapsed() / callback._duration)
    share = min(1.0, max(shares))
    # Clocks differ between processes, learning rates must not.
    return share if trainer.world_size == 1 else trainer.strategy.broadcast(share)


def _full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Turns autocast off, on the devices that know it."""
    if device.type in ("cpu", "cuda"):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def _moving_average(decay: float) -> Callable[..., None]:
    """Exponential moving average whose memory grows with the first steps."""

    @torch.no_grad()
    def update(averaged: list[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        share = min(decay, (1 + int(count)) / (10 + int(count)))
        for mean, value in zip(averaged, current, strict=True):
            mean.lerp_(value, 1 - share)

    return update
