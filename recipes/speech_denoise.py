"""Train the shipped speech model from a folder of recordings.

    python recipes/speech_denoise.py data.sources.root=DATA

The same run as `signal-diffusion train experiment=speech_denoise`: DATA holds a `manifest.csv`
with the columns path, domain (speech, noise, music, pairs), split (train, valid), and where they
apply id, subset, start, length, floor_db and label. For plain folders instead of a manifest:

    python recipes/speech_denoise.py data=folders data.sources.speech=CLEAN data.sources.noise=NOISE
    python recipes/speech_denoise.py data=pairs data.sources.noisy=NOISY data.sources.clean=CLEAN

The second is the layout of VoiceBank-DEMAND. With little data add `model.init=speech`, which starts
from the shipped weights. 97 minutes on two cores that other programs used as well, best as two
processes of one thread (`trainer.accelerator=cpu trainer.devices=2 trainer.strategy=ddp` with
`OMP_NUM_THREADS=1`). Expect a validation score of 12.2 dB.
Progress, the best and the last checkpoint and `model.safetensors` lie in
`outputs/speech_denoise/DATE`; after a stop go on with
`resume=outputs/speech_denoise/DATE/checkpoints/last.ckpt`. Then score the model with
`benchmarks/evaluate_speech.py`.
"""

from __future__ import annotations

import sys

from signal_diffusion.training.runs import run

if __name__ == "__main__":
    run(["experiment=speech_denoise", *sys.argv[1:]])
