import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fastgru.common.errors import InputError
from fastgru.models import LogMel, SequenceClassifier, SequenceClassifierConfig
from fastgru.models.sequence_classifier import pad_sequences


def build(**options: Any) -> SequenceClassifier:
    return SequenceClassifier(SequenceClassifierConfig(["a", "b", "c"], 4, hidden_size=5, **options))


def sequences(*lengths: int) -> list[Tensor]:
    return [torch.randn(length, 4) for length in lengths]


@pytest.mark.parametrize("bidirectional", [True, False])
def test_forward_is_the_equation_sequence_by_sequence(bidirectional: bool) -> None:
    model = build(num_layers=2, bidirectional=bidirectional).eval()
    rows = sequences(7, 1, 12)
    model.fit_standardisation(rows)
    logits = model(*pad_sequences(rows))
    for logit, row in zip(logits, rows, strict=True):
        y, h_n = model.gru(((row - model.mean) / model.deviation)[None])
        last = h_n[-2:, 0].flatten() if bidirectional else h_n[-1, 0]
        features = torch.cat([last, y[0].amax(0), y[0].mean(0)])
        torch.testing.assert_close(logit, model.classify(features), rtol=0, atol=1e-6)


def test_forward_does_not_see_the_padding() -> None:
    model = build().eval()
    x, lengths = pad_sequences(sequences(3, 8))
    wider = torch.nn.functional.pad(x, (0, 0, 0, 5), value=float("nan"))
    torch.testing.assert_close(model(wider, lengths), model(x, lengths), rtol=0, atol=0)


def test_standardisation_is_that_of_all_steps_together() -> None:
    model = build()
    rows = [row * 3 + 1000 for row in sequences(5, 90, 1)]
    model.fit_standardisation(row.numpy() for row in rows)
    steps = torch.cat(rows).double()
    torch.testing.assert_close(model.mean, steps.mean(0).float(), rtol=1e-6, atol=0)
    torch.testing.assert_close(model.deviation, steps.std(0, correction=0).float(), rtol=1e-5, atol=0)


def test_standardisation_of_a_feature_that_never_changes() -> None:
    model = build()
    model.fit_standardisation([torch.full((6, 4), 0.1)])
    assert model.deviation.tolist() == [1.0] * 4
    with pytest.raises(ValueError, match="one sequence or more"):
        model.fit_standardisation([])


def test_noise_and_dropout_act_in_training_only() -> None:
    batch = pad_sequences(sequences(4, 6))
    model = build(dropout=0.0)
    assert not torch.equal(model(*batch), model(*batch))
    still = build(dropout=0.0, noise=0.0)
    assert torch.equal(still(*batch), still(*batch))
    model.eval()
    assert torch.equal(model(*batch), model(*batch))


def test_gradients_reach_every_weight() -> None:
    model = build()
    model(*pad_sequences(sequences(4, 6))).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in model.parameters())


def test_predict_keeps_the_order_and_sums_to_one() -> None:
    model = build()
    rows = sequences(9, 2, 30, 1)
    found = model.predict((row.numpy() for row in rows), batch_size=2)
    assert model.training
    expected = model.eval()(*pad_sequences(rows)).softmax(1)
    for prediction, row in zip(found, expected.tolist(), strict=True):
        assert list(prediction.probabilities.values()) == pytest.approx(row, abs=1e-6)
    assert model.predict([]) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((3, 5)), r"sequence 2 must be \[steps, 4\], one step or more, got \[3, 5\]"),
        (np.zeros((0, 4)), r"got \[0, 4\]"),
        (np.zeros(4), r"got \[4\]"),
        (np.full((2, 4), np.nan), "sequence 2 holds numbers that are not finite"),
        ("speech", "sequence 2 is no array of numbers"),
        ([[1.0, 2.0], [3.0]], "sequence 2 is no array of numbers"),
    ],
)
def test_predict_refuses_what_is_no_sequence(wrong: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build().predict([np.zeros((1, 4)), wrong])


def test_predict_in_parts_is_predict_of_all_so_far() -> None:
    model = build(bidirectional=False, num_layers=2)
    (whole,) = sequences(20)
    model.fit_standardisation([whole])
    ends = [3, 4, 15, 20]
    found = list(model.predict_parts(whole[start:end] for start, end in zip([0, *ends], ends, strict=False)))
    assert model.training
    for prediction, expected in zip(found, model.predict([whole[:end] for end in ends]), strict=True):
        assert list(prediction.probabilities.values()) == pytest.approx(list(expected.probabilities.values()), abs=1e-6)
    assert torch.nn.functional.mse_loss(*(torch.tensor([*found[n].probabilities.values()]) for n in (0, 3))) > 1e-9


@pytest.mark.parametrize("options", [{}, {"bidirectional": False, "pooling": ["attention"]}], ids=str)
def test_predict_in_parts_needs_a_model_that_can(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="bidirectional=False, without pooling by attention"):
        next(build(**options).predict_parts(sequences(3)))


@pytest.mark.parametrize("lengths", [[0, 2], [1, 3]], ids=str)
def test_forward_refuses_lengths_that_do_not_fit(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="must be from 1 to T"):
        build()(torch.zeros(2, 2, 4), torch.tensor(lengths))


def test_save_and_load_gives_the_same_model(tmp_path: Path) -> None:
    model = build(features=LogMel(8_000, 4, centred=False), bidirectional=False).eval()
    model.fit_standardisation(sequences(20))
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    loaded = SequenceClassifier.from_pretrained(tmp_path)
    assert loaded.config == model.config
    rows = sequences(3, 5)
    assert loaded.predict(rows) == model.predict(rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["a"]}, "labels must be two or more"),
        ({"input_size": 3}, "features have 4 bins, and input_size is 3"),
        ({"noise": -1}, "noise must be a number of at least 0"),
        ({"bidirectional": 1}, "bidirectional must be true or false"),
        ({"features": {"bands": 4}}, "bands"),
        ({"features": {"num_bins": -4}}, "num_bins must be a number above 0"),
        ({"features": {"num_bins": 4, "sample_rate": 10**400}}, "sample_rate must be a number above 0 and below"),
        ({"features": {"num_bins": 4, "frame_shift": 0.01}}, "a frame or its shift has none"),
        ({"features": 7}, "must be the settings of a LogMel"),
        ({"model_type": "text_classifier"}, "that of a text_classifier"),
    ],
    ids=str,
)
def test_load_of_a_changed_configuration_is_a_clear_error(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    build(features=LogMel(num_bins=4)).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(InputError, match="cannot be loaded as a SequenceClassifier: ") as refused:
        SequenceClassifier.from_pretrained(tmp_path)
    assert message in str(refused.value)
