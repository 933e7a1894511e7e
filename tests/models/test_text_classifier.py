import json
from pathlib import Path

import pytest
import torch
from small_text_model import TEXTS, build, logits_of

from fastgru.common.errors import InputError
from fastgru.inference.folder import files_of
from fastgru.models import TextClassifier, TextClassifierConfig
from fastgru.models.tokens import pad_ids

FILES = files_of(TextClassifierConfig)


def test_forward_is_the_equation_text_by_text() -> None:
    model = build(num_layers=2).eval()
    logits = logits_of(model, TEXTS)
    for row, ids in enumerate(model.encode(TEXTS)):
        y, h_n = model.gru(model.embedding(torch.tensor([ids])))
        forwards, backwards = h_n[-2, 0], h_n[-1, 0]
        features = torch.cat([forwards, backwards, y[0].amax(0), y[0].mean(0)])
        torch.testing.assert_close(logits[row], model.classify(features), rtol=0, atol=1e-6)


def test_forward_does_not_see_the_padding() -> None:
    model = build().eval()
    ids, lengths = pad_ids(model.encode(TEXTS))
    wider = torch.nn.functional.pad(ids, (0, 7))
    torch.testing.assert_close(model(wider, lengths), model(ids, lengths), rtol=0, atol=0)


def test_forward_of_length_zero_is_that_of_one_padding_token() -> None:
    model = build().eval()
    ids = torch.zeros(2, 3, dtype=torch.int64)
    logits = model(ids, torch.tensor([0, 1]))
    torch.testing.assert_close(logits[0], logits[1], rtol=0, atol=0)
    assert logits.isfinite().all()


def test_gradients_reach_every_weight_but_the_padding() -> None:
    model = build()
    logits_of(model, TEXTS).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in model.parameters())
    assert not model.embedding.weight.grad[0].any()


def test_dropout_acts_in_training_only() -> None:
    model = build()
    assert not torch.equal(logits_of(model, TEXTS), logits_of(model, TEXTS))
    model.eval()
    assert torch.equal(logits_of(model, TEXTS), logits_of(model, TEXTS))


def test_word_dropout_alone_swaps_words_for_the_unknown_one() -> None:
    model = build(word_dropout=1.0, embedding_dropout=0.0, dropout=0.0)
    model.classify.weight.data.normal_()
    unknown = logits_of(model, ["never seen words"])
    torch.testing.assert_close(logits_of(model, ["a fine film"]), unknown, rtol=0, atol=1e-6)


def test_predict_keeps_the_order_and_sums_to_one() -> None:
    model = build()
    predictions = model.predict(TEXTS, batch_size=2)
    assert model.training
    logits = logits_of(model.eval(), TEXTS)
    for prediction, row in zip(predictions, logits.softmax(1).tolist(), strict=True):
        assert list(prediction.probabilities) == ["bad", "good", "odd"]
        assert list(prediction.probabilities.values()) == pytest.approx(row, abs=1e-6)
        assert prediction.label == max(prediction.probabilities, key=prediction.probabilities.__getitem__)


def test_predict_of_nothing_is_nothing() -> None:
    assert build().predict([]) == []


def test_save_and_load_gives_the_same_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = build(num_layers=2).eval()
    model.save_pretrained(tmp_path / "model")
    loaded = TextClassifier.from_pretrained(tmp_path / "model")
    assert not loaded.training
    assert loaded.config == model.config
    assert torch.equal(logits_of(loaded, TEXTS), logits_of(model, TEXTS))
    assert capsys.readouterr() == ("", "")


def test_save_writes_no_pickle(tmp_path: Path) -> None:
    build().save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", *FILES]
    assert json.loads((tmp_path / "config.json").read_text())["labels"] == ["bad", "good", "odd"]
    header = (tmp_path / "model.safetensors").read_bytes()[8:]
    assert header.startswith(b"{")  # a pickle starts with \x80, torch's zip of one with PK


def test_load_never_unpickles(tmp_path: Path) -> None:
    build().save_pretrained(tmp_path)
    torch.save(build().state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"there is no model\.safetensors in it"):
        TextClassifier.from_pretrained(tmp_path)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("content", ["", "no such format", "{}"])
def test_load_of_a_broken_file_is_a_clear_error(tmp_path: Path, file: str, content: str) -> None:
    build().save_pretrained(tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(InputError, match="cannot be loaded as a TextClassifier: "):
        TextClassifier.from_pretrained(tmp_path)


def test_load_of_other_weights_is_a_clear_error(tmp_path: Path) -> None:
    build().save_pretrained(tmp_path)
    build(num_layers=2).save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").replace(tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="cannot be loaded as a TextClassifier"):
        TextClassifier.from_pretrained(tmp_path)


def test_load_of_a_name_that_cannot_be_one() -> None:
    with pytest.raises(InputError, match="cannot be loaded as a TextClassifier"):
        TextClassifier.from_pretrained("not/a/name")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": "abc"}, "labels must be a list of names"),
        ({"labels": ["a", "a"]}, "labels must be two or more different names"),
        ({"labels": ["a"]}, "labels must be two or more different names"),
        ({"labels": [1, 2]}, "labels must be a list of names"),
        ({"dropout": 7}, "dropout must be a number from 0 to 1, got 7"),
        ({"hidden_size": 0}, "hidden_size must be a whole number of at least 1, got 0"),
        ({"hidden_size": 6}, "does not fit config.json: classify.weight: expected"),
        ({"vocab_size": 3}, "tokenizer.json has token ids up to"),
    ],
    ids=str,
)
def test_load_of_a_changed_configuration_is_a_clear_error(tmp_path: Path, change: dict, message: str) -> None:
    build().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(InputError, match="cannot be loaded as a TextClassifier: ") as refused:
        TextClassifier.from_pretrained(tmp_path)
    assert message in str(refused.value)


@pytest.mark.parametrize("content", ["[]", "null", "{"])
def test_load_names_the_configuration_that_is_none(tmp_path: Path, content: str) -> None:
    build().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config\.json"):
        TextClassifier.from_pretrained(tmp_path)


def test_load_of_weights_that_are_no_numbers(tmp_path: Path) -> None:
    model = build()
    with torch.no_grad():
        model.classify.bias[0] = float("nan")
    model.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"model\.safetensors: classify\.bias holds numbers that are not finite"):
        TextClassifier.from_pretrained(tmp_path)


def test_load_takes_a_device(tmp_path: Path) -> None:
    build().save_pretrained(tmp_path)
    assert TextClassifier.from_pretrained(tmp_path, map_location=torch.device("cpu")).predict(["a"])


@pytest.mark.parametrize("lengths", [[3, 1], [-1, 1]], ids=str)
def test_forward_refuses_lengths_beyond_the_ids(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match=r"must be from 0 to T"):
        build()(torch.zeros(2, 2, dtype=torch.int64), torch.tensor(lengths))
    with pytest.raises(ValueError, match=r"must be from 0 to T"):
        build()(torch.zeros(0, 2, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))


def test_predict_refuses_what_is_no_text() -> None:
    model = build()
    with pytest.raises(TypeError, match="put this one into a list"):
        model.predict("a fine film")
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        model.predict(["a"], batch_size=0)
    for wrong in (None, 3, "half an emoji \ud83d"):
        with pytest.raises(InputError, match="text 2 is not valid text"):
            model.predict(["a", wrong])


def test_predict_leaves_every_part_in_its_mode() -> None:
    model = build().train()
    model.classify.eval()
    model.predict(text for text in TEXTS)
    assert model.training
    assert not model.classify.training
    model.classify = None
    with pytest.raises(TypeError):
        model.predict(["a"])
    assert model.training
