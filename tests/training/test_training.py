"""Training: exact resume, averages, decay, guards, export of the best, the limit it reaches."""

import csv
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from lightning.pytorch import Callback

from signal_diffusion import Denoiser
from signal_diffusion.data.batches import Batch, Recordings
from signal_diffusion.data.processes import AutoRegressive
from signal_diffusion.errors import InputError
from signal_diffusion.nn.frames import CompressedSTFT
from signal_diffusion.training.losses import Prediction, SpectralLoss, SquaredError
from signal_diffusion.training.module import Constant, Cosine, DiffusionModule, _moving_average
from signal_diffusion.training.runs import conf_folder, fit

GROUPS = ("model", "schedule")
TINY = [
    "experiment=smoke",
    "model.denoiser.backbone.channels=8",
    "model.denoiser.backbone.hidden=8",
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
    "trainer.log_every_n_steps=1",
    "data.batch_size=4",
    "data.valid_batches=1",
]


class Stop(Callback):
    """Breaks a run off after a number of steps."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        if trainer.global_step == self.after:
            raise RuntimeError("power cut")


def train(folder: Path, *overrides: str) -> float:
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return fit(compose("train", [*TINY, f"folder={folder}", *overrides]))


def state(folder: Path) -> dict:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def metrics(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "csv" / "version_0" / "metrics.csv").open()))


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


@pytest.mark.parametrize(
    "options, stop, kept",
    [
        (["trainer.val_check_interval=2"], 5, 4),
        (["trainer.val_check_interval=6", "trainer.accumulate_grad_batches=3"], 5, 4),
        (["trainer.val_check_interval=2", "data.workers=2"], 5, 4),
    ],
    ids=["plain", "accumulated", "workers"],
)
def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    tmp_path, monkeypatch, options, stop, kept
):
    options = [*options, "trainer.max_steps=8"]
    train(tmp_path / "whole", *options)
    monkeypatch.setitem(sys.modules, "test_training", sys.modules[__name__])
    cut = f"{{_target_: test_training.Stop, after: {stop}}}"
    with pytest.raises(RuntimeError, match="power cut"):
        train(tmp_path / "parts", *options, f"trainer.callbacks=[{CHECKPOINTS},{EXPORT},{cut}]")
    last, stopped = tmp_path / "parts/checkpoints/last.ckpt", state(tmp_path / "parts")
    assert stopped["global_step"] == kept
    train(tmp_path / "elsewhere", *options, f"resume={last}")
    whole, parts = state(tmp_path / "whole"), state(tmp_path / "parts")
    assert not same(stopped["state_dict"], whole["state_dict"])
    for key in ("global_step", "state_dict", "optimizer_states"):
        assert same(whole[key], parts[key]), key
    files = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("whole", "parts")]
    assert files[0] == files[1]
    scores = [path.name for path in (tmp_path / "parts" / "csv").iterdir()]
    assert sorted(scores) == ["version_0", "version_1"]


def test_resumed_run_remembers_its_best(tmp_path):
    wild = ["trainer.val_check_interval=1", "module.optimizer.lr=3.0", "module.ema_decay=0.1"]
    first = train(tmp_path / "run", *wild, "trainer.max_steps=4")
    exported = (tmp_path / "run" / "model.safetensors").read_bytes()
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert state(tmp_path / "run")["global_step"] == 4, "the last, though not the best"
    second = train(tmp_path / "new", *wild, "trainer.max_steps=6", f"resume={last}")
    assert second == pytest.approx(first)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == exported


def test_micro_batches_draw_on_their_own_and_count_once(tmp_path, monkeypatch):
    draws = []
    terms = DiffusionModule.terms

    def listen(self, denoiser, batch, *, draw):
        draws.append(draw)
        return terms(self, denoiser, batch, draw=draw)

    monkeypatch.setattr(DiffusionModule, "terms", listen)
    train(
        tmp_path,
        "trainer.max_steps=2",
        "trainer.accumulate_grad_batches=3",
        "trainer.val_check_interval=6",
    )
    assert len(set(draws[:6])) == 6
    assert int(state(tmp_path)["state_dict"]["average.n_averaged"]) == 2
    with pytest.raises(InputError, match="no multiple"):
        train(tmp_path, "trainer.accumulate_grad_batches=3", "trainer.val_check_interval=4")


KEPT = (
    "{_target_: lightning.pytorch.callbacks.ModelCheckpoint, dirpath: '${folder}/checkpoints', "
    "enable_version_counter: false, filename: "
)
CHECKPOINTS = f"{KEPT}best, monitor: valid/score, mode: max}},{KEPT}last}}"
EXPORT = "{_target_: signal_diffusion.training.runs.Export, path: '${folder}/model.safetensors'}"


def test_export_is_the_best_scored_average_not_the_last(tmp_path):
    best = train(
        tmp_path,
        "trainer.max_steps=6",
        "trainer.val_check_interval=1",
        "module.optimizer.lr=3.0",
        "module.ema_decay=0.1",
    )
    scores = [float(r["valid/score"]) for r in metrics(tmp_path) if r.get("valid/score")]
    assert best == pytest.approx(max(scores))
    assert scores[-1] < max(scores) - 0.5
    process = AutoRegressive()
    batch = process(np.random.default_rng(0), 16)
    from signal_diffusion import denoise
    from signal_diffusion.metrics import si_sdr

    exported = Denoiser.from_pretrained(tmp_path / "model.safetensors")
    estimate = denoise(exported, batch.noisy[:, 0], noise_std=0.5)
    again = torch.stack([si_sdr(e, c) for e, c in zip(estimate, batch.clean[:, 0], strict=True)])
    assert again.mean().item() == pytest.approx(best, abs=0.05)


def test_logs_hold_losses_gap_rate_and_score(tmp_path):
    train(tmp_path, "trainer.max_steps=4", "trainer.val_check_interval=2")
    columns = set(metrics(tmp_path)[0])
    assert {"train/loss", "valid/loss", "valid/gap", "valid/score", "lr"} <= columns
    rows = metrics(tmp_path)
    losses = [float(row["train/loss"]) for row in rows if row["train/loss"]][:2]
    valid, gap = next(
        (float(r["valid/loss"]), float(r["valid/gap"])) for r in rows if r["valid/gap"]
    )
    assert gap == pytest.approx(valid - sum(losses) / 2, abs=1e-5)
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_time_limited_run_ends_decayed_and_exported(tmp_path):
    train(
        tmp_path,
        "trainer.max_steps=1000000",
        "trainer.max_time=00:00:00:12",
        "trainer.val_check_interval=1000000",
    )
    rates = [float(row["lr"]) for row in metrics(tmp_path) if row["lr"]]
    assert rates[-1] < 0.02 * max(rates)
    assert (tmp_path / "model.safetensors").is_file()


def test_tuning_starts_from_the_given_weights(tmp_path):
    train(tmp_path / "first", "trainer.max_steps=3")
    model = tmp_path / "first" / "model.safetensors"
    frozen = ["module.optimizer.lr=0.0", "trainer.max_steps=1", f"model.init={model}"]
    train(tmp_path / "second", *frozen)
    tuned = tmp_path / "second" / "model.safetensors"
    first, second = (Denoiser.from_pretrained(m) for m in (model, tuned))
    assert same(first.state_dict(), second.state_dict())
    with pytest.raises(InputError, match="other shapes"):
        train(tmp_path / "third", *frozen, "model.denoiser.backbone.channels=12")


@dataclass(frozen=True)
class Poisoned:
    """Sources whose fourth batch holds a NaN."""

    process: AutoRegressive | None = None

    def __call__(self):
        process = AutoRegressive(length=64)

        def source(rng: np.random.Generator, size: int) -> Batch:
            poison = rng.bit_generator.seed_seq.entropy == (0, 3, 0)  # (seed, step, rank)
            batch = process(rng, size)
            clean = batch.clean * (float("nan") if poison else 1.0)
            return Batch(clean, batch.noisy, ["good.wav", "bad.wav"])

        held_out = process(np.random.default_rng(0), 1)
        return source, process, Recordings([(held_out.clean[0], held_out.noisy[0], "a.wav")])


def test_loss_that_is_no_number_names_step_and_batch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "test_training", sys.modules[__name__])
    with pytest.raises(FloatingPointError, match=r"nan at step 3 .*good\.wav; bad\.wav"):
        train(
            tmp_path,
            "trainer.max_steps=6",
            "data.sources={_target_: test_training.Poisoned}",
        )


def test_average_is_the_moving_average_of_the_weights():
    weights = [torch.tensor([float(w)]) for w in (4.0, 8.0, 16.0)]
    mean, update = [weights[0].clone()], _moving_average(0.5)
    for count, w in enumerate(weights[1:], start=1):
        update(mean, [w], count)
    first, second = 2 / 11, 3 / 12
    expected = second * (first * 4 + (1 - first) * 8) + (1 - second) * 16
    assert mean[0].item() == pytest.approx(expected)


def test_rates_warm_up_and_decay():
    cosine, constant = Cosine(warmup=0.1), Constant(warmup=0.1)
    assert cosine(0.05) < 0.6 < 0.9 < cosine(0.1)
    assert cosine(0.5) == pytest.approx(0.5)
    assert cosine(1.0) == cosine(1.5) == pytest.approx(0.0)
    assert constant(0.0) < 0.01
    assert constant(0.1) == constant(1.0) == 1.0


class Raw:
    """Stands in for a denoiser in a loss."""

    def __init__(self) -> None:
        self.codec = CompressedSTFT()

    def loss_weight(self, t):
        return 4 * torch.ones_like(t)


def test_squared_error_is_in_the_networks_units():
    x, t = torch.zeros(2, 3, 5), torch.full((2, 1, 1), 0.5)
    terms = SquaredError()(Prediction(x + 0.5, x, x, t, Raw()))
    assert terms["squared_error"].item() == pytest.approx(4 * 0.25)


def test_spectral_loss_is_zero_at_the_truth_and_finite_at_silence():
    loss, denoiser, t = SpectralLoss(), Raw(), torch.ones(2, 1, 1)
    signal = torch.randn(2, 1, 4096, generator=torch.Generator().manual_seed(0))
    x_0 = denoiser.codec.encode(signal)
    truth = loss(Prediction(x_0, x_0, signal, t, denoiser))
    assert all(term.item() < 1e-3 for term in truth.values())
    silence = torch.zeros_like(x_0).requires_grad_()
    nothing = torch.zeros_like(x_0), torch.zeros_like(signal)
    terms = loss(Prediction(silence, *nothing, t, denoiser))
    sum(terms.values()).backward()
    assert torch.isfinite(silence.grad).all()
    off = loss(Prediction(0.9 * x_0, x_0, signal, t, denoiser))
    assert all(off[name] > 10 * truth[name] for name in off)


def test_small_network_comes_near_the_wiener_limit(repository, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(repository / "recipes")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pytest"])
    from ar2_limit import main

    rows = main(["trainer.max_steps=500", "trainer.enable_progress_bar=false"])
    assert len(rows) == 7
    for snr, limit, reached in rows:
        assert limit - 0.3 < reached < limit + 0.05, snr
        assert limit > snr + (0.5 if snr < 20 else 0)


def test_every_experiment_composes_and_builds(monkeypatch):
    from hydra.utils import instantiate

    names = sorted(path.stem for path in (conf_folder() / "experiment").glob("*.yaml"))
    assert {"ar2", "smoke", "speech_denoise"} <= set(names)
    for name in names:
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            config = compose("train", [f"experiment={name}"])
        denoiser = instantiate(config.model.denoiser)
        module = instantiate(config.module, denoiser=denoiser)
        assert math.isfinite(sum(p.sum().item() for p in module.parameters()))


def test_every_schedule_and_model_can_be_chosen():
    from hydra.utils import instantiate

    groups = {g: sorted(p.stem for p in (conf_folder() / g).glob("*.yaml")) for g in GROUPS}
    assert {"bridge", "cosine", "discrete_vp", "edm", "flow", "ou", "ve", "vp"} == set(
        groups["schedule"]
    )
    choices = [("stack", s) for s in groups["schedule"]] + [(m, "vp") for m in groups["model"]]
    for model, schedule in choices:
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            config = compose("train", [f"model={model}", f"schedule={schedule}"])
        config.model.denoiser.target = "clean"
        denoiser = instantiate(config.model.denoiser)
        assert (
            type(denoiser.schedule).__name__
            == config.model.denoiser.schedule._target_.split(".")[-1]
        )
