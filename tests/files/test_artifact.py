"""The model file: exact round trips, no foreign code, one clear line for damaged files."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from signal_diffusion import schedules
from signal_diffusion.denoiser import Denoiser, NetworkDenoiser
from signal_diffusion.errors import InputError
from signal_diffusion.files import artifact
from signal_diffusion.nn.diffwave import DiffWave
from signal_diffusion.nn.frames import CompressedSTFT, Patch
from signal_diffusion.nn.mel import Mel
from signal_diffusion.nn.stack import DilatedStack

SCHEDULES = [
    schedules.VariancePreserving(beta_max=12.0),
    schedules.DiscreteVariancePreserving(steps=20),
    schedules.Cosine(),
    schedules.VarianceExploding(),
    schedules.EDM(rho=5.0),
    schedules.RectifiedFlow(),
    schedules.OrnsteinUhlenbeck(gamma=1.0),
    schedules.BrownianBridge(scale=0.3),
]


def stack_denoiser(schedule=SCHEDULES[-1]):
    torch.manual_seed(0)
    codec = CompressedSTFT(window=64, hop=32)
    stack = DilatedStack(
        66, channels=16, hidden=8, layers=2, paired=schedule.paired, complex_pairs=True
    )
    for p in stack.parameters():
        p.data = (torch.randn(p.shape) * 0.1).half().float()  # as the file stores them
    card = {"licence": "CC0", "scores": {"steps": [1, 2]}}
    return NetworkDenoiser(
        stack, schedule, codec=codec, sample_rate=8000, domain="speech", level_db=0.0, card=card
    ).eval()


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_round_trip_keeps_configuration_and_output(tmp_path, schedule):
    saved = stack_denoiser(schedule)
    saved.save_pretrained(tmp_path / "m.safetensors")
    loaded = Denoiser.from_pretrained(tmp_path / "m.safetensors")
    assert loaded.schedule == schedule
    assert artifact.describe(loaded) == artifact.describe(saved)
    x, y = torch.randn(2, 2, 66, 9).unbind()
    t = torch.tensor(0.4)
    y = y if schedule.paired else None
    assert torch.equal(saved(x, t, y), loaded(x, t, y))


@pytest.mark.parametrize(
    "backbone",
    [DiffWave(channels=4, layers=2, mels=0), DilatedStack(1, layers=2, frames=Patch(3))],
    ids=lambda b: type(b).__name__,
)
def test_every_backbone_is_rebuilt(tmp_path, backbone):
    NetworkDenoiser(backbone, schedules.VariancePreserving()).save_pretrained(tmp_path / "m")
    loaded = Denoiser.from_pretrained(tmp_path / "m")
    assert artifact.describe(loaded.backbone) == artifact.describe(backbone)


def test_weights_are_stored_as_float16_and_used_as_float32(tmp_path):
    stack_denoiser().save_pretrained(tmp_path / "m.safetensors")
    assert {v.dtype for v in load_file(tmp_path / "m.safetensors").values()} == {torch.float16}
    loaded = Denoiser.from_pretrained(tmp_path / "m.safetensors")
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}


def rewritten(path, change):
    """The file again, with its header changed by `change(tree)`."""
    tree = artifact.header(path)
    change(tree)
    save_file(load_file(path), path, metadata={artifact.KEY: json.dumps(tree)})
    return path


@pytest.fixture
def model(tmp_path):
    stack_denoiser().save_pretrained(tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "subprocess.Popen",
        "torch.nn.Linear",
        "signal_diffusion.files.artifact.os.system",
        "signal_diffusion.files.artifact.load",
        "signal_diffusion.files.artifact.Path",
        "builtins.eval",
        "",
    ],
)
def test_header_that_names_foreign_code_is_refused(model, name):
    rewritten(model, lambda tree: tree["model"]["arguments"]["backbone"].update({"class": name}))
    with pytest.raises(InputError, match="the model names"):
        Denoiser.from_pretrained(model)


def test_own_classes_are_admitted_by_allow(tmp_path, monkeypatch):
    (tmp_path / "mypackage.py").write_text(
        "import torch\n"
        "class Gain(torch.nn.Module):\n"
        "    context = (0, 0)\n"
        "    def __init__(self, gain):\n"
        "        super().__init__()\n"
        "        self.gain = gain\n"
        "    def forward(self, x, t, y=None, cond=None):\n"
        "        return self.gain * y\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    from mypackage import Gain

    NetworkDenoiser(Gain(0.25), schedules.BrownianBridge()).save_pretrained(tmp_path / "m")
    with pytest.raises(InputError, match=r"allow=\('mypackage',\)"):
        Denoiser.from_pretrained(tmp_path / "m")
    y = torch.ones(1, 1, 4)
    loaded = Denoiser.from_pretrained(tmp_path / "m", allow=("mypackage",))
    assert torch.equal(loaded(y, torch.tensor(1.0), y), 0.25 * y)


def test_forged_size_is_refused_without_its_memory(model):
    def widen(tree):
        tree["model"]["arguments"]["backbone"]["arguments"]["channels"] = 10**6

    with pytest.raises(InputError, match="don't fit"):
        Denoiser.from_pretrained(rewritten(model, widen))


def test_damaged_files_give_one_line(model, tmp_path):
    whole = model.read_bytes()
    foreign = tmp_path / "foreign.safetensors"
    save_file({"w": torch.zeros(1)}, foreign)
    broken = {"text": b"no model", "empty": b"", "half": whole[: len(whole) // 2]}
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
    for path in [foreign, *(tmp_path / name for name in broken)]:
        with pytest.raises(InputError) as error:
            Denoiser.from_pretrained(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


def test_unknown_arguments_and_newer_formats_are_refused(model):
    rewritten(model, lambda tree: tree["model"]["arguments"].update(magic=1))
    with pytest.raises(InputError, match="can't be rebuilt"):
        Denoiser.from_pretrained(model)
    with pytest.raises(InputError, match="update"):
        Denoiser.from_pretrained(rewritten(model, lambda tree: tree.update(format=99)))


def test_unknown_name_lists_the_shipped_ones():
    with pytest.raises(InputError, match="no model 'speach'"):
        Denoiser.from_pretrained("speach")


def test_failed_save_leaves_nothing(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(InputError, match=r"m.safetensors can't be written: disk full"):
        stack_denoiser().save_pretrained(tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_fingerprint_is_of_what_a_model_does(tmp_path):
    denoiser = Denoiser.from_pretrained("ecg")
    paths = [tmp_path / f"{name}.safetensors" for name in "abc"]
    denoiser.save_pretrained(paths[0])
    denoiser.card = {"other": "card"}
    denoiser.save_pretrained(paths[1])
    denoiser.limit = 1.0
    denoiser.save_pretrained(paths[2])
    kept, same, changed = (artifact.fingerprint(path) for path in paths)
    assert kept == artifact.fingerprint("ecg") == same != changed
    assert artifact.digest(paths[0]) != artifact.digest(paths[1])
    denoiser.limit = 16.0
    next(iter(denoiser.parameters())).data[0] += 1
    denoiser.save_pretrained(paths[2])
    assert artifact.fingerprint(paths[2]) != kept


#: Fingerprints of the shipped models as they were before classes moved, which `--resume` stores.
FINGERPRINTS = {
    "digits": "30db893105bfb60e",
    "drums": "20a0f12a97eb6534",
    "ecg": "9473a7174ebf52a8",
    "notes": "239fdd20890fc593",
    "speech": "786ff5a7fa34c44e",
    "vibration": "e5f79cfac8b7efb1",
    "vocoder": "532314c920caaad8",
}
FIRST_FILE = Path(__file__).resolve().parents[1] / "samples" / "models" / "first_paths.safetensors"


@pytest.mark.parametrize("name", artifact.shipped())
def test_shipped_models_load_and_keep_their_fingerprint(name):
    denoiser = Denoiser.from_pretrained(name)
    assert denoiser.kind in ("denoiser", "vocoder", "generator")
    if name in FINGERPRINTS:
        assert artifact.fingerprint(name) == FINGERPRINTS[name]


def test_a_file_of_before_the_moves_is_the_same_model():
    """It names `bands.Bands` and `mel.Mel`, the first paths of these classes."""
    text = json.dumps(artifact.header(FIRST_FILE))
    assert all(f'"{old}"' in text for old in artifact.MOVED)
    loaded = Denoiser.from_pretrained(FIRST_FILE)
    assert isinstance(loaded.mel, Mel) and loaded.mel.bands == 20 and loaded.bands.steps == 4
    assert artifact.fingerprint(FIRST_FILE) == "5be40b69f278c827"
    x = torch.linspace(-1, 1, 8).reshape(1, 1, 8)
    with torch.no_grad():
        x_hat = loaded(x, torch.tensor(1.0), x).flatten()
    before = [-0.7456, -0.4967, -0.2325, 0.0611, 0.3889, 0.7061, 0.9556, 1.1451]
    torch.testing.assert_close(x_hat, torch.tensor(before), atol=1e-4, rtol=0)


def test_a_file_of_before_the_moves_keeps_its_fingerprint_when_saved_again(tmp_path):
    Denoiser.from_pretrained(FIRST_FILE).save_pretrained(tmp_path / "again.safetensors")
    assert artifact.fingerprint(tmp_path / "again.safetensors") == artifact.fingerprint(FIRST_FILE)
