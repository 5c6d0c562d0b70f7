"""Score a vocoder on speakers that it has not heard, beside the algorithm of Griffin and Lim.

    python benchmarks/evaluate_vocoder.py --data DATA --output results/vocoder.json
        --page docs/results.md

Up to eight seconds of each of 24 recordings of the held-out speakers (LibriSpeech and
speechocean762, with a quiet floor) go through their 80 mel bands and back. PESQ (wide band, up to
4.64), ESTOI (up to 100), log-spectral distance in dB and the error of STFT magnitudes at three
resolutions, each a mean over the recordings; the real-time factor is seconds of work per second of
sound on two threads. Beside it `librosa`: non-negative least squares and 64 iterations from the
same frames, and our own pseudo-inverse and 32 iterations, where the vocoder starts from. Six
minutes on two cores, of which five for librosa.

Why magnitudes: networks of about 5 M parameters, trained for some minutes of one core on the same
clips, PESQ (and ESTOI) on six recordings of held-out speakers of LibriSpeech:

    bridge of magnitudes, 4 min     3.34 (92.0) in 1 step, 3.30 in 4, 3.28 in 8
    bridge of spectra, 8 min        3.03 (89.1) in 1 step, 3.02 in 4, 3.00 in 8
    flow of the waveform, 8 min     1.52 (70.7) in 1 step, 1.60 in 2, 1.62 in 4, 1.63 (71.2) in 8

The first is `experiment=vocoder` but for the loss, which was the absolute error alone. The second
starts from 16 iterations of Griffin and Lim and finds phases too. The third is how larger vocoders
do it: from noise that is shaped by the mel's energy (the pseudo-inverse's magnitudes with random
phases) to the waveform, with the STFT inside the network and a loss on the clean estimate's
magnitudes at three resolutions, log-mel bands and spectrum. It may need days where the first needs
minutes: it has to learn phases, which an algorithm finds without any training.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import librosa
import numpy as np
import torch
from shared.result_tables import data_digest, insert_table

from signal_diffusion import Denoiser
from signal_diffusion.data.corpus import Corpus, clips_of, manifest_rows
from signal_diffusion.dsp import Array
from signal_diffusion.evaluation.outputs import write_results
from signal_diffusion.evaluation.summary import markdown_table
from signal_diffusion.files import artifact
from signal_diffusion.metrics import (
    estoi,
    log_spectral_distance,
    multi_resolution_error,
    pesq_wb,
)
from signal_diffusion.nn.mel import Mel, padded
from signal_diffusion.nn.phases import griffin_lim
from signal_diffusion.tasks.vocode import require_vocoder, vocode

Method = Callable[[Array], Array]
RATE, SECONDS, CLIPS = 16000, 8, 24
METRICS: dict[str, Callable[[Array, Array], float]] = {
    "pesq": lambda estimate, clean: float(pesq_wb(estimate, clean)),
    "estoi": lambda estimate, clean: 100 * float(estoi(estimate, clean, sample_rate=RATE)),
    "log_spectral_distance": lambda estimate, clean: float(log_spectral_distance(estimate, clean)),
    "multi_resolution": lambda estimate, clean: float(multi_resolution_error(estimate, clean)),
}


def recordings(data: str, mel: Mel) -> list[Array]:
    """Speech (L,) of the held-out speakers, whole hops long."""
    where = {"domain": ["speech"], "split": ["valid"]}
    clips = clips_of(data, manifest_rows(data, where=where, at_least={"floor_db": 35}))
    clips = [clip for clip in clips if clip.group != "ljspeech"]
    spread = clips[:: max(1, len(clips) // CLIPS)][:CLIPS]
    corpus = Corpus(spread, sample_rate=RATE)
    found = [corpus.clip(n)[: SECONDS * RATE] for n in range(len(corpus))]
    return [x[: len(x) // mel.hop * mel.hop] for x in found]


def frames(x: Array, mel: Mel) -> torch.Tensor:
    """The log-mel frames (bands, N) of a recording (L,)."""
    return mel(padded(torch.from_numpy(x)[None], mel))[0]


def methods(model: str, steps: Sequence[int]) -> dict[str, Method]:
    """What is compared, each from a recording to its resynthesis."""
    denoiser = Denoiser.from_pretrained(model)
    mel, _ = require_vocoder(denoiser)

    def by_librosa(x: Array) -> Array:
        power = frames(x, mel).exp().numpy()
        magnitude = librosa.feature.inverse.mel_to_stft(power, sr=RATE, n_fft=mel.window)
        return librosa.griffinlim(
            magnitude, n_iter=64, hop_length=mel.hop, n_fft=mel.window, length=len(x)
        )

    def by_pseudo_inverse(x: Array) -> Array:
        magnitude = mel.magnitudes(frames(x, mel)[None])
        return griffin_lim(magnitude, window=mel.window, hop=mel.hop, iterations=32)[0].numpy()

    def after(count: int) -> Method:
        return lambda x: vocode(denoiser, frames(x, mel), steps=count)

    ours = {f"{model_name(model)}, {n} step{'s' * (n > 1)}": after(n) for n in steps}
    return {
        "Griffin-Lim by librosa, 64 iterations": by_librosa,
        "pseudo-inverse and 32 iterations": by_pseudo_inverse,
        **ours,
    }


def model_name(model: str) -> str:
    """What the table calls a model: its name, or that of its file."""
    return model if model in artifact.shipped() else Path(model).stem


def scores(method: Method, chosen: Sequence[Array]) -> dict[str, float]:
    """Mean of every metric over the recordings, and the real-time factor."""
    method(chosen[0][: 2 * RATE])
    began = time.perf_counter()
    estimates = [method(x) for x in chosen]
    taken = time.perf_counter() - began
    pairs = [(e[: len(x)], x[: len(e)]) for e, x in zip(estimates, chosen, strict=True)]
    found = {
        name: round(float(np.mean([metric(e, x) for e, x in pairs])), 4)
        for name, metric in METRICS.items()
    }
    return {**found, "real_time_factor": round(taken * RATE / sum(map(len, chosen)), 5)}


def table(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """The scores as a table in Markdown."""
    head = ["", "PESQ", "ESTOI", "log-spectral distance, dB", "STFT error", "real-time factor"]
    lines = [
        [
            name,
            f"{row['pesq']:.2f}",
            f"{row['estoi']:.1f}",
            f"{row['log_spectral_distance']:.1f}",
            f"{row['multi_resolution']:.2f}",
            f"{row['real_time_factor']:.3f}",
        ]
        for name, row in ((name, groups["all"]) for name, groups in results.items())
    ]
    return markdown_table(head, lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with manifest.csv")
    parser.add_argument("--model", default="vocoder")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--page", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(min(2, torch.get_num_threads()))
    compared = methods(options.model, options.steps)
    chosen = recordings(options.data, Mel())
    results = {}
    for name, method in compared.items():
        results[name] = {"all": scores(method, chosen)}
        print(name, results[name]["all"], flush=True)
    print(table(results))
    if options.output:
        write_results(
            options.output,
            "python benchmarks/evaluate_vocoder.py --data DATA",
            model=artifact.fingerprint(options.model),
            clips=len(chosen),
            data=data_digest(options.data),
            results=results,
        )
    if options.page:
        insert_table(options.page, "vocoder", table(results))


if __name__ == "__main__":
    main()
