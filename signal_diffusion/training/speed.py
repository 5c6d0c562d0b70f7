"""How many training steps a second this machine makes: some real steps of a configured run."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from signal_diffusion.streaming.background import threads
from signal_diffusion.training.configuration import composed, configuration_mistakes
from signal_diffusion.training.runs import quiet_dependencies

#: Steps that warm up.
WARM = 2


class Stopwatch(Callback):
    """Keeps the time by the clock at the end of each batch."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


def training_speed(
    overrides: Sequence[str], *, steps: int = 10, thread_count: int = 1
) -> dict[str, Any]:
    """Steps a second of the run that `conf/train.yaml` and Hydra overrides describe.

    Its own network, loss, precision and batches, whose preparation counts, on one device, without
    validation, checkpoints and logs. After `WARM` steps the median of those that follow counts.

    Args:
        overrides: as for `signal-diffusion train`.
        steps: that are timed.
        thread_count: of torch.

    Returns:
        steps_per_second, batch (clips of one step), precision, device, parameters, timed_steps.

    Raises:
        InputError: what is configured can't be used.
    """
    from hydra.utils import instantiate

    config = _configured(overrides)
    torch.manual_seed(config.seed)
    watch = Stopwatch()
    with threads(thread_count), configuration_mistakes(), quiet_dependencies(logging.ERROR):
        denoiser = instantiate(config.model.denoiser)
        module = instantiate(config.module, denoiser=denoiser)
        trainer = instantiate(config.trainer, max_steps=WARM + steps)
        trainer.callbacks.append(watch)
        trainer.fit(module, instantiate(config.data))
    return {
        **_pace(watch.ends, trainer.accumulate_grad_batches),
        "batch": config.data.batch_size * trainer.accumulate_grad_batches,
        "precision": str(trainer.precision),
        "device": trainer.strategy.root_device.type,
        "parameters": sum(p.numel() for p in denoiser.parameters()),
    }


def _pace(ends: Sequence[float], batches: int) -> dict[str, Any]:
    """Steps a second, of so many batches each, by when batches ended.

    >>> _pace([0.0, 9.0, 10.0, 11.0, 15.0], 1)
    {'steps_per_second': 1.0, 'timed_steps': 3}
    """
    whole = ends[batches - 1 :: batches]
    durations = [end - begin for begin, end in pairwise(whole[WARM - 1 :])]
    return {"steps_per_second": 1 / statistics.median(durations), "timed_steps": len(durations)}


def _configured(overrides: Sequence[str]) -> Any:
    """The configuration of a run that leaves nothing behind."""
    from omegaconf import open_dict

    config = composed(overrides)
    with open_dict(config):
        config.folder = "."
        config.trainer.update(
            {
                "callbacks": [],
                "logger": False,
                "enable_checkpointing": False,
                "devices": 1,
                "enable_progress_bar": False,
                "limit_val_batches": 0,
                "max_time": None,
                "num_nodes": 1,
            }
        )
    return config
