"""TextClassifier: a bidirectional GRU that tells which label a text has."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fastgru.inference.classifier_config import TOKENIZER, TextClassifierConfig
from fastgru.inference.prediction import Prediction
from fastgru.inference.tokens import PAD_ID, UNKNOWN_ID, encode_texts
from fastgru.models.classifier import Classifier
from fastgru.models.ngrams import set_ngrams, token_embedding
from fastgru.models.pooling import Pooling
from fastgru.models.tokens import pad_ids
from fastgru.nn import GRU

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MODEL_CARD = """---
{{ card_data }}
---

A text classifier on a bidirectional GRU, made with fastgru. Install `fastgru[train]`, then

    from fastgru.models import TextClassifier

    model = TextClassifier.from_pretrained("this folder, or its name on the Hub")
    model.predict(["a text"])
"""


class TextClassifier(Classifier, model_card_template=MODEL_CARD, library_name="fastgru"):
    """Tells which label a text has: embedding, bidirectional GRU, pooled states, dropout, linear.

        logits = W pooling(y, h_n) + b,  pooling = [h_n forward; h_n backward; max over t of y; mean over t of y]

    is the default pooling.

    Its folder holds config.json, model.safetensors, tokenizer.json and a model card.

    >>> from fastgru.data.tokenizer import train_tokenizer
    >>> from fastgru.models import TextClassifier, TextClassifierConfig
    >>> tokenizer = train_tokenizer(["a fine film", "a dull film"], min_count=1)
    >>> model = TextClassifier(TextClassifierConfig(["bad", "good"], tokenizer.get_vocab_size()), tokenizer)
    >>> (found,) = model.predict(["a fine story"])
    >>> list(found.probabilities)
    ['bad', 'good']
    """

    config_type = TextClassifierConfig

    def __init__(self, config: TextClassifierConfig, tokenizer: "Tokenizer") -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.embedding = token_embedding(
            config.vocab_size,
            config.embedding_size,
            ngrams=config.ngrams,
            longest=config.longest_ngram,
            dropout=config.word_dropout,
            padding_idx=PAD_ID,
        )
        self.gru = GRU(
            config.embedding_size, config.hidden_size, config.num_layers, batch_first=True, bidirectional=True
        )
        self.pooling = Pooling(config.pooling, 2 * config.hidden_size)
        self.classify = nn.Linear(self.pooling.out_features, len(config.labels))
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
        shortest, longest = (int(length) for length in lengths.aminmax()) if ids.numel() else (0, 0)
        if not ids.numel() or shortest < 0 or longest > ids.shape[1]:
            raise ValueError(f"lengths of texts in ids {[*ids.shape]} must be from 0 to T, got {lengths.tolist()}")
        return self.logits(self._embed(ids[:, : max(longest, 1)]), lengths.clamp(min=1))

    def logits(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Give logits `[B, C]` of texts as word vectors `x [B, T, I]`; `lengths [B]`, of at least 1."""
        y, h_n = self.gru(x, lengths=lengths)  # [B, T, 2H], 0 past the length
        features = self.pooling(y, h_n[-2:], lengths)
        logits: Tensor = self.classify(nn.functional.dropout(features, self.config.dropout, self.training))
        return logits

    def _embed(self, ids: Tensor) -> Tensor:
        if self.training:
            dropped = torch.rand(ids.shape, device=ids.device) < self.config.word_dropout
            ids = ids.masked_fill(dropped & (ids != PAD_ID), UNKNOWN_ID)
        return nn.functional.dropout(self.embedding(ids), self.config.embedding_dropout, self.training)

    def set_ngrams(self, codes: Tensor) -> None:
        """Tell which n-grams of tokens have a vector: `codes [config.ngrams] int64`.

        `fastgru.models.ngrams.frequent_ngrams` gives them. ValueError for more or fewer.
        """
        set_ngrams(self.embedding, codes)

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Give the token ids of each text; `[UNK]` alone for a text without a token.

        InputError for what is no text: not a string, or one that no encoding can hold (half of an emoji).
        """
        return encode_texts(self.tokenizer, texts)

    def predict(self, texts: Iterable[str], *, batch_size: int = 256) -> list[Prediction]:
        """Classify `texts`; the model is in eval mode while it does, and afterwards each part is as it was.

        A model of several labels gives MultiLabelPredictions, one of regression Estimates.

        TypeError for a single string in place of several, ValueError for a batch_size below 1, InputError for what
        is no text.
        """
        if isinstance(texts, str):
            raise TypeError("predict takes several texts: put this one into a list")
        return self._predict_rows(self.encode(list(texts)), pad_ids, batch_size)

    def _save_pretrained(self, save_directory: Path) -> None:
        super()._save_pretrained(save_directory)
        self.tokenizer.save(str(save_directory / TOKENIZER))
