"""Tokenizers of characters and words without the package tokenizers: ids, tokens and texts are the package's."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from fastgru.data.tokenizer import train_tokenizer
from fastgru.inference.tokens import (
    read_tokenizer,
    source_tokenizer,
    target_tokenizer,
    train_source_tokenizer,
    train_target_tokenizer,
)
from fastgru.inference.word_level import WordLevelTokenizer, read_word_level

SEEN = ["Recurrent units", "caf\u00e9 o'clock", "K AE1 T", "[EOS] is a token", "\u03a3\u03b1\u03c2"]
KINDS: dict[str, Callable[[], Tokenizer]] = {
    "characters read": lambda: train_source_tokenizer("characters", SEEN, max_tokens=40),
    "characters read, folded": lambda: train_source_tokenizer("characters", [s.lower() for s in SEEN], max_tokens=40),
    "characters written": lambda: train_target_tokenizer("characters", SEEN, max_tokens=40),
    "words read, folded": lambda: train_source_tokenizer("words", [s.lower() for s in SEEN], max_tokens=40),
    "words written": lambda: train_target_tokenizer("words", SEEN, max_tokens=40),
    "given characters": lambda: source_tokenizer("characters", "act", fold=True),
    "given words": lambda: target_tokenizer("words", ["AE", "K", "T"]),
}
# Composed and not, of two lower-case letters, a sigma at an end, what is a space to Python alone and to Unicode alone.
HARD = [
    "",
    "   ",
    "e\u0301",
    "\u0130I",
    "\u03a3\u0391\u03a3",
    "a\x1cb",
    "a\x85b\u2003c\u3000",
    " [EOS]a [PAD] [BOS]",
    "[[EOS]",
]
TEXTS = st.one_of(
    st.text(max_size=12),
    st.lists(st.sampled_from([*SEEN, *HARD, " ", "a", "K"]), max_size=5).map("".join),
    st.text("actKAET1 \t\n\x1c\x85\xa0\u200b\u2028[EOSPAD]", max_size=20),
)


def both(kind: str) -> tuple[Tokenizer, WordLevelTokenizer]:
    theirs = KINDS[kind]()
    return theirs, WordLevelTokenizer(json.loads(theirs.to_str()))


def assert_alike(theirs: Tokenizer, ours: WordLevelTokenizer, text: str) -> None:
    for special in (True, False):
        expected = theirs.encode(text, add_special_tokens=special)
        assert ours.encode(text, add_special_tokens=special) == (expected.ids, expected.tokens)
        ids = theirs.encode(text).ids
        assert ours.decode(ids, skip_special_tokens=special) == theirs.decode(ids, skip_special_tokens=special)


@pytest.mark.parametrize("kind", KINDS)
def test_hard_texts_have_the_packages_tokens(kind: str) -> None:
    theirs, ours = both(kind)
    assert ours.get_vocab() == theirs.get_vocab()
    for text in [*SEEN, *HARD]:
        assert_alike(theirs, ours, text)
    assert [found.ids for found in ours.encode_batch(SEEN)] == [found.ids for found in theirs.encode_batch(SEEN)]


@pytest.mark.parametrize("kind", KINDS)
def test_texts_at_random_have_the_packages_tokens(kind: str) -> None:
    theirs, ours = both(kind)

    @settings(max_examples=150, derandomize=True, database=None, deadline=None)
    @given(TEXTS)
    def compare(text: str) -> None:
        assert_alike(theirs, ours, text)

    compare()


def test_a_difference_would_be_found() -> None:
    theirs, _ = both("words written")
    other = json.loads(theirs.to_str())
    other["normalizer"]["normalizers"].pop()
    other["pre_tokenizer"] = {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": False}
    other["decoder"] = {"type": "Fuse"}
    with pytest.raises(AssertionError):
        assert_alike(theirs, WordLevelTokenizer(other), "K AE1 T")


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "another model": lambda c: c["model"].update(type="WordPiece"),
    "an unknown token that it lacks": lambda c: c["model"].update(unk_token="<unk>"),
    "another way to split": lambda c: c.update(pre_tokenizer={"type": "Whitespace"}),
    "another decoder": lambda c: c.update(decoder={"type": "Fuse"}),
    "another normalizer": lambda c: c.update(normalizer={"type": "NFKC"}),
    "another frame": lambda c: c.update(post_processor={"type": "BertProcessing"}),
    "padding": lambda c: c.update(padding={"strategy": "BatchLongest"}),
    "a token that eats spaces": lambda c: c["added_tokens"][0].update(lstrip=True),
    "a token beside the vocabulary": lambda c: c["added_tokens"][0].update(id=99),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_not_known_is_left_to_the_package(change: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    content = json.loads(KINDS["words written"]().to_str())
    path.write_text(json.dumps(content))
    assert read_word_level(path) is not None
    CHANGES[change](content)
    path.write_text(json.dumps(content))
    assert read_word_level(path) is None


def test_a_file_of_the_package_is_read_by_the_package(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(SEEN, "words", min_count=1)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert isinstance(read_tokenizer(tmp_path / "tokenizer.json", 1000), Tokenizer)
    for content in ("", "[]", "{", '{"model": 3}'):
        (tmp_path / "tokenizer.json").write_text(content)
        with pytest.raises(ValueError, match=r"tokenizer\.json: "):
            read_tokenizer(tmp_path / "tokenizer.json", 1000)


def test_more_tokens_than_the_model_has_are_refused(tmp_path: Path) -> None:
    KINDS["given words"]().save(str(tmp_path / "tokenizer.json"))
    assert isinstance(read_tokenizer(tmp_path / "tokenizer.json", 7), WordLevelTokenizer)
    with pytest.raises(ValueError, match=r"tokenizer\.json has token ids up to 6, and the model a vocabulary of 6"):
        read_tokenizer(tmp_path / "tokenizer.json", 6)
