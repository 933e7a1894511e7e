"""TextClassifier: a bidirectional GRU that tells which label a text has."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from fastgru.errors import InputError
from fastgru.nn import GRU

FILES = _CONFIG, WEIGHTS, TOKENIZER = ("config.json", "model.safetensors", "tokenizer.json")
PAD_ID, UNKNOWN_ID = 0, 1

MODEL_CARD = """---
{{ card_data }}
---

A text classifier on a bidirectional GRU, made with fastgru. Install `fastgru[train]`, then

    from fastgru.models import TextClassifier

    model = TextClassifier.from_pretrained("this folder, or its name on the Hub")
    model.predict(["a text"])
"""


@dataclass(frozen=True)
class TextClassifierConfig:
    """What a TextClassifier is besides its weights.

    `labels [C]`: the names of the labels, in the order of the logits.
    `vocab_size` V, `embedding_size` I, `hidden_size` H, `num_layers` L: sizes.
    `word_dropout`: share of the tokens that become `[UNK]` in training.
    `embedding_dropout`, `dropout`: on the word vectors, and on the features that enter the last linear layer.
    """

    labels: list[str]
    vocab_size: int
    embedding_size: int = 200
    hidden_size: int = 64
    num_layers: int = 1
    word_dropout: float = 0.1
    embedding_dropout: float = 0.6
    dropout: float = 0.5

    def __post_init__(self) -> None:
        """ValueError for a configuration that no model can have."""
        names = self.labels
        if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
            raise ValueError(f"labels must be a list of names, got {names!r}")
        if len(names) < 2 or len(set(names)) < len(names):
            raise ValueError(f"labels must be two or more different names, got {names!r}")
        for field in ("vocab_size", "embedding_size", "hidden_size", "num_layers"):
            size = getattr(self, field)
            if not isinstance(size, int) or size < 1:
                raise ValueError(f"{field} must be a whole number of at least 1, got {size!r}")
        for field in ("word_dropout", "embedding_dropout", "dropout"):
            share = getattr(self, field)
            if not isinstance(share, float | int) or not 0 <= share <= 1:
                raise ValueError(f"{field} must be a number from 0 to 1, got {share!r}")


@dataclass(frozen=True)
class Prediction:
    """What a model says of one text: the likeliest label, and the probability of each label (summing to 1)."""

    label: str
    probabilities: dict[str, float]


class TextClassifier(nn.Module, PyTorchModelHubMixin, model_card_template=MODEL_CARD, library_name="fastgru"):
    """Embedding, bidirectional GRU, final and pooled states, dropout, linear.

    logits = W [h_n forward; h_n backward; max over t of y; mean over t of y] + b

    `save_pretrained(folder)` writes config.json, model.safetensors, tokenizer.json and a model card;
    `from_pretrained(folder or name on the Hub)` reads them. Nothing is pickled.
    """

    def __init__(self, config: TextClassifierConfig, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_size, padding_idx=PAD_ID)
        self.gru = GRU(
            config.embedding_size, config.hidden_size, config.num_layers, batch_first=True, bidirectional=True
        )
        self.classify = nn.Linear(6 * config.hidden_size, len(config.labels))
        # torch draws word vectors with a deviation of 1, which would saturate the gates from the start.
        nn.init.normal_(self.embedding.weight, std=0.1)
        with torch.no_grad():
            self.embedding.weight[PAD_ID] = 0

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Give logits `[B, C]`.

        `ids [B, T] int64`: token ids, padded with 0.
        `lengths [B] int64`: tokens of each text; a text of length 0 counts as one padding token.
        ValueError for an empty batch, and for a length that is below 0 or beyond T.
        """
        on_cpu = lengths.cpu()
        if not ids.numel() or int(on_cpu.min()) < 0 or int(on_cpu.max()) > ids.shape[1]:
            raise ValueError(f"lengths of texts in ids {[*ids.shape]} must be from 0 to T, got {on_cpu.tolist()}")
        lengths = lengths.clamp(min=1)
        x = self._embed(ids)
        packed = pack_padded_sequence(x, on_cpu.clamp(min=1), batch_first=True, enforce_sorted=False)
        y, h_n = self.gru(packed)
        y, _ = pad_packed_sequence(y, batch_first=True)  # [B, T, 2H], 0 past the length
        past = torch.arange(y.shape[1], device=y.device) >= lengths[:, None]
        largest = y.masked_fill(past[:, :, None], float("-inf")).amax(1)
        mean = y.sum(1) / lengths[:, None]
        features = torch.cat([h_n[-2], h_n[-1], largest, mean], dim=1)  # [B, 6H]
        logits: Tensor = self.classify(nn.functional.dropout(features, self.config.dropout, self.training))
        return logits

    def _embed(self, ids: Tensor) -> Tensor:
        if self.training:
            dropped = torch.rand(ids.shape, device=ids.device) < self.config.word_dropout
            ids = ids.masked_fill(dropped & (ids != PAD_ID), UNKNOWN_ID)
        return nn.functional.dropout(self.embedding(ids), self.config.embedding_dropout, self.training)

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Give the token ids of each text; `[UNK]` alone for a text without a token.

        InputError for what is no text: not a string, or one that no encoding can hold (half of an emoji).
        """
        for row, text in enumerate(texts):
            if not isinstance(text, str) or (not text.isprintable() and not _encodes(text)):
                raise InputError(f"text {row + 1} is not valid text: {ascii(text)[:60]}")
        return [encoding.ids or [UNKNOWN_ID] for encoding in self.tokenizer.encode_batch(texts)]

    @torch.inference_mode()
    def predict(self, texts: Iterable[str], *, batch_size: int = 256) -> list[Prediction]:
        """Classify `texts`; the model is in eval mode while it does, and afterwards each part is as it was.

        TypeError for a single string in place of several, ValueError for a batch_size below 1, InputError for what
        is no text.
        """
        if isinstance(texts, str):
            raise TypeError("predict takes several texts: put this one into a list")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        rows = self.encode(list(texts))
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
        found: dict[int, Prediction] = {}
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            for start in range(0, len(order), batch_size):
                batch = order[start : start + batch_size]
                ids, lengths = pad_ids([rows[row] for row in batch])
                device = self.embedding.weight.device
                probabilities = self(ids.to(device), lengths.to(device)).softmax(1).tolist()
                found |= {row: self._prediction(values) for row, values in zip(batch, probabilities, strict=True)}
        finally:
            for module, training in modes:
                module.training = training
        return [found[row] for row in range(len(rows))]

    def _prediction(self, values: list[float]) -> Prediction:
        probabilities = dict(zip(self.config.labels, values, strict=True))
        return Prediction(max(probabilities, key=probabilities.__getitem__), probabilities)

    def _save_pretrained(self, save_directory: Path) -> None:
        super()._save_pretrained(save_directory)
        self.tokenizer.save(str(save_directory / TOKENIZER))

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:
        """Load a model from a folder, or from the Hub by its name; it comes in eval mode.

        `options`: those of the mixin (`revision`, `token`, `cache_dir`, ...) and `map_location`.
        InputError where there is no such model, or what is there is not a TextClassifier.
        """
        name = str(pretrained_model_name_or_path)
        missing = [file for file in FILES if not (Path(name) / file).is_file()]
        if Path(name).is_dir() and missing:
            raise InputError(f"{name} is not a folder with a model: there is no {missing[0]} in it")
        if isinstance(options.get("map_location"), torch.device):
            options["map_location"] = str(options["map_location"])
        try:
            _check_config(Path(name) / _CONFIG)
            return super().from_pretrained(name, **options)
        # Unreadable files, a broken configuration, other weights, a name that is not on the Hub.
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(f"{name} cannot be loaded as a TextClassifier: {reason}") from error

    @classmethod
    def _from_pretrained(  # type: ignore[override]
        cls, *, model_id: str, config: TextClassifierConfig, map_location: str = "cpu", **options: Any
    ) -> Self:
        # Not the mixin's own: it falls back to a pickle, passes over weights that are missing, and prints.
        weights, tokenizer = (_locate(model_id, file, options) for file in (WEIGHTS, TOKENIZER))
        model = cls(config, _load_tokenizer(tokenizer, config.vocab_size))
        _load_weights(model, weights)
        return model.to(map_location).eval()


def _check_config(path: Path) -> None:
    """ValueError, naming the file, where a local configuration is no JSON object, for the mixin names none."""
    if not path.is_file():
        return
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} must hold a JSON object, and holds a {type(content).__name__}")


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _locate(model_id: str, file: str, options: dict[str, Any]) -> str:
    local = Path(model_id) / file
    return str(local) if local.is_file() else hf_hub_download(model_id, file, **options)


def _load_tokenizer(path: str, vocab_size: int) -> Tokenizer:
    """ValueError where the file is none, or its tokens are not those of a model of vocab_size."""
    try:
        tokenizer = Tokenizer.from_file(path)
        tokenizer.encode("a word that nobody has seen, qxzvyk")
    except Exception as error:  # tokenizers raises no narrower class
        raise ValueError(f"{TOKENIZER}: {error}") from error
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= vocab_size:
        raise ValueError(f"{TOKENIZER} has token ids up to {largest}, and the model a vocabulary of {vocab_size}")
    return tokenizer


def _load_weights(model: nn.Module, path: str) -> None:
    """ValueError, naming the weight, where the file holds others than the model's, or numbers that are none."""
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{WEIGHTS}: {error}") from error
    own = model.state_dict()
    for name in sorted({*own, *weights}):
        expected = [*own[name].shape] if name in own else "nothing"
        came = [*weights[name].shape] if name in weights else "nothing"
        if expected != came:
            raise ValueError(f"{WEIGHTS} does not fit {_CONFIG}: {name}: expected {expected}, and there is {came}")
        if not weights[name].isfinite().all():
            raise ValueError(f"{WEIGHTS}: {name} holds numbers that are not finite")
    model.load_state_dict(weights)


def pad_ids(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Pad token ids to `ids [B, T] int64` and give their `lengths [B] int64`."""
    ids = pad_sequence([torch.tensor(row, dtype=torch.int64) for row in rows], batch_first=True, padding_value=PAD_ID)
    return ids, torch.tensor([len(row) for row in rows])
