"""Put a trained model into the package: its weights, with its card inside and beside it.

    python recipes/ship_model.py RUN/model.safetensors --name speech --card recipes/speech_card.json
        --results results/speech.json

The card is a JSON object of what people should know (data, licence, command, time, limits); the
scores come from the results of a recipe `evaluate_*.py`. Writes NAME.safetensors, with weights as
float16, and NAME.md into `signal_diffusion/models`. A second.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from signal_diffusion import Denoiser
from signal_diffusion.files import artifact
from signal_diffusion.model_facts import model_facts


def scores(results: dict[str, Any]) -> dict[str, str]:
    """One line a method and group, from the JSON of one of the recipes `evaluate_*.py`."""
    if "rows" not in results:
        return {
            ", ".join([method, *group]): ", ".join(f"{k} {value:.4g}" for k, value in row.items())
            for method, found in results["results"].items()
            for group, row in _by_group(found)
        }
    names = {"pairs": "VoiceBank-DEMAND pairs of p287", "mixes": "mixes of the valid split"}
    return {
        f"{row['method']}, {results['data']['recordings'][group]} {name}": (
            f"PESQ {row[group]['pesq']:.2f}, ESTOI {row[group]['estoi']:.1f}, "
            f"SI-SDR {row[group]['si_sdr']:.1f} dB"
        )
        for group, name in names.items()
        for row in results["rows"]
    }


def _by_group(found: dict[str, Any]) -> list[tuple[list[str], dict[str, float]]]:
    """Scores of each group of recordings, or of all of them alike."""
    if any(isinstance(value, dict) for value in found.values()):
        return [([group], row) for group, row in found.items()]
    return [([], found)]


def page(name: str, card: dict[str, Any]) -> str:
    """The model card as Markdown."""
    named = {"file", *(key.replace("_", " ") for key in card)}
    measured = [(k, v) for k, v in model_facts(name) if k not in named]
    lines = [f"# The model `{name}`", "", *(f"- **{k}**: {v}" for k, v in measured), ""]
    for key, value in card.items():
        lines += [f"## {key.replace('_', ' ').capitalize()}", ""]
        lines += [f"- {k}: {v}" for k, v in value.items()] if isinstance(value, dict) else [value]
        lines.append("")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Put a trained model into the package.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--card", type=Path, required=True)
    parser.add_argument("--results", type=Path)
    given = parser.parse_args(arguments)
    card = json.loads(given.card.read_text(encoding="utf-8"))
    if given.results:
        card["scores"] = scores(json.loads(given.results.read_text(encoding="utf-8")))
    denoiser = Denoiser.from_pretrained(given.model)
    denoiser.card = card
    denoiser.save_pretrained(artifact.SHIPPED / f"{given.name}.safetensors")
    text = page(given.name, card)
    (artifact.SHIPPED / f"{given.name}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
