"""Denoisers: anything that estimates the clean signal from a noisy state.

    x_hat = denoiser(x_t, t, y, cond)  ~  E[x_0 | x_t, y, cond]

with states (B, C, L), the time t a scalar or (B, 1, 1) in [0, 1], an observation y for paired
schedules and a per-frame conditioner. What alters a denoiser is a denoiser wrapping one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from signal_diffusion.calibration import Bands
from signal_diffusion.conditions import Condition
from signal_diffusion.errors import InputError, one_line
from signal_diffusion.files import artifact
from signal_diffusion.nn.contract import (
    frames_of,
    require_contract,
    require_place_for_conditions,
    require_place_for_mask,
)
from signal_diffusion.nn.frames import FrameTransform, Identity, moving_mean, signals_of
from signal_diffusion.nn.magnitudes import Phaseless
from signal_diffusion.nn.mel import Mel
from signal_diffusion.schedules import Schedule
from signal_diffusion.targets import TARGETS

#: What a denoiser makes: a clean recording, sound of mel frames, or signals of no recording.
Kind = Literal["denoiser", "vocoder", "generator"]


@dataclass(frozen=True)
class RecordingTraits:
    """What a denoiser needs of a recording, and how the recording is brought to it.

    Attributes:
        sample_rate: rate of the signals in Hz, or None where they have none.
        domain: what it was trained on, e.g. "speech" or "ecg".
        level_db: level (see `levels.level_db`) that recordings are brought to, or None to leave it.
        offset: what happens to the channels' medians: "kept" takes them off and puts them back,
            "dropped" takes them off, and both give every channel a gain of its own, as sensors of
            different units need; None leaves them, with one gain for all channels.
        noise_std: standard deviation of the recordings' white noise at the denoiser's level, which
            a channel's own, given or estimated, is brought to. None where levels are what counts.
        masked: whether `cond` marks the missing samples: (B, 1, L), 1 there and 0 elsewhere, None
            for none. States and y hold there what was filled in.
        bands: how wide bands around several draws must be, or None where that is not calibrated.
        codec: the transform between signals and the states that the process runs in.
    """

    sample_rate: int | None = None
    domain: str | None = None
    level_db: float | None = None
    offset: str | None = None
    noise_std: float | None = None
    masked: bool = False
    bands: Bands | None = None
    codec: FrameTransform = field(default_factory=Identity)


#: Names of the traits, each of which is an attribute of a denoiser, too.
TRAITS = tuple(trait.name for trait in fields(RecordingTraits))


class Denoiser(nn.Module, ABC):
    """An estimate of the clean signal from a noisy state.

    Attributes:
        schedule: the process whose states and times it takes.
        hop: samples of the signal between the places where it may be cut into pieces.
        kind: what it makes.
        recording: what it needs of a recording. Each trait is an attribute of its own, too; a class
            of one's own sets those that differ from the defaults.
    """

    schedule: Schedule
    sample_rate: int | None = None
    domain: str | None = None
    level_db: float | None = None
    offset: str | None = None
    noise_std: float | None = None
    masked: bool = False
    bands: Bands | None = None

    # Typed, unlike that of `nn.Module`.
    def __init__(self) -> None:
        super().__init__()

    @property
    def kind(self) -> Kind:
        return "denoiser"

    @property
    def recording(self) -> RecordingTraits:
        given = {name: getattr(self, name) for name in TRAITS if hasattr(self, name)}
        return RecordingTraits(**given)

    @property
    def hop(self) -> int:
        return 1

    def context(self, calls: int = 1) -> tuple[int, int] | None:
        """Samples that one sample of the estimate sees before and after itself, or None for all.

        Where the denoiser is called several times, each call sees the estimates of the one before.
        """
        return None

    @abstractmethod
    def forward(
        self, x_t: Tensor, t: Tensor, y: Tensor | None = None, cond: Tensor | None = None
    ) -> Tensor:
        """State (B, C, L) at time t to the estimate x_hat (B, C, L)."""

    @staticmethod
    def from_pretrained(name_or_path: str | Path, *, allow: Sequence[str] = ()) -> NetworkDenoiser:
        """Load a shipped model by name or a model file by path.

        Args:
            name_or_path: a shipped name such as "speech", a file, or a folder that holds one.
            allow: packages besides this one whose classes the file may name.

        Raises:
            InputError: there is no such model, or the file is damaged or names foreign code.
        """
        module = artifact.load(name_or_path, allow=allow)
        if not isinstance(module, NetworkDenoiser):
            raise InputError(f"{name_or_path} holds a {type(module).__name__}, not a denoiser")
        try:
            module.require_working()
        except Exception as error:
            why = f"holds a model that can't be run: {one_line(error)}"
            raise InputError(f"{artifact.resolve(name_or_path)} {why}") from error
        return module

    def save_pretrained(self, path: str | Path) -> None:
        """Write configuration and weights (as float16) to one safetensors file."""
        artifact.save(path, self)


def denoiser_of(given: Denoiser | str | Path) -> Denoiser:
    """A denoiser as it is, or the one of a shipped name or of a model file.

    Raises:
        InputError: there is no such model, or it is something else.
    """
    if isinstance(given, (str, Path)):
        return Denoiser.from_pretrained(given)
    if not isinstance(given, Denoiser):
        raise InputError(
            f"denoiser is a {type(given).__name__}; pass a Denoiser, e.g. a NetworkDenoiser of "
            "your network, a shipped name such as 'speech', or a model file"
        )
    return given


OFFSETS = (None, "kept", "dropped")
#: Samples of the longest step of a model file's network.
LONGEST_STEP = 1 << 16


class NetworkDenoiser(Denoiser):
    """A trained network and what is needed to use it on recordings.

        x_hat = c_skip (x_t - beta y) + c_out F(c_in x_t, t, y, cond)

    with (c_skip, c_out) a row of `TARGETS` and c_in = (alpha^2 sigma_data^2 + sigma^2)^(-1/2), or 1
    for paired schedules, whose states keep the observation's scale.

    It works in float32 alone.

    Args:
        backbone: network `(x, t (B,), y, cond) -> F` on states (B, K, N), with an attribute
            `context`: the steps that one step of F depends on before and after itself, or None for
            all. It keeps its constructor's arguments as attributes, which a model file stores.
        schedule: the process that it is trained on; paired schedules take the target "clean" only.
        target: a name of `TARGETS`.
        sigma_data: standard deviation of the clean state.
        codec: the transform between signals and the states that the process runs in.
        sample_rate, domain, level_db, offset, noise_std, masked, bands: see `RecordingTraits`.
        limit: largest magnitude of the clean state, None for no limit.
        trend: samples, a power of 2, of the moving mean m that is led past the network, so that
            drifts of any size are kept, x_hat = m / alpha + D(x_t - m); None for no such thing.
        length: samples of the signals that a generator draws, None for what is none.
        conditions: what a generator can be asked for, side by side in `cond` (B, K, 1).
        mel: settings of the frames that a vocoder turns into sound, its `cond`.
        card: data, licence, command, time and scores, for people.
    """

    def __init__(
        self,
        backbone: nn.Module,
        schedule: Schedule,
        *,
        target: str = "clean",
        sigma_data: float = 1.0,
        codec: FrameTransform | None = None,
        sample_rate: int | None = None,
        domain: str | None = None,
        level_db: float | None = None,
        offset: str | None = None,
        noise_std: float | None = None,
        masked: bool = False,
        bands: Bands | None = None,
        limit: float | None = None,
        trend: int | None = None,
        length: int | None = None,
        conditions: Sequence[Condition] = (),
        mel: Mel | None = None,
        card: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if target not in TARGETS:
            raise InputError(f"target is '{target}': choose one of {', '.join(TARGETS)}")
        if schedule.paired and target != "clean":
            raise InputError(f"target is '{target}', but paired schedules take target='clean' only")
        if offset not in OFFSETS:
            raise InputError(f"offset is '{offset}': choose kept, dropped or None")
        if noise_std is not None and offset is None:
            raise InputError("noise_std goes with offset: choose offset kept or dropped")
        self.backbone, self.schedule, self.target = backbone, schedule, target
        self.sigma_data = sigma_data
        self.codec: FrameTransform = codec if codec is not None else Identity()
        self.sample_rate, self.domain, self.level_db = sample_rate, domain, level_db
        self.offset, self.noise_std, self.limit = offset, noise_std, limit
        self.trend = trend
        self.masked, self.bands = masked, bands
        self.length, self.conditions, self.mel = length, list(conditions), mel
        self.card = dict(card or {})
        if trend is not None and (schedule.paired or not isinstance(self.codec, Identity)):
            raise InputError("trend is for unpaired schedules and states of samples: leave it")
        if trend is not None and (trend < 2 or trend & (trend - 1)):
            raise InputError(f"trend is {trend} samples: give a power of 2, e.g. 1024")
        require_contract(backbone)
        if masked:
            require_place_for_mask(backbone, self.codec)
        if self.conditions:
            require_place_for_conditions(backbone, self.conditions)

    def forward(
        self, x_t: Tensor, t: Tensor, y: Tensor | None = None, cond: Tensor | None = None
    ) -> Tensor:
        t = torch.as_tensor(t, device=x_t.device)
        if self.trend is None:
            return self._estimate(x_t, t, y, cond)
        mean = moving_mean(x_t, self.trend)
        return (mean / self.schedule(t)[0]).to(x_t.dtype) + self._estimate(x_t - mean, t, y, cond)

    def _estimate(self, x_t: Tensor, t: Tensor, y: Tensor | None, cond: Tensor | None) -> Tensor:
        """What the network makes of a state without its trend."""
        x_in = x_t
        if not self.schedule.paired:
            alpha, _, sigma = self.schedule(t)
            c_in = (alpha**2 * self.sigma_data**2 + sigma**2).rsqrt()
            x_in = (c_in * x_t).to(x_t.dtype)
        elif y is None:
            raise InputError("y is missing: this model denoises an observation, pass y=...")
        if self.masked and cond is not None:
            # A mask of samples (B, 1, L) as the network's steps have it.
            cond = frames_of(self.backbone).encode(self.codec.encode(cond))
        estimate: Tensor = self.backbone(x_in, t.reshape(-1).expand(len(x_t)), y, cond)
        if self.target != "clean":
            # Of unpaired schedules alone, so that beta is 0.
            row = TARGETS[self.target](self.schedule, t, self.sigma_data)
            c_skip, c_out = (c.to(x_t.dtype) for c in row)
            estimate = c_skip * x_t + c_out * estimate
        return estimate if self.limit is None else estimate.clamp(-self.limit, self.limit)

    def loss_weight(self, t: Tensor) -> Tensor:
        """1 / c_out^2, which turns the squared error of x_hat into the network's own units."""
        return TARGETS[self.target](self.schedule, t, self.sigma_data)[1] ** -2

    @property
    def kind(self) -> Kind:
        if self.mel is not None:
            return "vocoder"
        return "denoiser" if self.length is None else "generator"

    @property
    def hop(self) -> int:
        return self.codec.hop * frames_of(self.backbone).hop

    def context(self, calls: int = 1) -> tuple[int, int] | None:
        hop, window, frames = self.codec.hop, self.codec.window, frames_of(self.backbone)
        steps = cast("tuple[int, int] | None", self.backbone.context)
        if steps is None:
            return None
        past, future = (n * frames.hop + frames.window - 1 for n in steps)
        slow = (self.trend or 0) // 2
        past, future = past * hop + slow, future * hop + slow
        return calls * past + window - 1, calls * future + window - 1

    @property
    def receptive_field(self) -> int | None:
        """Samples of the signal that one sample of x_hat depends on, per call; None for all."""
        context = self.context()
        return None if context is None else 1 + sum(context)

    def require_working(self) -> None:
        """Run all parts once on silence, as a model of a file may have parts that don't fit.

        Raises:
            Exception: whatever a part raises, an InputError for an estimate of another kind.
        """
        codec, schedule = self.codec, self.schedule
        if self.hop > LONGEST_STEP:
            raise InputError(f"a step of {self.hop} samples is too long: {LONGEST_STEP} at most")
        times = torch.linspace(schedule.t_min, schedule.t_max, 9, dtype=torch.float64)
        levels = schedule.log_snr(times)
        if not levels.isfinite().all() or not (levels.diff() < 0).all():
            raise InputError(f"{schedule} has no noise that grows with time")
        if not type(self.backbone).__module__.startswith("signal_diffusion."):
            # A network of one's own may have a least length.
            return
        signal = self.kind == "denoiser"
        state = torch.zeros(1, codec.state_channels(1), 4 * frames_of(self.backbone).hop)
        if signal:
            rows = getattr(self.backbone, "state_channels", 1) // codec.state_channels(1)
            state = codec.encode(torch.zeros(1, max(1, rows), 4 * self.hop))
        width = sum(condition.width for condition in self.conditions)
        cond = torch.zeros(1, width, 1) if width else None
        if self.mel is not None:
            cond = torch.zeros(1, self.mel.bands, state.shape[-1])
            if isinstance(codec, Phaseless) and codec.frame != self.mel.window:
                raise InputError("the codec's window is not that of the mel frames")
        y, t = state if schedule.paired else None, torch.tensor(schedule.t_start)
        with torch.no_grad():
            x_hat = self(state, t, y, cond)
            if x_hat.shape != state.shape or not x_hat.isfinite().all():
                raise InputError("its estimate has another shape, or is not finite")
            if signal:
                signals_of(codec, x_hat, 4 * self.hop)

    # All changes of the type or the device of a module end here.
    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> NetworkDenoiser:
        dtype = fn(torch.empty(0)).dtype
        if dtype != torch.float32:
            raise InputError(
                f"a NetworkDenoiser works in float32, not {str(dtype).removeprefix('torch.')}, "
                "which its times and spectra are too fine for; on a GPU, use torch.autocast"
            )
        return super()._apply(fn, recurse)
