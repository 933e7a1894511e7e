"""What becomes of sounds in training: frequencies, tempo, masks; held to sounds that were made so."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fastgru.models import LogMel, SequenceClassifier, SequenceClassifierConfig
from fastgru.training.classify.batches import Batch
from fastgru.training.signals import augment
from fastgru.training.signals.augment import Augment
from fastgru.training.signals.module import SignalsModule

FEATURES = LogMel(num_bins=40)
MEAN = torch.full((40,), -3.0)


def chirps(factor: float = 1.0, seconds: float = 0.5, tempo: float = 1.0) -> Tensor:
    """Three harmonies that rise in half a second; their frequencies times `factor`, in the time over `tempo`."""
    time = np.arange(int(16_000 * seconds / tempo)) / 16_000
    wave = np.zeros(len(time))
    for tone in (300, 900, 2100):
        wave += np.sin(2 * math.pi * factor * tone * (time + tempo * time**2 / 2)) / 3
    wave += np.random.default_rng(0).standard_normal(len(wave)) * 0.01
    return torch.from_numpy(FEATURES((0.3 * wave).astype(np.float32)))


def fixed(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    monkeypatch.setattr(augment, "_factors", lambda count, most, device: torch.full((count,), factor))


@pytest.mark.parametrize("factor", [0.85, 1.2])
def test_warped_spectra_are_those_of_other_frequencies(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    fixed(monkeypatch, factor)
    plain, wanted = chirps(), chirps(factor)
    warped, lengths = Augment(FEATURES, 0.2, 0.0, 0)(plain[None], torch.tensor([len(plain)]), MEAN)
    assert lengths.tolist() == [len(plain)]
    # The lowest tone is in the band where the other sound has it, or next to it.
    low = slice(0, 10)
    assert (warped[0, :, low].argmax(1) - wanted[:, low].argmax(1)).abs().max() <= 1
    assert (plain[:, low].argmax(1) - wanted[:, low].argmax(1)).abs().float().mean() > 0.8
    assert (warped[0] - wanted).abs().mean() < 0.3 * (plain - wanted).abs().mean()


@pytest.mark.parametrize("factor", [0.85, 1.2])
def test_sounds_at_another_tempo_are_shorter_or_longer(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    fixed(monkeypatch, factor)
    plain, wanted = chirps(), chirps(tempo=factor)
    padded = torch.nn.functional.pad(plain, (0, 0, 0, 9), value=float("nan"))
    steps, lengths = Augment(FEATURES, 0.0, 0.2, 0)(padded[None], torch.tensor([len(plain)]), MEAN)
    assert lengths.item() == round(len(plain) / factor) == steps.shape[1]
    assert torch.isfinite(steps).all()
    length = min(lengths.item(), len(wanted))
    assert (steps[0, :length] - wanted[:length]).abs().mean() < 0.5


def test_factors_are_even_in_their_logarithm_and_within_bounds() -> None:
    factors = augment._factors(20_000, 0.25, torch.device("cpu"))
    assert 1 / 1.25 <= factors.min() < 0.802
    assert 1.248 < factors.max() <= 1.25
    assert abs(factors.log().mean()) < 0.003
    assert abs((factors > 1).float().mean() - 0.5) < 0.02


def test_masks_cover_ranges_of_bands_and_steps() -> None:
    x = torch.randn(300, 50, 40)
    lengths = torch.full((300,), 30)
    covered, same = Augment(FEATURES, 0.0, 0.0, 1)(x, lengths, MEAN)
    assert same is lengths
    masked = covered != x
    assert (covered[masked] == -3).all()
    bands = masked.all(1)  # covered in every step
    assert 0 < bands.sum(1).max() <= 8
    assert bands.any(0).all()
    steps = masked.all(2)
    assert 0 < steps.sum(1).max() <= 6
    assert steps[:, :30].any(0).all()
    assert not steps[:, 30:].any()
    for one in (*bands, *steps):
        assert one.int().diff().abs().sum() <= 2  # one range
    assert (masked == (bands[:, None] | steps[:, :, None])).all()


def test_training_changes_sounds_and_validation_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    config = SequenceClassifierConfig(["a", "b"], 40, hidden_size=3, features=FEATURES, dropout=0, noise=0)
    model, seen = SequenceClassifier(config), []
    forward = SequenceClassifier.forward
    monkeypatch.setattr(
        SequenceClassifier, "forward", lambda self, x, lengths: (seen.append(x), forward(self, x, lengths))[1]
    )
    batch = Batch(torch.randn(2, 30, 40), torch.tensor([30, 20]), torch.tensor([0, 1]), torch.eye(2), torch.ones(2))
    for augmentation in (Augment(FEATURES, 0.2, 0.2, 1), None):
        module = SignalsModule(model, lr=0.1, seed=0, augment=augmentation)
        module.loss(batch)
        module.validation_step(batch, 0)
    changed, *others = seen
    assert changed.shape != batch.steps.shape or not torch.equal(changed, batch.steps)
    assert len(others) == 3
    assert all(torch.equal(other, batch.steps) for other in others)


def test_a_training_of_sounds_is_the_same_again(tmp_path: Path) -> None:
    changed = [Augment(FEATURES, 0.2, 0.2, 2), Augment(FEATURES, 0.2, 0.2, 2)]
    results = []
    for augmentation in changed:
        torch.manual_seed(3)
        results.append(augmentation(torch.ones(4, 20, 40).cumsum(1), torch.tensor([20, 3, 1, 9]), MEAN))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert (results[0][1] >= 1).all()
