"""A text classifier of a few units, for the tests of models and training."""

from torch import Tensor

from fastgru.data.tokenizer import train_tokenizer
from fastgru.models import TextClassifier, TextClassifierConfig
from fastgru.models.tokens import pad_ids

TEXTS = ["a fine film", "dull", "a dull and flat story of a film", "", "?!", "a fine film"]


def build(**options: float) -> TextClassifier:
    tokenizer = train_tokenizer(TEXTS, min_count=1)
    config = TextClassifierConfig(
        ["bad", "good", "odd"], tokenizer.get_vocab_size(), embedding_size=8, hidden_size=5, **options
    )
    return TextClassifier(config, tokenizer)


def logits_of(model: TextClassifier, texts: list[str]) -> Tensor:
    return model(*pad_ids(model.encode(texts)))
