"""Training: exact resume, averages, decay, guards, export of the best, the limit it reaches."""

import csv
import math
import os
import subprocess
import sys
from dataclasses import MISSING, dataclass, fields
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from lightning.pytorch import Callback
from omegaconf import OmegaConf

from signal_diffusion import Denoiser
from signal_diffusion.data.batches import Batch, Recordings
from signal_diffusion.data.ecg import ElectrodeMixer
from signal_diffusion.data.labels import LabelledClips
from signal_diffusion.data.processes import AutoRegressive
from signal_diffusion.data.sets.qt import BeatMixer
from signal_diffusion.data.speech_mixing import Mixer
from signal_diffusion.data.vibration import MachineMixer
from signal_diffusion.errors import InputError
from signal_diffusion.nn.frames import CompressedSTFT
from signal_diffusion.training.configuration import composed
from signal_diffusion.training.losses import Prediction, SquaredError
from signal_diffusion.training.module import Constant, Cosine, DiffusionModule, _moving_average
from signal_diffusion.training.runs import conf_folder, fit, run

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


@dataclass(frozen=True)
class Silent:
    """Sources of which one held-out recording, or each of them, is silent."""

    every: bool = False
    process: AutoRegressive | None = None

    def __call__(self):
        process = AutoRegressive(length=64)
        batch = process(np.random.default_rng(0), 3)
        items = [
            (clean * (not self.every and name != "b.wav"), noisy, name)
            for clean, noisy, name in zip(
                batch.clean, batch.noisy, ("a.wav", "b.wav", "c.wav"), strict=True
            )
        ]
        return process, process, Recordings(items)


def test_a_silent_recording_does_not_count_and_the_best_is_kept(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "test_training", sys.modules[__name__])
    lines: list[str] = []
    monkeypatch.setattr("signal_diffusion.training.module.log.warning", lines.append)
    wild = ["trainer.val_check_interval=1", "module.optimizer.lr=3.0", "module.ema_decay=0.1"]
    sources = "data.sources={_target_: test_training.Silent}"
    best = train(tmp_path, *wild, sources, "trainer.max_steps=6")
    scores = [float(r["valid/score"]) for r in metrics(tmp_path) if r.get("valid/score")]
    assert all(map(math.isfinite, scores))
    assert best == pytest.approx(max(scores)) and scores[-1] < max(scores)
    assert lines == ["b.wav has no finite score and doesn't count: is it silent?"]


def test_a_run_without_any_score_keeps_its_last_weights(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "test_training", sys.modules[__name__])
    sources = "++data.sources={_target_: test_training.Silent, every: true}"
    assert train(tmp_path, "trainer.max_steps=2", sources) == -math.inf
    assert (tmp_path / "model.safetensors").is_file()


MISTAKES = {
    "trainer.max_time=10": "trainer.max_time is 10: give days, hours, minutes and seconds",
    "trainer.max_time=90s": "trainer.max_time is 90s",
    "trainer.precision=16-true": "trainer.precision is 16-true: choose one of 32-true",
    "trainer.max_steps=abc": "trainer.max_steps is abc: give a whole number from -1 on",
    "trainer.val_check_interval=0": "trainer.val_check_interval is 0: give a whole number from 1",
    "trainer.accelerator=abacus": "trainer can't be made by lightning",
    "data.batch_size=0": "data.batch_size is 0: give a whole number from 1 on",
    "data.batch_size=1.5": "data.batch_size is 1.5",
    "data.workers=-1": "data.workers is -1",
    "seed=abc": "seed is abc: give a whole number from 0 on",
    "module.optimizer.lr=fast": "module.optimizer.lr is fast: give a number from 0 to 1000",
    "module.optimizer.lr=-1": "module.optimizer.lr is -1: give a number",
    "trainer.gradient_clip_val=nan": "trainer.gradient_clip_val is nan: give a number from 0",
    "model.denoiser.backbone.layers=0": "model.denoiser.backbone.layers is 0: give a whole number",
    "seed=true": "seed is True",
    "model.denoiser._target_=a.B": "model.denoiser._target_ is a.B, which can't be imported",
    "data.sources._target_=a.B": "data.sources._target_ is a.B, which can't be imported",
    "model.denoiser.target=nothing": "target is 'nothing': choose one of",
    "model.denoiser.backbone.channels=x": "model.denoiser.backbone.channels is x: give a whole",
    "model.denoiser.backbone.dilation_cycle=x": "model.denoiser.backbone can't be made by",
    "model.init=nothing": "no model 'nothing'",
}


@pytest.mark.parametrize("override", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_no_folder(tmp_path, monkeypatch, override):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as error:
        run([*TINY, override])
    assert MISTAKES[override] in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "given, message",
    [
        (["ecg_qt", "data.sources.qt=here", "data.sources.noise=here"], "no record bw"),
        (["ecg_denoise", "data.sources.root=here"], "no manifest here/manifest.csv"),
        (["speech_denoise", "data.sources.root=nowhere"], "no folder nowhere"),
    ],
)
def test_data_that_are_not_there_leave_no_folder(tmp_path, monkeypatch, given, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    with pytest.raises(InputError, match=message):
        run([f"experiment={given[0]}", *given[1:], "trainer.accelerator=cpu"])
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_what_was_in_a_folder_stays_when_a_run_fails(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError):
        train(tmp_path, "data.batch_size=0")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_the_current_folder_stays_when_a_run_fails_in_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError):
        train(Path("."), "data.batch_size=0")
    assert (tmp_path / "empty").is_dir()


def test_a_run_that_fails_later_keeps_its_folder(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "test_training", sys.modules[__name__])
    with pytest.raises(FloatingPointError):
        train(tmp_path, "data.sources={_target_: test_training.Poisoned}")
    assert (tmp_path / "csv").is_dir()


def test_the_console_has_no_advertisement_and_no_epochs(tmp_path):
    overrides = [word for word in TINY if "progress" not in word]
    command = [sys.executable, "-m", "signal_diffusion", "train", *overrides]
    done = subprocess.run(
        [*command, "trainer.max_steps=2", "trainer.val_check_interval=1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "default"},
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    for word in ("Epoch", "litlogger", "Tip", "deprecated", "v_num", "TPU"):
        assert word not in said
    assert "Training" in said and "training" in said and "parameters on cpu" in said
    assert "valid/score" in said and "wrote" in said


#: Configurations of data, with the class that takes their options and where these are.
MIXERS = {
    "speech": (Mixer, "mixer"),
    "manifest": (Mixer, "mixer"),
    "folders": (Mixer, "mixer"),
    "ecg": (ElectrodeMixer, "mixer"),
    "vibration": (MachineMixer, "mixer"),
    "qt": (BeatMixer, "mixer"),
    "labelled": (LabelledClips, "clips"),
    "speech_commands": (LabelledClips, "clips"),
}
#: What is no option: recordings, and what the sources fill in.
FILLED = {"speech", "noise", "music", "rooms", "gaps", "length"}


@pytest.mark.parametrize("data", MIXERS)
def test_every_option_of_a_mixer_is_in_the_configuration(data):
    mixer, key = MIXERS[data]
    config = composed([f"data={data}"])
    options = config.data.sources[key]
    defaults = composed([f"data={data}"]) if data != "speech" else composed(["data=folders"])
    found = {
        field.name: field.default if field.default_factory is MISSING else field.default_factory()
        for field in fields(mixer)
        if field.default is not MISSING or field.default_factory is not MISSING
    }
    found = {name: value for name, value in found.items() if name not in FILLED}
    assert set(options) - {"length"} == set(found)
    for name, value in found.items():
        if data == "manifest" and name == "groups":
            continue
        given = OmegaConf.to_container(defaults.data.sources[key])[name]
        assert given == (list(value) if isinstance(value, tuple) else value), name


def test_options_of_a_mixer_need_no_plus():
    given = ["data=manifest", "data.sources.mixer.clipped=0.1"]
    given += ["data.sources.mixer.groups={own: 0.5}", "data.sources.mixer.least_snr_db.music=3"]
    mixer = composed(given).data.sources.mixer
    assert mixer.clipped == 0.1 and mixer.groups.own == 0.5 and mixer.least_snr_db.music == 3
    with pytest.raises(InputError, match=r"data\.sources\.mixer\.cliped"):
        composed(["data=manifest", "data.sources.mixer.cliped=0.1"])


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
