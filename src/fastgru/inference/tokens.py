"""Tokenizers of characters, words or subwords for what is read and what is written; texts as token ids."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fastgru.common.errors import InputError
from fastgru.inference.word_level import AnyTokenizer, read_word_level

if TYPE_CHECKING:
    from tokenizers import Tokenizer

KINDS = ("characters", "words", "subwords")
PAD, UNKNOWN, BEGIN, END = "[PAD]", "[UNK]", "[BOS]", "[EOS]"
PAD_ID, UNKNOWN_ID = 0, 1
BEGIN_ID, END_ID = 2, 3  # of what is written
SOURCE_SPECIAL = (PAD, UNKNOWN, END)
TARGET_SPECIAL = (PAD, UNKNOWN, BEGIN, END)


_Tokenizer = TypeVar("_Tokenizer", bound=AnyTokenizer)


def library() -> Any:
    """The package tokenizers; ModuleNotFoundError, saying what to install, where it is not there."""
    try:
        import tokenizers
    except ModuleNotFoundError as error:
        message = "texts need tokenizers, which is not installed here. Install it with: pip install 'fastgru[text]'"
        raise ModuleNotFoundError(message, name="tokenizers") from error
    return tokenizers


def load_tokenizer(path: str | Path, vocab_size: int) -> "Tokenizer":
    """ValueError where the file is none, or its tokens are not those of a model of vocab_size."""
    name, tokenizers = Path(path).name, library()
    try:
        tokenizer: Tokenizer = tokenizers.Tokenizer.from_file(str(path))
        tokenizer.encode("a word that nobody has seen, qxzvyk")
    except Exception as error:  # tokenizers raises no narrower class
        raise ValueError(f"{name}: {error}") from error
    return _checked(tokenizer, name, vocab_size)


def read_tokenizer(path: str | Path, vocab_size: int) -> AnyTokenizer:
    """As `load_tokenizer`; one of characters, or of words between spaces, without the package tokenizers."""
    found = read_word_level(path)
    return load_tokenizer(path, vocab_size) if found is None else _checked(found, Path(path).name, vocab_size)


def _checked(tokenizer: _Tokenizer, name: str, vocab_size: int) -> _Tokenizer:
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= vocab_size:
        raise ValueError(f"{name} has token ids up to {largest}, and the model a vocabulary of {vocab_size}")
    return tokenizer


def train_source_tokenizer(kind: str, texts: Iterable[str], *, max_tokens: int) -> "Tokenizer":
    """Train a tokenizer for what is read: each sequence ends with `[EOS]` (id 2).

    `kind`: one of KINDS. `max_tokens`: so many of the most frequent tokens are kept; the others are `[UNK]` (id 1).
    Capitals are folded where the training texts have none, for then nothing was learned of them.
    """
    fold = all(text == text.lower() for text in texts)
    return _frame_source(_train(_untrained(kind, {}, fold=fold), kind, texts, SOURCE_SPECIAL, max_tokens))


def train_target_tokenizer(kind: str, texts: Iterable[str], *, max_tokens: int) -> "Tokenizer":
    """Train a tokenizer for what is written: between `[BOS]` (id 2) and `[EOS]` (id 3)."""
    return _frame_target(_train(_untrained(kind, {}, fold=False), kind, texts, TARGET_SPECIAL, max_tokens))


def source_tokenizer(kind: str, tokens: Iterable[str], *, fold: bool) -> "Tokenizer":
    """Make a tokenizer that reads these characters or words, with ids from 3 on."""
    return _frame_source(_untrained(kind, _vocabulary((*SOURCE_SPECIAL, *tokens)), fold=fold))


def target_tokenizer(kind: str, tokens: Iterable[str]) -> "Tokenizer":
    """Make a tokenizer that writes these characters or words, with ids from 4 on."""
    return _frame_target(_untrained(kind, _vocabulary((*TARGET_SPECIAL, *tokens)), fold=False))


def _vocabulary(tokens: Iterable[str]) -> dict[str, int]:
    return {token: number for number, token in enumerate(tokens)}


def _untrained(kind: str, vocabulary: dict[str, int], *, fold: bool) -> "Tokenizer":
    tokenizers = library()
    before, decoders = tokenizers.pre_tokenizers, tokenizers.decoders
    if kind == "subwords":
        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token=UNKNOWN))
        tokenizer.pre_tokenizer, tokenizer.decoder = before.Metaspace(), decoders.Metaspace()
    else:
        tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token=UNKNOWN))
        if kind == "words":
            tokenizer.pre_tokenizer = before.WhitespaceSplit()
        else:
            tokenizer.pre_tokenizer = before.Split(tokenizers.Regex(r"[\s\S]"), "isolated")
            tokenizer.decoder = decoders.Fuse()
    tokenizer.normalizer = _normalizer(tokenizers.normalizers, fold)
    return tokenizer  # type: ignore[no-any-return]


def _normalizer(normalizers: Any, fold: bool) -> Any:
    normalise = [normalizers.NFC(), normalizers.Strip()]
    return normalizers.Sequence([*normalise, normalizers.Lowercase()] if fold else normalise)


def _train(
    tokenizer: "Tokenizer", kind: str, texts: Iterable[str], special: tuple[str, ...], max_tokens: int
) -> "Tokenizer":
    trainers = library().trainers
    trainer = trainers.BpeTrainer if kind == "subwords" else trainers.WordLevelTrainer
    tokenizer.train_from_iterator(
        texts, trainer(vocab_size=max_tokens, special_tokens=list(special), show_progress=False)
    )
    return tokenizer


def _frame_source(tokenizer: "Tokenizer") -> "Tokenizer":
    return _frame(tokenizer, f"$A {END}", (END,))


def _frame_target(tokenizer: "Tokenizer") -> "Tokenizer":
    return _frame(tokenizer, f"{BEGIN} $A {END}", (BEGIN, END))


def _frame(tokenizer: "Tokenizer", template: str, special: tuple[str, ...]) -> "Tokenizer":
    ids = [(token, tokenizer.token_to_id(token)) for token in special]
    tokenizer.post_processor = library().processors.TemplateProcessing(single=template, special_tokens=ids)
    return tokenizer


def encode_texts(tokenizer: AnyTokenizer, texts: list[str]) -> list[list[int]]:
    """Give the token ids of each text, `[UNK]` alone where there is none; InputError for what is no text."""
    for row, text in enumerate(texts):
        if not isinstance(text, str) or (not text.isprintable() and not _encodes(text)):
            raise InputError(f"text {row + 1} is not valid text: {ascii(text)[:60]}")
    return [encoding.ids or [UNKNOWN_ID] for encoding in tokenizer.encode_batch(texts)]


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
