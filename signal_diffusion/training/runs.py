"""A configured run: instantiate, fit, score, and export the best weights."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar

from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.errors import InputError
from signal_diffusion.files import artifact
from signal_diffusion.training.configuration import check, configuration_mistakes, opened
from signal_diffusion.training.experiments import conf_folder
from signal_diffusion.training.module import SCORE, DiffusionModule, callbacks_of

log = logging.getLogger(__name__)


class Bar(RichProgressBar):
    """A progress bar of steps, since runs have no epochs."""

    def _get_train_description(self, current_epoch: int) -> str:
        return "Training".ljust(len(self.validation_description))

    def get_metrics(self, trainer: Trainer, module: LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, module)
        return {name: value for name, value in metrics.items() if name != "v_num"}


class Export(Callback):
    """Writes `model.safetensors` at the end: the averaged weights of the best score."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def on_exception(self, trainer: Trainer, module: LightningModule, error: BaseException) -> None:
        if isinstance(error, KeyboardInterrupt) and trainer.global_step:
            trainer.save_checkpoint(self.path.with_name("checkpoints") / "last.ckpt")
            self.write(module)

    def write(self, module: LightningModule, checkpoint: str | None = None) -> None:
        """Export from the first process; `checkpoint` names the weights, if not those at hand."""
        assert isinstance(module, DiffusionModule)
        if not module.trainer.is_global_zero:
            return
        if checkpoint:
            state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
            module.load_state_dict(state)
        module.averaged.save_pretrained(self.path)
        log.info("wrote %s", self.path.resolve())


def start_from(denoiser: NetworkDenoiser, name_or_path: str) -> None:
    """Give a denoiser the weights of a model of the same shapes, to tune it further.

    What that model does not have must start at zero, so that the tuning starts at that model.
    """
    begun = {k: v for k, v in denoiser.state_dict().items() if not v.any()}
    try:
        denoiser.load_state_dict({**begun, **artifact.load(name_or_path).state_dict()})
    except RuntimeError as error:
        raise InputError(
            f"model.init={name_or_path} has other shapes than the configured model: "
            "use its own experiment's model settings"
        ) from error


def fit(config: Any) -> float:
    """Run one configured training and export its model; returns the validation score.

    A run that ends before its first step leaves no folder.
    """
    if config.resume:
        config.folder = str(_run_of(Path(config.resume)))
    folder = Path(config.folder)
    fresh = not any(path.is_file() and not _is_hydras(path) for path in folder.rglob("*"))
    trainer = None
    try:
        check(config)
        with configuration_mistakes(), quiet_dependencies(logging.WARNING):
            module, data, trainer = _made(config)
            return _fitted(config, module, data, trainer=trainer)
    except BaseException:
        if fresh and (trainer is None or (not trainer.global_step and trainer.is_global_zero)):
            _remove(folder)
        raise


def _made(config: Any) -> tuple[DiffusionModule, LightningDataModule, Trainer]:
    """What a configuration describes."""
    from hydra.utils import instantiate

    torch.manual_seed(config.seed)
    denoiser = instantiate(config.model.denoiser)
    if config.model.init:
        start_from(denoiser, config.model.init)
    module = instantiate(config.module, denoiser=denoiser)
    data = instantiate(config.data)
    trainer = instantiate(config.trainer)
    callbacks = trainer.callbacks
    callbacks[:] = [Bar() if isinstance(c, RichProgressBar) else c for c in callbacks]
    return module, data, trainer


def _fitted(
    config: Any, module: DiffusionModule, data: LightningDataModule, *, trainer: Trainer
) -> float:
    """Train, export the best weights, and return their score."""
    exports = [c for c in callbacks_of(trainer) if isinstance(c, Export)]
    export = exports[0] if exports else Export(Path(config.folder) / "model.safetensors")
    trainer.fit(module, data, ckpt_path=config.resume)
    trainer.validate(module, data, verbose=False)
    score = float(trainer.callback_metrics[SCORE])
    best = _best(trainer)
    if best is not None and not best[0] <= score:
        score = best[0]
        export.write(module, best[1])
    else:
        export.write(module)
    if trainer.is_global_zero:
        log.info("%s %.2f dB after %d steps", SCORE, score, trainer.global_step)
    return float(score)


def _is_hydras(path: Path) -> bool:
    """Whether Hydra writes this file before a run begins."""
    return path.parent.name == ".hydra" or path.name == "runs.log"


def _remove(folder: Path) -> None:
    """Take away the folder of a run, and those above it in the current one that are empty then."""
    if folder.resolve() in (Path.cwd(), *Path.cwd().parents):
        return
    shutil.rmtree(folder, ignore_errors=True)
    for parent in folder.resolve().parents:
        if Path.cwd() not in parent.parents:
            return
        with suppress(OSError):
            parent.rmdir()


def _run_of(checkpoint: Path) -> Path:
    """The folder of the run that a checkpoint belongs to: a resumed run goes on in it."""
    if not checkpoint.is_file():
        raise InputError(f"resume is {checkpoint}: no such file, give a checkpoints/last.ckpt")
    return checkpoint.resolve().parent.parent


def _best(trainer: Trainer) -> tuple[float, str] | None:
    """Score and file of the best checkpoint."""
    for callback in callbacks_of(trainer):
        if isinstance(callback, ModelCheckpoint) and callback.best_model_score is not None:
            return float(callback.best_model_score), callback.best_model_path
    return None


def run(overrides: Sequence[str] = ()) -> None:
    """The training that `conf/train.yaml` and Hydra overrides describe."""
    import hydra

    failures: list[BaseException] = []

    # Of an error that reaches it, Hydra prints more than its one line.
    def task(config: Any) -> float | None:
        if not failures:
            try:
                return fit(config)
            except BaseException as error:
                failures.append(error)
        return None

    main = hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="train")(task)
    sys.argv = [__file__, *opened(overrides)]  # what Lightning starts the other processes by
    main()
    if failures:
        raise failures[0]


def trained(overrides: Sequence[str]) -> NetworkDenoiser:
    """The model of a run that leaves no folder."""
    with tempfile.TemporaryDirectory() as folder:
        run([*overrides, f"hydra.run.dir={folder}"])
        return NetworkDenoiser.from_pretrained(Path(folder) / "model.safetensors")


@contextmanager
def quiet_dependencies(level: int) -> Iterator[None]:
    """Nothing of Lightning's logs below a level, none of its advice, no deprecations."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(level)
        with warnings.catch_warnings():
            for category in (DeprecationWarning, FutureWarning, PossibleUserWarning):
                warnings.simplefilter("ignore", category)
            yield
    finally:
        for logger, former in zip(loggers, before, strict=True):
            logger.setLevel(former)


if __name__ == "__main__":
    # By its own name, so that the classes here are those that a configuration names.
    from signal_diffusion.training.runs import run as run_by_name

    try:
        run_by_name(sys.argv[1:])
    except InputError as error:
        # The first process of several prints the line.
        raise SystemExit(2 if "LOCAL_RANK" in os.environ else f"error: {error}") from None
