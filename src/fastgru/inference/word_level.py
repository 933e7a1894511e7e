"""Tokenizers of characters and of words as they lie in tokenizer.json, read without the package tokenizers."""

import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from tokenizers import Tokenizer

AnyTokenizer: TypeAlias = "Tokenizer | WordLevelTokenizer"

# Unicode's White_Space, as the package has it; Python's str.split() and str.strip() take U+001C to U+001F for some too.
_SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_RUN = re.compile(f"[^{_SPACES}]+")
_CHARACTERS = {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": False}
_WORDS = {"type": "WhitespaceSplit"}
_STRIP = {"type": "Strip", "strip_left": True, "strip_right": True}


def _strip(text: str) -> str:
    return re.sub(f"^[{_SPACES}]+|[{_SPACES}]+$", "", text)


def _lower(text: str) -> str:
    """Each character by itself, as the package does: a sigma at a word's end is one as any other."""
    return "".join(character.lower() for character in text)


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


_NORMALIZERS: list[tuple[dict[str, Any], Callable[[str], str]]] = [
    ({"type": "NFC"}, _nfc),
    (_STRIP, _strip),
    ({"type": "Lowercase"}, _lower),
]


class Encoding(NamedTuple):
    """The tokens of a text, and their ids."""

    ids: list[int]
    tokens: list[str]


class WordLevelTokenizer:
    """A tokenizer of characters, or of words between spaces, by the content of its tokenizer.json.

    What it has of the package's `Tokenizer` gives the same. ValueError where the content is that of another kind.

    >>> from fastgru.inference.word_level import WordLevelTokenizer
    >>> content = {"model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 1}, "unk_token": "[UNK]"}}
    >>> WordLevelTokenizer({**content, "pre_tokenizer": {"type": "WhitespaceSplit"}}).encode("a b a").ids
    [1, 0, 1]
    """

    def __init__(self, content: dict[str, Any]) -> None:
        self._content = content
        self._vocabulary = dict(_vocabulary_of(content))
        self._unknown = content["model"]["unk_token"]
        self._is_words = content["pre_tokenizer"] == _WORDS
        self._joint = "" if content.get("decoder") is not None else " "
        self._normalize = _normalizers_of(content.get("normalizer"))
        self._special = _special_of(content.get("added_tokens") or [], self._vocabulary)
        self._begin, self._end = _frame_of(content.get("post_processor"))
        self._tokens = {number: token for token, number in self._vocabulary.items()}

    def encode(self, text: str, add_special_tokens: bool = True) -> Encoding:
        """Give the tokens of a text, with those of its begin and end or without."""
        tokens = [*self._pieces(text)]
        if add_special_tokens:
            tokens = [*self._begin, *tokens, *self._end]
        return Encoding([self._vocabulary[token] for token in tokens], tokens)

    def encode_batch(self, texts: list[str]) -> list[Encoding]:
        """Give the tokens of each text."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        """Give the text of token ids."""
        tokens = [self._tokens[number] for number in ids if number in self._tokens]
        hidden = {*self._special} if skip_special_tokens else set()
        return self._joint.join(token for token in tokens if token not in hidden)

    def get_vocab(self) -> dict[str, int]:
        """Give the ids by token."""
        return {**self._vocabulary}

    def to_str(self) -> str:
        """Give the content, as JSON: two tokenizers are the same where it is."""
        return json.dumps(self._content, sort_keys=True)

    def _pieces(self, text: str) -> Iterator[str]:
        """A special token that is written out in a text stands for itself; what is between them is normalized."""
        parts = re.split(f"({'|'.join(map(re.escape, self._special))})", text) if self._special else [text]
        for place, part in enumerate(parts):
            if place % 2:
                yield part
                continue
            for normalize in self._normalize:
                part = normalize(part)
            for token in _RUN.findall(part) if self._is_words else part:
                yield token if token in self._vocabulary else self._unknown


def read_word_level(path: str | Path) -> WordLevelTokenizer | None:
    """Read a tokenizer of characters or words from its file; None where it is another kind's, or none at all."""
    try:
        return WordLevelTokenizer(json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None  # the package tokenizers says what is wrong with it, where anything is


def _vocabulary_of(content: dict[str, Any]) -> dict[str, int]:
    model = content["model"]
    vocabulary: dict[str, int] = model["vocab"]
    is_plain = content.get("truncation") is None and content.get("padding") is None
    if model["type"] != "WordLevel" or model["unk_token"] not in vocabulary or not is_plain:
        raise ValueError("not of whole words or characters")
    decoders = [(_WORDS, None), (_CHARACTERS, {"type": "Fuse"})]
    if (content["pre_tokenizer"], content.get("decoder")) not in decoders:
        raise ValueError("split otherwise than at spaces, or into characters")
    return vocabulary


def _normalizers_of(content: dict[str, Any] | None) -> list[Callable[[str], str]]:
    if content is None:
        return []
    known = content["normalizers"] if content["type"] == "Sequence" else [content]
    found = [[normalize for own, normalize in _NORMALIZERS if own == one] for one in known]
    if not all(found):
        raise ValueError("normalized otherwise")
    return [one for (one,) in found]


def _special_of(added: list[dict[str, Any]], vocabulary: dict[str, int]) -> list[str]:
    """The tokens that stand for themselves in a text, the longest first."""
    flags = ("single_word", "lstrip", "rstrip", "normalized")
    if any(one[flag] for one in added for flag in flags) or not all(one["special"] for one in added):
        raise ValueError("has tokens of its own that are found otherwise")
    if any(vocabulary.get(one["content"]) != one["id"] for one in added):
        raise ValueError("has tokens of its own beside the vocabulary")
    return sorted((str(one["content"]) for one in added), key=lambda token: -len(token))


def _frame_of(content: dict[str, Any] | None) -> tuple[list[str], list[str]]:
    """The tokens before a text and behind it."""
    if content is None:
        return [], []
    if content["type"] != "TemplateProcessing":
        raise ValueError("framed otherwise")
    parts = content["single"]
    (place,) = (place for place, part in enumerate(parts) if "Sequence" in part)
    known = content["special_tokens"]
    before, behind = (
        [token for part in some for token in known[part["SpecialToken"]["id"]]["tokens"]]
        for some in (parts[:place], parts[place + 1 :])
    )
    return before, behind
