"""Mutants of model files end in one line, quickly and in bounded memory, or work."""

import json
import random
import resource
import signal
import struct
import time
import warnings
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import generator, network, sensor, vocoder
from safetensors.torch import load_file, save_file

from signal_diffusion.denoiser import Denoiser, NetworkDenoiser
from signal_diffusion.errors import InputError
from signal_diffusion.files import artifact
from signal_diffusion.tasks.denoise import denoise
from signal_diffusion.tasks.generate import generate
from signal_diffusion.tasks.vocode import vocode

#: Values that take the place of others.
ODD: list[Any] = [
    *(0, 1, -1, 2, 3, 7, 10**9, -(10**9), 2**31, 2**63, 10**40, 1e308, 1e-308, -0.5, 0.0),
    *(float("nan"), float("inf"), True, False, None, "", "x", "\x1b[31mred\n\x07", "9" * 5000),
    *([], [[]], {}, [1, 2, 3], ["a"], [10**9] * 20, {"class": "os.system", "arguments": {}}),
    *({"class": "signal_diffusion.schedules.EDM", "arguments": {}}, {"class": 3, "arguments": []}),
    *({"class": "signal_diffusion.nn.frames.Patch", "arguments": {"size": 10**9}},),
]
#: Seconds that a mutant may take.
PATIENCE = 30


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to all values of a tree."""
    parts = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found = []
    for key, value in parts:
        found.append((*path, key))
        if isinstance(value, (dict, list)):
            found += places(value, (*path, key))
    return found


def mutated(tree: Any, rng: random.Random) -> str:
    """A tree with one to three values exchanged, deleted or doubled, as JSON."""
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        # Cards, which people read and nothing goes by, are long.
        paths = [p for p in places(tree) if "card" not in p or rng.random() < 0.05]
        *above, last = rng.choice(paths)
        node = tree
        for key in above:
            node = node[key]
        deed = rng.random()
        if deed < 0.75:
            node[last] = deepcopy(rng.choice(ODD))
        elif deed < 0.85:
            del node[last]
        elif isinstance(node, dict):
            node[rng.choice(["more", "class", "arguments", f"{last}_"])] = deepcopy(node[last])
        else:
            node.append(deepcopy(node[last]))
    text = json.dumps(tree)
    if rng.random() < 0.05:
        depth = rng.choice([40, 10_000, 200_000])
        text = text[:-1] + ', "deep": ' + "[" * depth + "]" * depth + "}"
    return text


def mutant(path: Path, content: bytes, rng: random.Random) -> None:
    """Write a model file with a changed header or bytes."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    deed = rng.random()
    if deed < 0.8:
        tree = json.loads(header["__metadata__"][artifact.KEY])
        header["__metadata__"][artifact.KEY] = mutated(tree, rng)
    elif deed < 0.85:
        name = rng.choice([k for k in header if k != "__metadata__"])
        field = rng.choice(["dtype", "shape", "data_offsets"])
        header[name][field] = rng.choice(["I64", "BF16", [], [1], [10**12], [0, 10**15], "x", None])
    new = json.dumps(header).encode()
    found = bytearray(struct.pack("<Q", len(new)) + new + content[8 + size :])
    if 0.85 < deed < 0.95:
        for _ in range(rng.choice([1, 10, 1000])):
            within = size if rng.random() < 0.5 else len(found)
            found[rng.randrange(within)] = rng.randrange(256)
    elif deed > 0.95:
        del found[rng.randrange(len(found)) :]
    path.write_bytes(bytes(found))


def use(denoiser: NetworkDenoiser) -> np.ndarray:
    """What a model makes of a short recording, of frames or of nothing."""
    x = 0.1 * np.random.default_rng(0).standard_normal(2000).astype(np.float32)
    if denoiser.kind == "vocoder":
        assert denoiser.mel is not None
        return vocode(denoiser, denoiser.mel(torch.from_numpy(x)[None])[0])
    if denoiser.kind == "generator":
        return generate(denoiser, steps=1)
    noise_std = None if denoiser.schedule.paired or denoiser.noise_std is not None else 0.05
    return denoise(denoiser, x, sample_rate=denoiser.sample_rate or 8000, noise_std=noise_std)


def outcome(path: Path) -> str:
    """What becomes of a model file: "works", or the line of its error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            assert np.isfinite(use(Denoiser.from_pretrained(path))).all()
        except InputError as error:
            assert "\n" not in str(error)
            return str(error)
    return "works"


def fuzz(folder: Path, models: list[Path], *, count: int, seed: int) -> tuple[int, float]:
    """Try mutants; returns how many worked, and the seconds of the slowest."""

    def late(*_: object) -> None:
        raise TimeoutError

    rng, works, slowest = random.Random(seed), 0, 0.0
    contents = [path.read_bytes() for path in models]
    signal.signal(signal.SIGALRM, late)
    for number in range(count):
        path, began = folder / "mutant.safetensors", time.monotonic()
        mutant(path, rng.choice(contents), rng)
        signal.alarm(PATIENCE)
        try:
            works += outcome(path) == "works"
        except Exception as error:
            error.add_note(f"mutant {number}, kept as {path}") if hasattr(error, "add_note") else 0
            raise
        finally:
            signal.alarm(0)
        slowest = max(slowest, time.monotonic() - began)
    return works, slowest


@pytest.fixture
def model(tmp_path: Path) -> Path:
    network().save_pretrained(tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="there are no alarms")
def test_mutants_of_model_files_end_in_one_line(tmp_path: Path) -> None:
    models = []
    for name, made in {"a": network(), "b": sensor(), "c": vocoder(), "d": generator()}.items():
        made.save_pretrained(tmp_path / name)
        models.append(tmp_path / name)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    works, _ = fuzz(tmp_path, models, count=150, seed=0)
    assert 0 < works < 75
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000


def with_header(path: Path, change: Callable[[Any], None]) -> Path:
    tree = artifact.header(path)
    change(tree["model"]["arguments"])
    save_file(load_file(path), path, metadata={artifact.KEY: json.dumps(tree)})
    return path


@pytest.mark.parametrize(
    ("part", "name", "value", "message"),
    [
        ("backbone", "layers", 10**9, "layers is 1e.09; it goes from 1 to 1024"),
        ("backbone", "layers", "5", "layers of DilatedStack is '5', of type str"),
        ("backbone", "dilation_cycle", 0, "dilation_cycle is 0; it goes from 1 to 16"),
        ("codec", "hop", 10**9, "hop is 1e.09; it goes from 1 to 32768"),
        ("codec", "hop", 2000, "can't be run"),
        ("codec", "power", float("nan"), "power of CompressedSTFT is 'NaN', of type str"),
        ("schedule", "scale", 0.0, "scale is 0; it goes from 1e-09"),
        (None, "level_db", [1], "level_db of NetworkDenoiser is"),
        (None, "sample_rate", -8000, "sample_rate is -8000; it goes from 1"),
        (None, "domain", "\x1b[31m", "it holds control characters"),
        (None, "card", [[]] * 3, "card of NetworkDenoiser is"),
    ],
)
def test_a_header_that_makes_no_sense_is_one_line(
    model: Path, part: str | None, name: str, value: object, message: str
) -> None:
    def change(arguments: Any) -> None:
        (arguments if part is None else arguments[part]["arguments"])[name] = value

    with pytest.raises(InputError, match=message) as caught:
        Denoiser.from_pretrained(with_header(model, change))
    assert str(model) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000 + "]" * 100_000, "damaged header"),
        ('{"format": 1, "model": ' + "[" * 40 + "]" * 40 + "}", "more than 32 levels"),
        ('{"format": 1, "model": {"class": 3, "arguments": {}}}', "of another type"),
        ('{"format": "1", "model": {}}', "damaged header"),
        ('{"format": 1, "model": {"x": 1e999}}', "numbers beyond"),
        ('{"format": 1, "model": "' + "x" * (1 << 21) + '"}', "header of .* bytes; at most"),
    ],
)
def test_headers_have_bounds(model: Path, text: str, message: str) -> None:
    save_file(load_file(model), model, metadata={artifact.KEY: text})
    with pytest.raises(InputError, match=message):
        artifact.header(model)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_neither_written_nor_read(model: Path, bad: float) -> None:
    weights, tree = load_file(model), artifact.header(model)
    next(iter(weights.values())).view(-1)[0] = bad
    save_file(weights, model, metadata={artifact.KEY: json.dumps(tree)})
    with pytest.raises(InputError, match="hold NaN or infinite values"):
        Denoiser.from_pretrained(model)
    diverged = network()
    next(diverged.parameters()).data.view(-1)[0] = bad
    with pytest.raises(InputError, match="training has diverged"):
        diverged.save_pretrained(model.parent / "n.safetensors")
    assert not (model.parent / "n.safetensors").exists()


def test_weights_too_large_for_float16_are_kept(model: Path) -> None:
    large = network()
    next(large.parameters()).data.view(-1)[0] = 1e6
    large.save_pretrained(model)
    loaded = Denoiser.from_pretrained(model)
    assert next(loaded.parameters()).view(-1)[0] == 1e6
    assert len(artifact.fingerprint(model)) == 16
