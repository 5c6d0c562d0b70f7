"""Denoise recordings that are arrays, in the array type, rate and scale that they came in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from signal_diffusion import samplers
from signal_diffusion.calibration import Bands, spread
from signal_diffusion.denoiser import Denoiser, NetworkDenoiser, denoiser_of
from signal_diffusion.dsp import Array
from signal_diffusion.dsp.drift import HighPass
from signal_diffusion.dsp.levels import SILENCE_DB, LevelMeter
from signal_diffusion.dsp.resampling import Resampler
from signal_diffusion.errors import InputError
from signal_diffusion.samplers import Progress, sampler_named
from signal_diffusion.streaming.background import quickest
from signal_diffusion.streaming.engine import Engine
from signal_diffusion.streaming.gain import Normal, gain_to, normal_of, of_sound
from signal_diffusion.streaming.pieces import part_of
from signal_diffusion.streaming.settings import (
    STEPS_OF_SHOTS,
    Mask,
    Settings,
    Signal,
    block_of,
    checked,
    like,
    mask_of,
    model_or_given_rate,
    samples_of,
)

#: Samples of a channel that are taken from an array at once.
BLOCK = 1 << 18


def denoise(
    denoiser: Denoiser | str | Path,
    signal: Signal,
    *,
    sample_rate: float | None = None,
    steps: int = 1,
    sampler: Callable[..., Tensor] | str = samplers.ddim,
    seed: int = 0,
    noise_std: float | None = None,
    strength: float = 1.0,
    band: str = "full",
    level: float | Sequence[float] | None = None,
    missing: Mask | None = None,
    piece: float | None = None,
    progress: Progress | None = None,
) -> Signal:
    """Estimate the clean recording under a noisy one, as a draw from p(x_0 | y), or its mean.

    The channels are denoised each on its own, as rows of one batch. Each is brought to the
    denoiser's rate and level and back, by a gain that is constant unless its level changes by more
    than 6 dB for two seconds, so that `denoise(a * signal) == a * denoise(signal)`, and a faint
    voice beside or after a loud one is cleaned, too. Digital silence stays silent. Long recordings
    are processed in pieces with the context that the receptive field asks for: that bounds the
    memory and changes nothing else.

    Args:
        denoiser: of a paired process, which starts at the recording (a bridge, a mean-reverting
            one), or of an unpaired one, where the recording is a state: that of `noise_std`. A
            shipped name such as "speech" or a model file's path is loaded at every call.
        signal: noisy recording, (L,) or (C, L), floating point, numpy or torch; or a batch of them,
            (B, C, L), each denoised on its own, at a level of its own.
        sample_rate: of the signal in Hz; None means the denoiser's own, and warns where it has one.
        steps: times of the grid; with `ddim`, calls of the network. One step gives the mean.
        sampler: a function of `samplers`, its name, or a function of the same form.
        seed: of the fresh noise, where there is some.
        noise_std: standard deviation of the recording's white Gaussian noise, in its own units:
            for unpaired processes, and for them alone.
        strength: from 0, the recording as it came, to 1, the estimate.
        band: "full" keeps what lies above the denoiser's band, turned down as its own highest
            octave was; "model" drops it.
        level: of the recording's loud frames (see `levels.level_db`) in dB of full scale, one or
            one a channel, for a constant gain; None means that it is measured.
        missing: true where a sample is missing, whatever it holds, in the signal's shape. It is
            filled in between its neighbours, and from the context by denoisers that are masked.
            What a masked array of NumPy masks is missing, too.
        piece: seconds that are processed at once; None means as much as memory is meant for.
        progress: called as progress(done calls, all calls).

    Returns:
        The estimate, of the signal's type, dtype, device and shape.

    Raises:
        InputError: the signal or an option can't be used.

    >>> import torch
    >>> from signal_diffusion import GaussianDenoiser, denoise, schedules
    >>> flat = torch.ones(51)                     # signal and noise of equal power at 100 samples
    >>> wiener = GaussianDenoiser(schedules.BrownianBridge(), variance=flat, noise_variance=flat)
    >>> y = torch.randn(100)
    >>> torch.allclose(denoise(wiener, y), y / 2, atol=1e-5)
    True
    """
    settings = Settings(
        steps=steps,
        sampler=sampler_named(sampler),
        seed=seed,
        noise_std=noise_std,
        strength=strength,
        band=band,
        level=level,
        piece=piece,
    )
    denoiser = denoiser_of(denoiser)
    given = (missing, progress)
    rate = model_or_given_rate(denoiser, sample_rate)
    estimates = [
        np.concatenate([block[:, 0] for block in blocks], axis=1)
        for _, blocks in _estimates(denoiser, signal, settings, rate, given)
    ]
    return like(signal, np.stack(estimates))


@dataclass(frozen=True)
class Posterior:
    """What several draws of the clean recording say, arrays of the shape of the signal.

    Attributes:
        mean: the average of the draws.
        std: deviation of the truth from it; of models without `Bands`, that of the draws.
        low, high: ends of the band that holds 90 % of the truth; of models without `Bands`, or at
            other steps than theirs, the 5 % and 95 % quantiles of the draws, which hold less.
    """

    mean: Array
    std: Array
    low: Array
    high: Array


def posterior(
    denoiser: Denoiser | str | Path,
    signal: Signal,
    *,
    shots: int = 8,
    sample_rate: float | None = None,
    steps: int = STEPS_OF_SHOTS,
    sampler: Callable[..., Tensor] | str = samplers.ddim,
    seed: int = 0,
    noise_std: float | None = None,
    strength: float = 1.0,
    band: str = "full",
    level: float | Sequence[float] | None = None,
    missing: Mask | None = None,
    piece: float | None = None,
    progress: Progress | None = None,
) -> Posterior:
    """Draw `shots` samples of the clean recording, and tell their mean and their spread.

    Arguments, scale and errors are those of `denoise`.

    >>> import torch
    >>> from signal_diffusion import GaussianDenoiser, schedules
    >>> flat = torch.ones(51)
    >>> wiener = GaussianDenoiser(schedules.BrownianBridge(), variance=flat, noise_variance=flat)
    >>> drawn = posterior(wiener, torch.randn(50, 100), shots=4)
    >>> 0.5 < float(drawn.std.mean()) < 0.7    # the deviation that is left is sqrt(1/2)
    True
    """
    settings = Settings(
        steps=steps,
        sampler=sampler_named(sampler),
        seed=seed,
        noise_std=noise_std,
        shots=shots,
        strength=strength,
        band=band,
        level=level,
        piece=piece,
    )
    if shots == 1:
        raise InputError("shots is 1, which has no spread: pass 2 or more")
    denoiser = denoiser_of(denoiser)
    rate = model_or_given_rate(denoiser, sample_rate)
    bands, given, whole = bands_of(denoiser, settings), (missing, progress), []
    for normal, blocks in _estimates(denoiser, signal, settings, rate, given):
        parts = [spread(block, bands, settings.strength / normal.gain) for block in blocks]
        whole.append([np.concatenate(each, axis=1) for each in zip(*parts, strict=True)])
    made = (np.stack(each).reshape(signal.shape) for each in zip(*whole, strict=True))
    return Posterior(*made)


def bands_of(denoiser: Denoiser, settings: Settings) -> Bands | None:
    """The denoiser's calibration, where it was made with draws as these settings make them."""
    bands, alike = denoiser.bands, settings.sampler is samplers.ddim
    return bands if bands is not None and alike and bands.steps == settings.times else None


def denoise_blocks(
    denoiser: Denoiser | str | Path,
    blocks: Iterable[Array],
    *,
    sample_rate: float | None = None,
    settings: Settings = Settings(),
) -> Iterator[Array]:
    """Denoise a recording that comes in blocks (C, n) of any size, into blocks, in bounded memory.

    Blocks that can be iterated over twice (a list, an object with `__iter__`) are read twice, first
    for the level; an iterator is read once, with the level that `settings` give or a running one.

    Raises:
        InputError: a block or a setting can't be used.

    >>> import numpy as np
    >>> from signal_diffusion import Denoiser
    >>> minutes = [np.zeros((2, 48000 * 60), np.float32) for _ in range(2)]
    >>> cleaned = denoise_blocks(Denoiser.from_pretrained("speech"), minutes, sample_rate=48000)
    >>> sum(block.shape[1] for block in cleaned) / 48000
    120.0
    """
    denoiser = denoiser_of(denoiser)
    rate = model_or_given_rate(denoiser, sample_rate)
    if iter(blocks) is blocks:
        normal = given_normal(denoiser, settings.level)
    else:
        normal = normal_for(denoiser, settings, _sound(blocks), rate)
    engine = None
    for x in _sound(blocks):
        if engine is None:
            engine = Engine(
                denoiser, settings, rate=rate, channels=len(x), dtype=str(x.dtype), normal=normal
            )
        yield from (draws.mean(axis=1) for _, draws in engine.push(x))
    if engine is not None:
        yield from (draws.mean(axis=1) for _, draws in engine.flush())


def _sound(blocks: Iterable[Array]) -> Iterator[Array]:
    """Blocks as (C, n), of as many channels as the first, once they are known to be sound."""
    channels = None
    for block in blocks:
        x = checked(block_of(block, channels))
        channels = len(x)
        yield x


def normal_for(
    denoiser: Denoiser, settings: Settings, blocks: Iterable[Array], rate: float
) -> Normal:
    """What brings a recording to the denoiser's level: by the level given, or by its blocks."""
    given = given_normal(denoiser, settings.level)
    if given is not None:
        return given
    rate = model_or_given_rate(denoiser, rate)
    return measured_normal(denoiser, blocks, rate, noise_std=settings.noise_std)


def measured_normal(
    denoiser: Denoiser, blocks: Iterable[Array], rate: float, *, noise_std: float | None = None
) -> Normal:
    """What brings a recording, (C, n) in blocks, to the denoiser's level, see `normal_of`."""
    if denoiser.level_db is None and denoiser.offset is None:
        return Normal()
    meter = _metered(denoiser, blocks, rate)
    return Normal() if meter is None else normal_of(meter, denoiser, noise_std=noise_std)


def measured_level(denoiser: Denoiser, blocks: Iterable[Array], rate: float) -> tuple[float, ...]:
    """The levels in dB of a recording's channels, (C, n) in blocks, at the denoiser's rate.

    Of denoisers of unpaired processes, which take one for all channels, the highest.
    """
    meter = _metered(denoiser, blocks, rate)
    levels = [SILENCE_DB] if meter is None else meter.levels_db.tolist()
    return tuple(levels) if denoiser.schedule.paired else (max(levels),)


def given_normal(denoiser: Denoiser, level: float | Sequence[float] | None) -> Normal | None:
    """What brings a level that is given to the denoiser's, or None where it must be measured."""
    if level is None or denoiser.offset is not None:
        return None
    if denoiser.level_db is None:
        return Normal()
    return Normal(gain_to(denoiser.level_db, np.reshape(level, (-1, 1))))


def _metered(denoiser: Denoiser, blocks: Iterable[Array], rate: float) -> LevelMeter | None:
    meter, high, sound = None, HighPass(), of_sound(denoiser)
    for block in chain(blocks, [None]):
        if block is not None and meter is None:
            meter = LevelMeter(len(block), centred=denoiser.offset is not None)
            resampler = Resampler(
                rate, denoiser.sample_rate or rate, channels=len(block), dtype=str(block.dtype)
            )
        if meter is None:
            return None
        x = resampler.flush() if block is None else resampler.push(block)
        meter.push(high.push(x) if sound else x)
    return meter


def _estimates(
    denoiser: Denoiser,
    signal: Signal,
    settings: Settings,
    rate: float,
    given: tuple[Mask | None, Progress | None],
) -> Iterator[tuple[Normal, Iterator[Array]]]:
    """What brings each recording of a batch to the denoiser's level, and its estimates."""
    missing, progress = given
    mask = mask_of(missing, signal)
    batch = signal if getattr(signal, "ndim", 0) == 3 and len(signal) else [signal]
    masks = mask if mask is not None and mask.ndim == 3 else [mask] * len(batch)
    for index, (recording, gaps) in enumerate(zip(batch, masks, strict=True)):
        x = samples_of(recording, gaps)
        cuts = [slice(n, n + BLOCK) for n in range(0, x.shape[1], BLOCK)]
        normal = normal_for(denoiser, settings, (x[:, cut] for cut in cuts), rate)
        engine = Engine(
            denoiser,
            settings,
            rate=rate,
            channels=len(x),
            dtype=str(x.dtype),
            normal=normal,
            frames=x.shape[1],
            progress=part_of(progress, index, len(batch)),
        )
        masked = [None] * len(cuts) if gaps is None else [gaps[:, cut] for cut in cuts]
        pushed = map(engine.push, (x[:, cut] for cut in cuts), masked)
        pairs = chain.from_iterable(chain(pushed, [engine.flush()]))
        yield normal, (draws for _, draws in pairs)


#: Seconds of noise that are denoised to find how long recordings take.
TRIAL = 4.0


def work_per_second(denoiser: NetworkDenoiser, settings: Settings) -> float | None:
    """Seconds of work for a second of one channel, measured; None where noise can't be denoised."""
    rate = denoiser.sample_rate or 16000
    noise = 0.1 * torch.randn(round(TRIAL * rate), generator=torch.Generator().manual_seed(0))
    try:
        run = partial(denoise, denoiser, noise, sample_rate=rate, noise_std=settings.noise_std)
        seconds = quickest(run, repeats=1).seconds
    except InputError:
        return None
    return seconds / TRIAL * settings.times * settings.shots
