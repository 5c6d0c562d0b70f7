"""A configured run: instantiate, fit, score, and export the best weights."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.errors import InputError
from signal_diffusion.files import artifact
from signal_diffusion.training.experiments import conf_folder
from signal_diffusion.training.module import SCORE, DiffusionModule

log = logging.getLogger(__name__)


class Export(Callback):
    """Writes `model.safetensors` at the end: the averaged weights, of the best score if known."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def on_exception(self, trainer: Trainer, module: LightningModule, error: BaseException) -> None:
        if isinstance(error, KeyboardInterrupt):
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
    """Run one configured training and export its model; returns the validation score."""
    from hydra.utils import instantiate

    if config.resume:
        config.folder = str(_run_of(Path(config.resume)))
    torch.manual_seed(config.seed)
    denoiser = instantiate(config.model.denoiser)
    if config.model.init:
        start_from(denoiser, config.model.init)
    module = instantiate(config.module, denoiser=denoiser)
    data = instantiate(config.data)
    trainer = instantiate(config.trainer)
    if trainer.val_check_interval % trainer.accumulate_grad_batches:
        raise InputError(
            f"trainer.val_check_interval={trainer.val_check_interval} is no multiple of "
            f"trainer.accumulate_grad_batches={trainer.accumulate_grad_batches}: make it one"
        )
    exports = [c for c in trainer.callbacks if isinstance(c, Export)]
    export = exports[0] if exports else Export(Path(config.folder) / "model.safetensors")
    trainer.fit(module, data, ckpt_path=config.resume)
    trainer.validate(module, data, verbose=False)
    score = float(trainer.callback_metrics[SCORE])
    best = _best(trainer)
    if best is not None and best[0] > score:
        score = best[0]
        export.write(module, best[1])
    else:
        export.write(module)
    log.info("%s %.2f dB after %d steps", SCORE, score, trainer.global_step)
    return float(score)


def _run_of(checkpoint: Path) -> Path:
    """The folder of the run that a checkpoint belongs to: a resumed run goes on in it."""
    if not checkpoint.is_file():
        raise InputError(f"resume is {checkpoint}: no such file, give a checkpoints/last.ckpt")
    return checkpoint.resolve().parent.parent


def _best(trainer: Trainer) -> tuple[float, str] | None:
    """Score and file of the best checkpoint."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, ModelCheckpoint) and callback.best_model_score is not None:
            return float(callback.best_model_score), callback.best_model_path
    return None


def run(overrides: Sequence[str] = ()) -> None:
    """The training that `conf/train.yaml` and Hydra overrides describe."""
    import hydra

    main = hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="train")(fit)
    sys.argv = [__file__, *overrides]  # what Lightning starts the other processes by
    main()


def trained(overrides: Sequence[str]) -> NetworkDenoiser:
    """The model of a run that leaves no folder."""
    with tempfile.TemporaryDirectory() as folder:
        run([*overrides, f"hydra.run.dir={folder}"])
        return NetworkDenoiser.from_pretrained(Path(folder) / "model.safetensors")


@contextmanager
def configuration_mistakes() -> Iterator[None]:
    """What Hydra says of a configuration or an override, as an `InputError`."""
    # Hydra prints errors and exits by itself unless it is asked for all of them.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    from hydra.errors import ConfigCompositionException, OverrideParseException
    from omegaconf.errors import MissingMandatoryValue

    try:
        yield
    except MissingMandatoryValue as error:
        raise InputError(f"{error.full_key} is missing: add {error.full_key}=...") from error
    except (ConfigCompositionException, OverrideParseException) as error:
        raise InputError(str(error)) from error


if __name__ == "__main__":
    # By its own name, so that the classes here are those that a configuration names.
    from signal_diffusion.training.runs import run as run_by_name

    run_by_name(sys.argv[1:])
