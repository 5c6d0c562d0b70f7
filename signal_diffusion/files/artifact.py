"""The artefact: one safetensors file with the model's configuration in its header.

The header's object tree is read off the objects (every constructor argument is stored under its
own name), and rebuilt by an allow-list: no pickle, no code from the file, no foreign class.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import inspect
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from signal_diffusion.errors import InputError, one_line
from signal_diffusion.files import atomic

KEY = "signal_diffusion"
FORMAT = 1
#: Bytes of a file's header, levels of its tree, and values of all weights and all tables.
MOST_HEADER, MOST_LEVELS, MOST_WEIGHTS, MOST_TABLES = 1 << 20, 32, 2 * 10**8, 10**6
#: Largest magnitude of a number in the tree.
LARGEST = 1e30
#: Least and largest value of arguments of this package's classes, which decide time and memory.
LIMITS = {
    **dict.fromkeys(("window", "frame", "hop", "size"), (1, 1 << 15)),
    **dict.fromkeys(("bands", "knots", "layers", "partials"), (1, 1 << 10)),
    **dict.fromkeys(("limit", "noise_std", "scale", "sigma_data", "spread"), (1e-9, 1e9)),
    "dilation_cycle": (1, 16),
    "floor": (0, 1e9),
    "iterations": (0, 1000),
    "length": (1, 1 << 22),
    "level_db": (-200, 200),
    "power": (1e-3, 10),
    "sample_rate": (1, 10**7),
    "steps": (1, 10**5),
    "trend": (2, 1 << 20),
}
#: What would move the cursor of a terminal.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
#: Where the classes are that a model of this package may consist of.
HOMES = ("calibration", "conditions", "denoiser", "gaussian", "guidance", "nn", "schedules")
SHIPPED = Path(__file__).parents[1] / "models"
#: Arguments of a model that change no estimate.
DESCRIPTIVE = ("card", "bands")
PLAIN = (str, int, float, bool, type(None))
#: Classes that model files name by the path they had when the files were written.
MOVED = {
    "signal_diffusion.bands.Bands": "signal_diffusion.calibration.Bands",
    "signal_diffusion.mel.Mel": "signal_diffusion.nn.mel.Mel",
}
#: Arguments by the names that they had in older files.
RENAMED = {"told": "data"}
#: The first path of each moved class, which fingerprints keep.
FIRST_PATHS = {new: old for old, new in MOVED.items()}


def shipped() -> dict[str, Path]:
    """Names and files of the models that come with the package."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.safetensors"))}


def resolve(name_or_path: str | Path) -> Path:
    """The file of a shipped name or of a path."""
    names = shipped()
    if str(name_or_path) in names:
        return names[str(name_or_path)]
    path = Path(name_or_path)
    if path.is_dir():
        path = path / "model.safetensors"
    if not path.is_file():
        models = ", ".join(names) or "none"
        raise InputError(f"no model '{name_or_path}': give a .safetensors file or one of: {models}")
    return path


def digest(name_or_path: str | Path) -> str:
    """What tells a model file from others: 16 digits of its SHA-256."""
    return hashlib.sha256(resolve(name_or_path).read_bytes()).hexdigest()[:16]


def describe(value: Any) -> Any:
    """JSON tree of an object: plain values, lists, dicts, modules and dataclasses.

    Raises:
        InputError: an argument of a constructor is no attribute of its object, or can't be stored.
    """
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, (list, tuple)):
        return [describe(v) for v in value]
    if isinstance(value, dict):
        return {str(k): describe(v) for k, v in value.items()}
    made = type(value)
    stored = isinstance(value, nn.Module) or dataclasses.is_dataclass(value)
    if not stored or made.__module__.startswith("torch."):
        raise InputError(f"a {made.__name__} can't be stored in a model file")
    every = inspect.signature(made).parameters.values()
    named = [p.name for p in every if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    for name in named:
        if not hasattr(value, name):
            raise InputError(
                f"{made.__name__} has no attribute '{name}', an argument of its constructor that a "
                f"model file stores: set self.{name} = {name}"
            )
    tree = {name: describe(getattr(value, name)) for name in named}
    return {"class": f"{made.__module__}.{made.__qualname__}", "arguments": tree}


def build(tree: Any, *, allow: Sequence[str] = ()) -> Any:
    """The object of a tree, from this package's classes and the packages named in `allow`.

    Raises:
        InputError: a class is foreign, or an argument is of another type or out of `LIMITS`.
    """
    if isinstance(tree, list):
        return [build(v, allow=allow) for v in tree]
    if not isinstance(tree, dict):
        return tree
    if not _is_object(tree):
        return {k: build(v, allow=allow) for k, v in tree.items()}
    made = _allowed_class(tree["class"], allow)
    given = tree["arguments"].items()
    arguments = {RENAMED.get(k, k): build(v, allow=allow) for k, v in given}
    hints = _hints(made)
    for name, value in arguments.items():
        hint = hints.get(name, Any)
        if not _fits(value, hint):
            wrong = f"{value!r:.60}, of type {type(value).__name__}"
            raise InputError(f"{name} of {made.__name__} is {wrong}, not {hint}")
        if made.__module__.startswith("signal_diffusion."):
            _require_within(name, value)
    return made(**arguments)


def _is_object(tree: Any) -> bool:
    return isinstance(tree, dict) and set(tree) == {"class", "arguments"}


@cache
def _hints(made: Any) -> dict[str, Any]:
    try:
        return get_type_hints(made.__init__)
    except (NameError, TypeError):
        # Names that only type checkers see.
        return {}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type."""
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if isinstance(value, list):
        listed = kind is Any or kind in (list, tuple, Sequence)
        return listed and all(_fits(v, part) for v in value for part in parts[:1])
    if isinstance(value, str) or kind in (bool, int):
        return kind is Any or kind is type(value)
    if kind is float:
        return type(value) in (int, float)
    return not isinstance(kind, type) or kind is Any or isinstance(value, kind)


def _require_within(name: str, value: Any) -> None:
    least, most = LIMITS.get(name, (-LARGEST, LARGEST))
    for number in value if isinstance(value, list) else [value]:
        if isinstance(number, (int, float)) and not least <= number <= most:
            raise InputError(f"{name} is {number:.6g}; it goes from {least:g} to {most:g}")


def _allowed_class(name: str, allow: Sequence[str] = ()) -> type:
    packages = ("signal_diffusion", *allow)
    module, _, attribute = MOVED.get(str(name), str(name)).rpartition(".")
    if module.split(".")[0] not in packages:
        raise InputError(
            f"the model names the class {name}, which is not of {' or '.join(packages)}: "
            f"if you trust it, pass allow=('{module.split('.')[0]}',)"
        )
    if module.split(".")[0] == "signal_diffusion" and module.split(".")[1:2][0] not in HOMES:
        raise InputError(f"the model names {name}, which is no part of a model")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise InputError(f"the model names {name}, which can't be imported: {error}") from error
    if not inspect.isclass(found) or found.__module__.split(".")[0] not in packages:
        raise InputError(f"the model names {name}, which is no class of {' or '.join(packages)}")
    if not issubclass(found, nn.Module) and not dataclasses.is_dataclass(found):
        raise InputError(f"the model names {name}, which is no module and no schedule")
    return found


def save(path: str | Path, module: nn.Module, *, dtype: torch.dtype = torch.float16) -> None:
    """Write a module's configuration and weights to one file, beside it first, then renamed.

    Weights that are too large for the type are stored as they are.

    Raises:
        InputError: weights are not finite, an object can't be stored, or the file can't be written.
    """
    made = type(getattr(module, "backbone", module))
    if "<locals>" in made.__qualname__:
        raise InputError(f"{made.__name__} is defined in a function: define it in a module")
    header = {KEY: json.dumps({"format": FORMAT, "model": describe(module)})}
    weights = {k: _stored(k, v, dtype) for k, v in module.state_dict().items()}
    atomic.write(Path(path), to_bytes(weights, metadata=header))


def _stored(name: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    value = value.detach().cpu().contiguous()
    if not torch.isfinite(value).all():
        raise InputError(f"the weights {name} hold NaN or infinite values: training has diverged")
    fits = value.is_floating_point() and value.abs().amax() <= torch.finfo(dtype).max
    return value.to(dtype) if fits else value


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A model file; what is wrong with it is an InputError of one line with its path."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
        if MOST_HEADER < size <= path.stat().st_size:
            raise InputError(f"{path} has a header of {size} bytes; at most {MOST_HEADER} are read")
        with safe_open(path, framework="pt") as opened:
            yield opened
    except (SafetensorError, OSError) as error:
        why = one_line(error)
        raise InputError(f"{path} is no model file or is truncated: {why}") from error
    except Exception as error:
        why = one_line(error)
        at = "" if str(path) in why else f"{path} can't be rebuilt from its header: "
        raise InputError(at + why) from error


def header(path: str | Path) -> dict[str, Any]:
    """The configuration in a model file: `{"format": ..., "model": tree}`.

    Raises:
        InputError: there is no such model, or its header is damaged, too large or too deep.
    """
    path = resolve(path)
    with _opened(path) as file:
        metadata = file.metadata() or {}
    if KEY not in metadata:
        raise InputError(f"{path} is a safetensors file, but not of signal_diffusion")
    try:
        # NaN and infinity are no JSON: in a card, they are texts.
        found = json.loads(metadata[KEY], parse_constant=str)
        _require_plain(found)
        newer = found["format"] > FORMAT
        if not _is_object(found["model"]):
            raise TypeError("its model is no object")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} has a damaged header: {one_line(error)}") from error
    if newer:
        raise InputError(f"{path} is of format {found['format']}: update signal-diffusion")
    return dict(found)


def _require_plain(tree: Any, level: int = 0) -> None:
    """Raise a ValueError for a tree that is too deep, or has odd characters, numbers or objects."""
    if level > MOST_LEVELS:
        raise ValueError(f"it has more than {MOST_LEVELS} levels")
    if isinstance(tree, str) and CONTROL.search(tree):
        raise ValueError("it holds control characters")
    if isinstance(tree, (int, float)) and not abs(tree) <= LARGEST:
        raise ValueError("it holds numbers beyond 1e30")
    if _is_object(tree) and not (
        isinstance(tree["class"], str) and isinstance(tree["arguments"], dict)
    ):
        raise TypeError("a class or its arguments are of another type")
    parts = [*tree, *tree.values()] if isinstance(tree, dict) else tree
    for part in parts if isinstance(parts, list) else ():
        _require_plain(part, level + 1)


def fingerprint(path: str | Path) -> str:
    """What tells a model from others: 16 digits of the SHA-256 of its settings and weights.

    Its card and the calibration of its bands, which change no estimate, don't count, nor do
    settings that are as they are by default, which later versions may add to.
    """
    settings = _set(header(path)["model"])
    arguments = {k: v for k, v in settings["arguments"].items() if k not in DESCRIPTIVE}
    found = hashlib.sha256(json.dumps([settings["class"], arguments], sort_keys=True).encode())
    with _opened(resolve(path)) as file:
        for key in sorted(file.keys()):
            stored = file.get_tensor(key).reshape(-1).view(torch.uint8)
            found.update(key.encode() + stored.numpy().tobytes())
    return found.hexdigest()[:16]


def _set(tree: Any) -> Any:
    """A tree of a model of this package, without the arguments that have their defaults."""
    if isinstance(tree, list):
        return [_set(v) for v in tree]
    if not _is_object(tree):
        return tree
    made = inspect.signature(_allowed_class(tree["class"])).parameters
    given = {k: v for k, v in tree["arguments"].items() if k in made}
    kept = {k: v for k, v in given.items() if v != _default(made[k].default)}
    name = FIRST_PATHS.get(tree["class"], tree["class"])
    return {"class": name, "arguments": {k: _set(v) for k, v in kept.items()}}


def _default(value: Any) -> Any:
    return "required" if value is inspect.Parameter.empty else describe(value)


def load(path: str | Path, *, allow: Sequence[str] = ()) -> nn.Module:
    """Rebuild the module of a file, with float32 weights, in evaluation mode.

    Types and sizes of the header, shapes of the weights and sizes of tables are compared first,
    without their memory, so that a forged header can't claim it.

    Raises:
        InputError: there is no such model, or its file is damaged, forged or too large.
    """
    tree, path = header(path)["model"], resolve(path)
    with _opened(path) as file:
        shapes = {k: torch.Size(file.get_slice(k).get_shape()) for k in file.keys()}  # noqa: SIM118
        count = sum(shape.numel() for shape in shapes.values())
        if count > MOST_WEIGHTS:
            raise InputError(f"{path} has {count} weights; at most {MOST_WEIGHTS} are read")
        with torch.device("meta"):
            outline = build(tree, allow=allow)
        tables = sum(buffer.numel() for buffer in outline.buffers())
        if tables > MOST_TABLES + count:
            raise InputError(f"{path}: its header asks for tables of {tables} values")
        if shapes != {k: v.shape for k, v in outline.state_dict().items()}:
            raise InputError(f"{path}: its weights don't fit the model that its header describes")
        module: nn.Module = build(tree, allow=allow)
        for name, value in module.state_dict().items():
            stored = file.get_tensor(name)
            if not torch.isfinite(stored.float()).all():
                raise InputError(f"{path}: its weights {name} hold NaN or infinite values")
            value.copy_(stored)
    return module.eval()
