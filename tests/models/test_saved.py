"""What is read of a model's folder is compared with its configuration before anything is built of it."""

import json
import os
import resource
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_text_model import build as build_text

from fastgru import save
from fastgru.common.errors import InputError
from fastgru.inference.tokens import source_tokenizer, target_tokenizer
from fastgru.models import Seq2Seq, Seq2SeqConfig, SequenceClassifier, SequenceClassifierConfig
from fastgru.models.pretrained import Pretrained
from fastgru.runtime.models import load_model

TEXT = [{}, {"num_layers": 3, "pooling": ["attention"]}, {"pooling": ["attention", "last"]}]
SEQUENCE = [{}, {"bidirectional": False, "num_layers": 2}, {"pooling": ["mean", "attention"]}]
SEQ2SEQ = [
    {},
    {"attention": "gnmt", "decoder_layers": 3, "encoder_layers": 2},
    {"attention": "bahdanau", "ngrams": 4},
    {"attention": "none", "bridge": False, "bidirectional": False, "decoder_layers": 2, "encoder_layers": 2},
    {"ngrams": 3, "decoder_layers": 2, "bidirectional": False},
]


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_a_saved_model_has_the_mode_of_any_new_file(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        build_text().save_pretrained(tmp_path / "model")
        save(torch.nn.GRU(2, 3), tmp_path / "gru.safetensors")
    finally:
        os.umask(before)
    for file in (*(tmp_path / "model").iterdir(), tmp_path / "gru.safetensors"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~mask, file
    assert not list(tmp_path.rglob(".mode*"))


def build_sequence(**options: Any) -> SequenceClassifier:
    return SequenceClassifier(SequenceClassifierConfig(["a", "b"], input_size=3, hidden_size=4, **options))


def build_seq2seq(**options: Any) -> Seq2Seq:
    config = Seq2SeqConfig(6, 7, **{"embedding_size": 5, "encoder_size": 4, "decoder_size": 4, **options})
    return Seq2Seq(config, source_tokenizer("characters", "abc", fold=True), target_tokenizer("words", ["X", "Y", "Z"]))


MODELS: list[tuple[Callable[..., Pretrained], dict[str, Any]]] = [
    *((build_text, options) for options in TEXT),
    *((build_sequence, options) for options in SEQUENCE),
    *((build_seq2seq, options) for options in SEQ2SEQ),
]


@pytest.mark.parametrize(("build", "options"), MODELS)
def test_a_configuration_tells_every_weight(build: Callable[..., Pretrained], options: dict[str, Any]) -> None:
    model = build(**options)
    told = {entry.name: (entry.shape, entry.whole) for entry in model.config.entries()}
    state = model.state_dict().items()
    assert told == {name: (tuple(weight.shape), not weight.is_floating_point()) for name, weight in state}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_weights_of_other_widths_become_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    model = build_seq2seq(ngrams=3).to(dtype)
    model.save_pretrained(tmp_path)
    loaded = Seq2Seq.from_pretrained(tmp_path).state_dict()
    for name, weight in model.state_dict().items():
        wide = weight.float() if weight.is_floating_point() else weight
        assert torch.equal(loaded[name], wide), name


def change_config(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


def change_weight(folder: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor | None]) -> None:
    weights = load_file(folder / "model.safetensors")
    changed = change(weights.pop(name, torch.zeros(2)))
    others = {} if changed is None else {name: changed}
    save_file({**weights, **others}, folder / "model.safetensors")


HOSTILE = {"hidden_size": 20_000, "num_layers": 10**12, "input_size": 10**9}


# Both read a folder by the same hands.
LOADERS: list[Callable[[Path], Any]] = [SequenceClassifier.from_pretrained, load_model]


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_configuration_of_hostile_sizes_costs_nothing(tmp_path: Path, name: str, load: Callable[[Path], Any]) -> None:
    build_sequence(num_layers=2).save_pretrained(tmp_path)
    change_config(tmp_path, **{name: HOSTILE[name]})
    begin, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="does not fit config"):
        load(tmp_path)
    assert time.process_time() - begin < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a key that no model has": (lambda f: change_config(f, colour="red"), "config.json has 'colour', which is nothing"),
    "a size that is a truth value": (lambda f: change_config(f, num_layers=True), "num_layers must be a whole number"),
    "labels that are missing": (
        lambda f: (f / "config.json").write_text('{"model_type": "sequence_classifier"}'),
        "labels",
    ),
    "nested beyond measure": (lambda f: (f / "config.json").write_text("[" * 100_000), "config.json: "),
    "a weight too few": (
        lambda f: change_weight(f, "classify.bias", lambda _: None),
        "classify.bias: expected [2], and there is nothing",
    ),
    "a weight too many": (
        lambda f: change_weight(f, "other", torch.zeros_like),
        "other: expected nothing, and there is [2]",
    ),
    "whole numbers": (
        lambda f: change_weight(f, "mean", lambda w: w.int()),
        "mean: expected float64 or float32 or float16 or bfloat16, and there is I32",
    ),
    "no numbers": (
        lambda f: change_weight(f, "mean", lambda w: w * float("nan")),
        "mean holds numbers that are not finite",
    ),
    "too large for float32": (
        lambda f: change_weight(f, "mean", lambda w: w.double() + 1e300),
        "mean holds numbers that are not finite",
    ),
    "a deviation of 0": (
        lambda f: change_weight(f, "deviation", lambda w: w * 0),
        "deviation must be above 0, and holds 0",
    ),
    "a deviation below 0": (
        lambda f: change_weight(f, "deviation", lambda w: -w),
        "deviation must be above 0, and holds -1",
    ),
    "a file that was cut": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-1]),
        "model.safetensors: ",
    ),
    "a header that claims too much": (
        lambda f: (f / "model.safetensors").write_bytes(np.int64(2**62).tobytes() + b"{}"),
        "model.safetensors: ",
    ),
}


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize("case", BROKEN)
def test_what_does_not_fit_is_refused_in_words(tmp_path: Path, case: str, load: Callable[[Path], Any]) -> None:
    build_sequence().save_pretrained(tmp_path)
    breaks, words = BROKEN[case]
    breaks(tmp_path)
    with pytest.raises(InputError, match="cannot be loaded as a ") as refused:
        load(tmp_path)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
