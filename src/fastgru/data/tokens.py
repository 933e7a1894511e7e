"""Tokenizers for sequences that are read and sequences that are written: characters, words or subwords."""

from typing import TYPE_CHECKING

from fastgru.data.text import PAD, UNKNOWN

if TYPE_CHECKING:
    from tokenizers import Tokenizer

KINDS = ("characters", "words", "subwords")
BEGIN, END = "[BOS]", "[EOS]"
SOURCE_SPECIAL = (PAD, UNKNOWN, END)
TARGET_SPECIAL = (PAD, UNKNOWN, BEGIN, END)


def train_source_tokenizer(kind: str, texts: list[str], *, max_tokens: int) -> "Tokenizer":
    """Train a tokenizer for what is read: each sequence ends with `[EOS]` (id 2).

    Capitals are folded where the training texts have none, for then nothing was learned of them.
    """
    tokenizer = _train(kind, texts, SOURCE_SPECIAL, max_tokens, fold=all(text == text.lower() for text in texts))
    _frame(tokenizer, f"$A {END}", (END,))
    return tokenizer


def train_target_tokenizer(kind: str, texts: list[str], *, max_tokens: int) -> "Tokenizer":
    """Train a tokenizer for what is written: between `[BOS]` (id 2) and `[EOS]` (id 3)."""
    tokenizer = _train(kind, texts, TARGET_SPECIAL, max_tokens, fold=False)
    _frame(tokenizer, f"{BEGIN} $A {END}", (BEGIN, END))
    return tokenizer


def _train(kind: str, texts: list[str], special: tuple[str, ...], max_tokens: int, *, fold: bool) -> "Tokenizer":
    """`max_tokens`: the most frequent ones are kept, the rest is `[UNK]`. Id 0 is the padding, id 1 `[UNK]`."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    if kind == "subwords":
        tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    else:
        tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
        if kind == "words":
            tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        else:
            tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
            tokenizer.decoder = decoders.Fuse()
    normalise = [normalizers.NFC(), normalizers.Strip()]
    tokenizer.normalizer = normalizers.Sequence([*normalise, normalizers.Lowercase()] if fold else normalise)
    options = {"vocab_size": max_tokens, "special_tokens": list(special), "show_progress": False}
    trainer = trainers.BpeTrainer if kind == "subwords" else trainers.WordLevelTrainer
    tokenizer.train_from_iterator(texts, trainer(**options))
    return tokenizer


def _frame(tokenizer: "Tokenizer", template: str, special: tuple[str, ...]) -> None:
    from tokenizers.processors import TemplateProcessing

    ids = [(token, tokenizer.token_to_id(token)) for token in special]
    tokenizer.post_processor = TemplateProcessing(single=template, special_tokens=ids)
