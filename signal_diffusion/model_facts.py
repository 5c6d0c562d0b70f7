"""What a model file or a recording holds, in words: for `signal-diffusion info` and cards."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch.utils.flop_counter import FlopCounterMode

from signal_diffusion.audio import opened
from signal_diffusion.audio.provenance import read_provenance
from signal_diffusion.denoiser import Denoiser, NetworkDenoiser
from signal_diffusion.files.artifact import resolve, shipped
from signal_diffusion.nn.mel import Mel

#: Domains whose signals are sound.
AUDIO_DOMAINS = ("speech", "music", "audio")
Rows = list[tuple[str, ...]]

#: Samples that stand for a second where a model knows no rate.
SAMPLES = 16000
#: Levels of dictionaries and lists of a card that are shown.
DEPTH = 8


def shipped_models() -> Rows:
    """A table, heading first, of the models that come with the package."""
    rows: Rows = [("model", "domain", "rate", "parameters", "licence")]
    for name in shipped():
        denoiser = Denoiser.from_pretrained(name)
        licence = plain(denoiser.card.get("licence", "unknown"))
        rows.append((name, _domain(denoiser), _rate(denoiser), _parameters(denoiser), licence))
    return rows


def model_facts(name_or_path: str | Path) -> Rows:
    """Pairs of a name and its value: measured ones first, then the model's card.

    Raises:
        InputError: there is no such model, or its file is damaged.
    """
    denoiser = Denoiser.from_pretrained(name_or_path)
    second = duration(denoiser.sample_rate or SAMPLES, denoiser.sample_rate)
    rows: Rows = [
        ("file", str(resolve(name_or_path))),
        ("domain", _domain(denoiser)),
        ("rate", _rate(denoiser)),
        ("parameters", _parameters(denoiser)),
        ("process", f"{denoiser.schedule}, target {denoiser.target}"),
        *_views(denoiser),
        ("compute", f"{macs(denoiser) / 1e9:.3g} GMAC per {second} and call"),
        *_bands(denoiser),
        *_conditions(denoiser),
    ]
    return rows + [(key.replace("_", " "), plain(value)) for key, value in denoiser.card.items()]


def macs(denoiser: NetworkDenoiser) -> float:
    """Multiply-accumulates of one call on one second, in matrix products and convolutions.

    Where the denoiser has no rate, a second is `SAMPLES` samples.

    >>> from signal_diffusion.nn.stack import DilatedStack
    >>> from signal_diffusion.schedules import BrownianBridge
    >>> backbone = DilatedStack(1, channels=8, hidden=4, layers=1, paired=True)
    >>> per_sample = macs(NetworkDenoiser(backbone, BrownianBridge())) / SAMPLES
    >>> round(per_sample)  # 2*8 in, 8*4 + 12*8 + 4*8 in the block, 4*8 skip, 8*2 head
    224
    """
    of_state = getattr(denoiser.backbone, "state_channels", 1)
    channels = max(1, of_state // denoiser.codec.state_channels(1))
    x = torch.zeros(1, channels, denoiser.sample_rate or SAMPLES)
    state = denoiser.codec.encode(x.to(next(denoiser.parameters()).device))
    y = state if denoiser.schedule.paired else None
    # Products that are added to in place, which the counter leaves out by itself.
    counted = {torch.ops.aten.addmm_: lambda _, *shapes, **__: 2 * shapes[0].numel() * shapes[1][1]}
    with torch.enable_grad(), FlopCounterMode(display=False, custom_mapping=counted) as counter:
        denoiser(state, torch.tensor(denoiser.schedule.t_max), y)
    return counter.get_total_flops() / 2


def duration(samples: int, rate: float | None) -> str:
    """Samples in milliseconds, or as they are where there is no rate.

    >>> duration(512, 16000), duration(512, None)
    ('32 ms', '512 samples')
    """
    return f"{samples} samples" if rate is None else f"{1000 * samples / rate:.0f} ms"


def plain(value: Any, depth: int = DEPTH) -> str:
    """One line for an entry of a model card; what is nested deeper than `depth` is left out.

    >>> plain({"PESQ": 2.5, "data": ["a", "b"]})
    'PESQ 2.5; data a, b'
    """
    if isinstance(value, (dict, list)) and not depth:
        return "..."
    if isinstance(value, dict):
        return "; ".join(f"{key} {plain(inner, depth - 1)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(plain(inner, depth - 1) for inner in value)
    return " ".join(str(value).split())


def recording_facts(path: Path) -> Rows:
    """What a recording is, and where it comes from if it says that it is synthetic.

    Raises:
        InputError: it can't be read.
    """
    with opened(path) as reader:
        form, frames = reader.form, reader.frames
    rows: Rows = [
        ("file", str(path)),
        ("rate", f"{form.sample_rate} Hz"),
        ("channels", str(form.channels)),
        ("form", f"{form.container} {form.subtype}"),
    ]
    if frames is not None:
        rows.append(("length", f"{frames / form.sample_rate:.3f} s"))
    found = read_provenance(path) or {"synthetic": "it doesn't say so"}
    return rows + [(key.replace("_", " "), plain(value)) for key, value in found.items()]


def _views(denoiser: NetworkDenoiser) -> Rows:
    """What an estimate depends on, of models that take recordings."""
    if denoiser.kind == "generator":
        return [("length", duration(denoiser.length or 0, denoiser.sample_rate))]
    field = denoiser.receptive_field
    if field is None:
        return [("receptive field", "the whole recording")]
    view = f"{duration(field, denoiser.sample_rate)} a call"
    if denoiser.kind == "vocoder":
        return [("receptive field", view), ("takes", cast(Mel, denoiser.mel).description)]
    return [("receptive field", view), ("latency", _latency(denoiser))]


def _conditions(denoiser: NetworkDenoiser) -> Rows:
    """The conditions of a generator and their values."""
    return [(f"--{condition.name}", condition.description) for condition in denoiser.conditions]


def _latency(denoiser: NetworkDenoiser) -> str:
    """What an estimate waits for, in a stream at the model's own rate."""
    one, two = (cast("tuple[int, int]", denoiser.context(calls))[1] for calls in (1, 2))
    rate = denoiser.sample_rate
    return f"{duration(one, rate)} at 1 call, {duration(two - one, rate)} more for each further one"


def _bands(denoiser: NetworkDenoiser) -> Rows:
    """What the bands around several draws go by, where they are calibrated."""
    bands = denoiser.bands
    if bands is None:
        return []
    data = bands.data or "data that is not named"
    return [("bands", f"90 %, calibrated for {bands.steps} steps, on {data}")]


def _domain(denoiser: NetworkDenoiser) -> str:
    return denoiser.domain or "any"


def _rate(denoiser: NetworkDenoiser) -> str:
    return f"{denoiser.sample_rate} Hz" if denoiser.sample_rate else "any"


def _parameters(denoiser: NetworkDenoiser) -> str:
    return f"{sum(p.numel() for p in denoiser.parameters()):,}"
