"""The Lightning module that trains a denoiser, and its learning rates."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from signal_diffusion.data.batches import Batch
from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.training.objectives import Held, Objective, full_precision

log = logging.getLogger(__name__)

#: SI-SDR where there are clean recordings, an estimate of the SNR where not, in dB.
SCORE = "valid/score"


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

    Each step minimises the sum of the terms of its objective, with what is random drawn from
    (seed, step, rank).

    Args:
        denoiser: what is trained.
        objective: what is minimised, see `objectives`.
        optimizer: `optimizer(parameters)`.
        rate: factor on the learning rate as a function of the share of the run that is done.
        ema_decay: decay of the average of weights that is validated and exported.
        seed: with the step and the rank, names what a step draws.
        compile: let torch compile the backbone; it pays in runs of more than ten minutes.
    """

    def __init__(
        self,
        denoiser: NetworkDenoiser,
        *,
        objective: Objective,
        optimizer: Callable[..., torch.optim.Optimizer],
        rate: Callable[[float], float],
        ema_decay: float = 0.999,
        seed: int = 0,
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.denoiser, self.objective = denoiser, objective
        self.optimizer, self.rate = optimizer, rate
        self.seed = seed
        self.losses: list[Tensor] = []
        self.scores: list[float] = []
        self.skipped: set[str] = set()
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
        """The loss terms of a batch, with what is random drawn from `draw`."""
        return self.objective.terms(denoiser, batch, torch.Generator().manual_seed(draw))

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

    def on_train_start(self) -> None:
        size = sum(p.numel() for p in self.denoiser.parameters())
        if self.trainer.is_global_zero:
            log.info("training %s parameters on %s", f"{size:,}", self.device)

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
        clean, noisy, name, *missing = batch
        with full_precision(self.device):
            score = self.objective.score(self.averaged, Held(clean, noisy, *missing))
        if torch.isfinite(score):
            self.scores.append(float(score))
        elif name not in self.skipped:
            self.skipped.add(name)
            line = f"{name} has no finite score and doesn't count: is it silent?"
            log.warning(line)

    def on_validation_epoch_end(self) -> None:
        found = torch.tensor([math.fsum(self.scores), float(len(self.scores))], device=self.device)
        total, count = self.trainer.strategy.reduce(found, reduce_op="sum")
        # Without any finite score, as of weights that have diverged, it is the worst of all.
        score = total / count if count else total.new_tensor(-math.inf)
        self.log(SCORE, score, prog_bar=True, sync_dist=True)
        self.scores.clear()
        if self.losses:
            since_last = torch.stack(self.losses).mean()
            gap = self.trainer.callback_metrics["valid/loss"] - since_last
            self.log("valid/gap", gap, sync_dist=True)
            self.losses.clear()

    def _draw(self, step: int, rank: int) -> int:
        return int(np.random.SeedSequence((self.seed, step, rank, 1)).generate_state(1)[0])


def callbacks_of(trainer: Trainer) -> list[Callback]:
    return list(trainer.callbacks)  # type: ignore[attr-defined]


def run_progress(trainer: Trainer) -> float:
    """The share of the run that is done, by steps or by time, whichever is further."""
    shares = [0.0]
    if trainer.max_steps > 0:
        shares.append(trainer.global_step / trainer.max_steps)
    for callback in callbacks_of(trainer):
        if isinstance(callback, Timer) and callback._duration:
            shares.append(callback.time_elapsed() / callback._duration)
    share = min(1.0, max(shares))
    # Clocks differ between processes, learning rates must not.
    return share if trainer.world_size == 1 else trainer.strategy.broadcast(share)


def _moving_average(decay: float) -> Callable[..., None]:
    """Exponential moving average whose memory grows with the first steps."""

    @torch.no_grad()
    def update(averaged: list[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        share = min(decay, (1 + int(count)) / (10 + int(count)))
        for mean, value in zip(averaged, current, strict=True):
            mean.lerp_(value, 1 - share)

    return update
