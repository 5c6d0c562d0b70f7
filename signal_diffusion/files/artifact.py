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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import nn

from signal_diffusion.errors import InputError
from signal_diffusion.files import atomic

KEY = "signal_diffusion"
FORMAT = 1
MOST_TABLES = 10**6
SHIPPED = Path(__file__).parents[1] / "models"
#: Arguments of a model that change no estimate.
DESCRIPTIVE = ("card", "bands")
PLAIN = (str, int, float, bool, type(None))
#: Classes that model files name by the path they had when the files were written.
MOVED = {
    "signal_diffusion.bands.Bands": "signal_diffusion.calibration.Bands",
    "signal_diffusion.mel.Mel": "signal_diffusion.nn.mel.Mel",
}
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
    """JSON tree of an object: plain values, lists, dicts, modules and dataclasses."""
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, (list, tuple)):
        return [describe(v) for v in value]
    if isinstance(value, dict):
        return {str(k): describe(v) for k, v in value.items()}
    if not isinstance(value, nn.Module) and not dataclasses.is_dataclass(value):
        raise TypeError(f"a {type(value).__name__} can't be stored in a model file")
    arguments = inspect.signature(type(value)).parameters.values()
    named = [a.name for a in arguments if a.kind not in (a.VAR_POSITIONAL, a.VAR_KEYWORD)]
    tree = {name: describe(getattr(value, name)) for name in named}
    return {"class": f"{type(value).__module__}.{type(value).__qualname__}", "arguments": tree}


def build(tree: Any, *, allow: Sequence[str] = ()) -> Any:
    """The object of a tree, from this package's classes and the packages named in `allow`."""
    if isinstance(tree, list):
        return [build(v, allow=allow) for v in tree]
    if not isinstance(tree, dict):
        return tree
    if set(tree) != {"class", "arguments"}:
        return {k: build(v, allow=allow) for k, v in tree.items()}
    made = _allowed_class(tree["class"], ("signal_diffusion", *allow))
    return made(**{k: build(v, allow=allow) for k, v in tree["arguments"].items()})


def _allowed_class(name: str, packages: Sequence[str]) -> type:
    module, _, attribute = MOVED.get(str(name), str(name)).rpartition(".")
    if module.split(".")[0] not in packages:
        raise InputError(
            f"the model names the class {name}, which is not of {' or '.join(packages)}: "
            f"if you trust it, pass allow=('{module.split('.')[0]}',)"
        )
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
    """Write a module's configuration and weights to one file, beside it first, then renamed."""
    path = Path(path)
    if not path.parent.is_dir():
        raise InputError(f"no folder {path.parent} to write {path.name} to: make it first")
    header = {KEY: json.dumps({"format": FORMAT, "model": describe(module)})}
    weights = {k: v.detach().cpu().to(dtype).contiguous() for k, v in module.state_dict().items()}
    atomic.write(path, to_bytes(weights, metadata=header))


def header(path: str | Path) -> dict[str, Any]:
    """The configuration in a model file: `{"format": ..., "model": tree}`."""
    path = resolve(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is no model file or is truncated: {_line(error)}") from error
    if KEY not in metadata:
        raise InputError(f"{path} is a safetensors file, but not of signal_diffusion")
    try:
        found = json.loads(metadata[KEY])
        if not isinstance(found["model"], dict):
            raise TypeError("its model is no object")
        if found["format"] > FORMAT:
            raise InputError(f"{path} is of format {found['format']}: update signal-diffusion")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} has a damaged header: {_line(error)}") from error
    return found


def fingerprint(path: str | Path) -> str:
    """What tells a model from others: 16 digits of the SHA-256 of its settings and weights.

    Its card and the calibration of its bands, which change no estimate, don't count, nor do
    settings that are as they are by default, which later versions may add to.
    """
    settings = _set(header(path)["model"])
    arguments = {k: v for k, v in settings["arguments"].items() if k not in DESCRIPTIVE}
    found = hashlib.sha256(json.dumps([settings["class"], arguments], sort_keys=True).encode())
    with safe_open(resolve(path), framework="pt") as file:
        for key in sorted(file.keys()):
            found.update(key.encode() + file.get_tensor(key).numpy().tobytes())
    return found.hexdigest()[:16]


def _set(tree: Any) -> Any:
    """A tree of a model of this package, without the arguments that have their defaults."""
    if isinstance(tree, list):
        return [_set(v) for v in tree]
    if not isinstance(tree, dict) or set(tree) != {"class", "arguments"}:
        return tree
    made = inspect.signature(_allowed_class(tree["class"], ("signal_diffusion",))).parameters
    given = {k: v for k, v in tree["arguments"].items() if k in made}
    kept = {k: v for k, v in given.items() if v != describe(_default(made[k].default))}
    name = FIRST_PATHS.get(tree["class"], tree["class"])
    return {"class": name, "arguments": {k: _set(v) for k, v in kept.items()}}


def _default(value: Any) -> Any:
    return "required" if value is inspect.Parameter.empty else value


def load(path: str | Path, *, allow: Sequence[str] = ()) -> nn.Module:
    """Rebuild the module of a file, with float32 weights, in evaluation mode.

    Weights' shapes and tables' sizes are compared on the meta device first, so that a forged
    header can't claim memory.
    """
    tree = header(path)["model"]
    path = resolve(path)
    with safe_open(path, framework="pt") as file:
        weights = {k: file.get_tensor(k).float() for k in file.keys()}  # noqa: SIM118
    try:
        with torch.device("meta"):
            outline = build(tree, allow=allow)
        wanted = {k: v.shape for k, v in outline.state_dict().items()}
        tables = sum(buffer.numel() for buffer in outline.buffers())
        if tables > MOST_TABLES + sum(v.numel() for v in weights.values()):
            raise InputError(f"{path}: its header asks for tables of {tables} values")
        if wanted != {k: v.shape for k, v in weights.items()}:
            raise InputError(f"{path}: its weights don't fit the model that its header describes")
        module = build(tree, allow=allow)
        module.load_state_dict(weights)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path} can't be rebuilt from its header: {_line(error)}") from error
    return module.eval()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
