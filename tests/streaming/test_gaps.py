"""Missing readings: masks through rates and pieces, what networks make of them, and training."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from builders import load, manifest
from shared.result_tables import table_of

from signal_diffusion import Denoiser, denoise
from signal_diffusion.data.batches import Batch
from signal_diffusion.data.ecg import EcgSources, Gaps, without_drift
from signal_diffusion.denoiser import NetworkDenoiser
from signal_diffusion.dsp.gaps import filled
from signal_diffusion.errors import InputError
from signal_diffusion.files import artifact
from signal_diffusion.nn.frames import CompressedSTFT, Patch
from signal_diffusion.nn.stack import DilatedStack
from signal_diffusion.schedules import BrownianBridge
from signal_diffusion.streaming.masks import Missing
from signal_diffusion.tables.columns import Columns
from signal_diffusion.tasks.denoise_files import denoise_table
from signal_diffusion.training.losses import RelativeError
from signal_diffusion.training.objectives import Held, Supervised
from signal_diffusion.training.runs import start_from


class Marker(Denoiser):
    """Puts 7 where samples are missing and leaves the others."""

    schedule, masked = BrownianBridge(), True

    def context(self, calls: int = 1) -> tuple[int, int]:
        return 5, 5

    def forward(self, x_t, t, y=None, cond=None):
        return y if cond is None else torch.where(cond > 0, 7.0, y)


def network(*, masked: bool = True, rate: int | None = None, **options) -> NetworkDenoiser:
    """A small network that looks at everything it is given."""
    torch.manual_seed(0)
    backbone = DilatedStack(
        1, channels=12, hidden=8, layers=3, paired=True, frames=Patch(4), cond_channels=4 * masked
    )
    for parameter in backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    denoiser = NetworkDenoiser(
        backbone, BrownianBridge(), masked=masked, sample_rate=rate, **options
    )
    return denoiser.eval()


def holed(channels: int = 2, length: int = 6000) -> tuple[np.ndarray, np.ndarray]:
    """A signal with NaN where its mask says so, in blocks and at single samples."""
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((channels, length)).cumsum(axis=1)
    missing = rng.random((channels, length)) < 0.1
    missing[:, length // 2 : length // 2 + 300] = True
    missing[0, :40] = missing[-1, -40:] = True
    return np.where(missing, np.nan, signal), missing


@pytest.mark.parametrize("rates", [(360, 360), (250, 360), (1000, 360), (360.5, 91.3)])
def test_masks_go_to_the_nearest_samples_however_they_are_cut(rates) -> None:
    mask = np.random.default_rng(1).random((3, 1000)) < 0.05
    count = int(np.ceil(1000 * rates[1] / rates[0]))
    at_once, cut, parts = Missing(*rates, channels=3), Missing(*rates, channels=3), []
    at_once.push(mask)
    whole = at_once.take(count)
    for end in range(0, 1000, 37):
        cut.push(mask[:, end : end + 37])
        complete = int((min(end + 37, 1000) - 3) * rates[1] / rates[0])
        parts.append(cut.take(complete - sum(part.shape[1] for part in parts)))
    parts.append(cut.take(count - sum(part.shape[1] for part in parts)))
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    apart = np.abs(np.arange(1000) / rates[0] - np.arange(count)[:, None] / rates[1])
    half = 0.5 / min(rates)
    for row, found in zip(mask, whole, strict=True):
        assert found[apart[:, row].min(axis=1) < half - 1e-9].all()
        assert not found[apart[:, row].min(axis=1) > half + 1e-9].any()


@pytest.mark.parametrize("rate", [360, 250, 1000])
def test_pieces_with_gaps_equal_the_whole(rate) -> None:
    signal, missing = holed()
    denoiser = network(rate=360)
    whole = denoise(denoiser, signal, missing=missing, sample_rate=rate)
    cut = denoise(denoiser, signal, missing=missing, sample_rate=rate, piece=0.7)
    np.testing.assert_allclose(cut, whole, atol=1e-4)
    filled_only = denoise(denoiser, filled(signal, missing), sample_rate=rate)
    assert np.abs(whole - filled_only).max() > 0.1


def test_a_denoiser_gets_exactly_what_is_missing() -> None:
    signal, missing = holed()
    cleaned = denoise(Marker(), signal, missing=missing)
    np.testing.assert_array_equal(np.abs(cleaned - 7) < 1e-5, missing)
    tensor = denoise(Marker(), torch.from_numpy(signal), missing=torch.from_numpy(missing))
    np.testing.assert_allclose(tensor[~missing], signal[~missing], atol=1e-4)


def test_the_mask_of_a_masked_array_is_what_is_missing() -> None:
    signal, missing = holed()
    masked = np.ma.masked_array(np.where(missing, -9999.0, signal), missing)
    wanted = denoise(Marker(), signal, missing=missing)
    np.testing.assert_array_equal(denoise(Marker(), masked), wanted)
    half = missing.copy()
    half[:, :3000] = False
    masked = np.ma.masked_array(signal, half)
    np.testing.assert_array_equal(denoise(Marker(), masked, missing=missing), wanted)
    plain = np.ma.masked_array(filled(signal, missing))
    assert not np.ma.isMaskedArray(denoise(Marker(), plain))


def test_a_gap_that_was_filled_with_the_median_is_no_silence() -> None:
    signal = np.zeros(2000)
    signal[:600] = np.random.default_rng(0).standard_normal(600)
    missing = np.zeros(2000, bool)
    missing[900:1300] = True
    cleaned = denoise(Marker(), signal, missing=missing)
    assert np.abs(cleaned[900:1300] - 7).max() < 1e-5 and not cleaned[1300:].any()


def test_without_a_mask_or_strength_gaps_are_filled_linearly() -> None:
    signal, missing = holed()
    places = np.arange(signal.shape[1])
    wanted = [np.interp(places, places[~m], x[~m]) for x, m in zip(signal, missing, strict=True)]
    np.testing.assert_array_equal(denoise(Marker(), signal, missing=missing, strength=0), wanted)
    unmasked = network(masked=False)
    once = denoise(unmasked, signal, missing=missing)
    np.testing.assert_array_equal(once, denoise(unmasked, np.stack(wanted)))


def test_masks_that_do_not_fit_are_named() -> None:
    signal, missing = holed()
    for wrong in (missing[:, 1:], missing.astype(int)):
        with pytest.raises(InputError, match=r"pass bool of the signal's shape, \(2, 6000\)"):
            denoise(Marker(), signal, missing=wrong)
    with pytest.raises(InputError, match="leaves a channel without any sample"):
        denoise(Marker(), signal, missing=np.ones_like(missing))
    with pytest.raises(InputError, match="NaN"):
        denoise(Marker(), signal)
    stack = DilatedStack(514, channels=8, hidden=4, layers=1, paired=True)
    with pytest.raises(InputError, match="spectra have no samples"):
        NetworkDenoiser(stack, BrownianBridge(), codec=CompressedSTFT(), masked=True)
    with pytest.raises(InputError, match="cond_channels=514"):
        NetworkDenoiser(stack, BrownianBridge(), codec=Patch(514), masked=True)


def test_a_mask_of_nothing_is_as_good_as_none() -> None:
    denoiser, x, t = network(), torch.randn(2, 1, 400), torch.tensor(1.0)
    none = denoiser(x, t, x)
    assert torch.equal(denoiser(x, t, x, torch.zeros_like(x)), none)
    one = torch.zeros_like(x)
    one[0, 0, 200] = 1
    change = (denoiser(x, t, x, one) - none).abs()
    assert change[0].max() > 1e-3 and not change[1].any()


def test_tuning_starts_at_a_model_that_knew_no_masks(tmp_path) -> None:
    old = network(masked=False)
    old.save_pretrained(tmp_path / "old.safetensors")
    stack = DilatedStack(
        1, channels=12, hidden=8, layers=3, paired=True, frames=Patch(4), cond_channels=4
    )
    new = NetworkDenoiser(stack, BrownianBridge(), masked=True)
    start_from(new, str(tmp_path / "old.safetensors"))
    x, mask = torch.randn(2, 1, 400), torch.ones(2, 1, 400)
    wanted = NetworkDenoiser.from_pretrained(tmp_path / "old.safetensors")(x, torch.ones(1), x)
    assert torch.equal(new(x, torch.ones(1), x, mask), wanted)
    with pytest.raises(InputError, match="has other shapes"):
        start_from(network(), str(tmp_path / "old.safetensors"))  # its conditioner is not at 0
    new.save_pretrained(tmp_path / "new.safetensors")
    assert NetworkDenoiser.from_pretrained(tmp_path / "new.safetensors").masked


def test_gaps_have_the_lengths_and_shares_that_they_say() -> None:
    masks = Gaps(share=0.5, longest=100, most_blocks=1)(np.random.default_rng(0), 2000, 1000)
    shares = masks.mean(axis=1)
    assert (shares > 0).mean() == pytest.approx(0.5, abs=0.03)
    # Blocks alone have two edges.
    edges = np.abs(np.diff(masks.astype(int), axis=1)).sum(axis=1)
    blocks = masks[(edges <= 2) & (shares > 0)].sum(axis=1)
    assert blocks.max() <= 100 and np.median(blocks) == pytest.approx(np.sqrt(200), rel=0.3)
    assert not Gaps()(np.random.default_rng(0), 20, 1000).any()


def test_the_mixer_fills_the_gaps_as_the_reader_does(tmp_path, ecg) -> None:
    manifest(tmp_path, ecg)
    plain, *_ = EcgSources(str(tmp_path))()
    train, _, recordings = EcgSources(str(tmp_path), gaps=Gaps(share=1.0), recordings=3)()
    assert plain(np.random.default_rng(0), 2).cond is None
    batch = train(np.random.default_rng(0), 8).to("cpu")
    missing, noisy = batch.cond[:, 0].bool().numpy(), batch.noisy[:, 0].numpy()
    assert missing.any(axis=1).all()
    np.testing.assert_allclose(filled(noisy, missing), noisy, atol=1e-4)
    assert all(mask.dtype == torch.bool and mask.any() for *_, mask in recordings)


def test_a_table_is_filled_from_the_context_as_an_array_is(tmp_path) -> None:
    signal, missing = holed(1, 3000)
    rows = ["" if m else f"{x:.9f}" for x, m in zip(signal[0], missing[0], strict=True)]
    (tmp_path / "in.csv").write_text("\n".join(["n,x", *(f"{n},{r}" for n, r in enumerate(rows))]))
    columns = Columns(rate=360, channels=("x",))
    denoiser = network(rate=360)
    denoise_table(denoiser, tmp_path / "in.csv", tmp_path / "out.csv", columns=columns)
    table = np.genfromtxt(tmp_path / "out.csv", delimiter=",", names=True)
    wanted = denoise(denoiser, signal[0], missing=missing[0], sample_rate=360)
    np.testing.assert_allclose(table["x"], wanted, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(table["x_filled"] == 1, missing[0])


def test_training_hands_the_mask_to_the_network() -> None:
    torch.manual_seed(0)
    x, mask = torch.randn(4, 1, 400), (torch.rand(4, 1, 400) < 0.2).float()
    objective = Supervised(RelativeError(), last_time=0.5)

    def loss(denoiser: NetworkDenoiser, missing: torch.Tensor | None) -> float:
        batch = Batch(x, x + 0.1, [""] * 4, missing)
        return float(sum(objective.terms(denoiser, batch, torch.Generator()).values()))

    masked, unmasked = network(), network(masked=False)
    assert loss(masked, mask) != loss(masked, None) == loss(masked, 0 * mask)
    assert loss(unmasked, mask) == loss(unmasked, None)
    scores = [objective.score(masked, Held(x, x + 0.1, m)) for m in (None, mask.bool())]
    assert scores[0] != scores[1]


def test_the_gaps_recipe_scores_what_is_missing(repository, tmp_path, ecg) -> None:
    recipe = load(repository / "benchmarks" / "evaluate_gaps.py")
    manifest(tmp_path, ecg)
    groups = dict(recipe.windows(recipe.EcgSources(str(tmp_path)).mixer_of("valid")))
    assert list(groups) == [f"{noise}, {gap}" for noise in recipe.NOISES for gap in recipe.GAPS]
    for name, windows in groups.items():
        share = windows.missing.mean()
        gap = name.split(", ")[1]
        wanted = recipe.GAPS[gap] * (1 if "%" in gap else recipe.BLOCKS / 10)
        assert share == pytest.approx(wanted, rel=0.1)
        # What stands at the missing samples is not looked at.
        spoilt = replace(windows, readings=np.where(windows.missing, 1e6, windows.readings))
        for method in (recipe.linear, recipe.spline):
            np.testing.assert_array_equal(method(spoilt).mean, method(windows).mean)
    one = {"no noise, 0.1 s": groups["no noise, 0.1 s"]}
    scored = {m.__name__: recipe.scores(one, m) for m in (recipe.linear, recipe.kalman)}
    line, kalman = (scored[name]["no noise, 0.1 s"] for name in ("linear", "kalman"))
    assert line["crps"] == line["mae"] and kalman["crps"] != kalman["mae"]
    perfect = recipe.scores(groups, lambda w: recipe.Filling(w.clean, 0 * w.clean))
    assert all(row == {"mae": 0, "crps": 0} for row in perfect.values())


def test_the_shipped_model_fills_blocks_better_than_a_line(ecg) -> None:
    denoiser, rng = Denoiser.from_pretrained("ecg"), np.random.default_rng(0)
    assert denoiser.masked
    errors = np.zeros(2)
    for lead in ("234", "118"):
        clean = without_drift(ecg[lead], 360)
        missing = np.zeros(len(clean), bool)
        for start in range(300, len(clean) - 300, 500):
            missing[start + int(rng.integers(200)) :][:72] = True
        line = filled(clean[None], missing[None])[0]
        ours = denoise(denoiser, clean, missing=missing, sample_rate=360)
        errors += [np.abs(x - clean)[missing].mean() for x in (ours, line)]
    assert errors[0] < 0.85 * errors[1]


def test_the_page_of_results_and_the_shipped_model_are_of_the_gaps_numbers(repository) -> None:
    recipe = load(repository / "benchmarks" / "evaluate_gaps.py")
    results = json.loads((repository / "results" / "gaps.json").read_text())
    assert table_of(repository / "docs" / "results.md", "gaps") == recipe.table(results["results"])
    assert results["model"] == artifact.fingerprint("ecg")
    ours = results["results"].pop("ecg")
    for name, groups in results["results"].items():
        for group in (group for group in groups if group.startswith("10 dB")):
            assert ours[group]["mae"] < groups[group]["mae"], (name, group)
            assert ours[group]["crps"] < groups[group]["crps"], (name, group)
