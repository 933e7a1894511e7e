import logging
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgru.common.errors import InputError
from fastgru.data.labelled import LabelledTexts
from fastgru.data.split import normalise, split
from fastgru.data.texts import load_splits


def rows_of(texts: list[str]) -> LabelledTexts:
    return LabelledTexts(texts, ["yes" if "e" in text else "no" for text in texts])


def write(path: Path, rows: list[tuple[str, str]]) -> str:
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    return str(path)


def numbered(count: int, start: int = 0) -> list[tuple[str, str]]:
    return [(f"text {number}", "odd" if number % 2 else "even") for number in range(start, start + count)]


@given(st.lists(st.text("aAbB e\t", max_size=4), min_size=1, max_size=60))
def test_split_keeps_every_row_and_parts_no_text(texts: list[str]) -> None:
    parts = split(rows_of(texts), (0.1, 0.1, 0.8))
    assert sorted(text for part in parts for text in part.texts) == sorted(texts)
    sides = [{normalise(text) for text in part.texts} for part in parts]
    assert sum(map(len, sides)) == len(set.union(*sides))


def test_split_shares_are_kept_where_texts_differ() -> None:
    assert [len(part) for part in split(rows_of([f"t{i}" for i in range(1000)]), (0.1, 0.1, 0.8))] == [100, 100, 800]


def test_split_is_the_same_for_every_order_of_the_rows() -> None:
    texts = [f"text {number}" for number in range(50)]
    shuffled = random.Random(1).sample(texts, 50)
    assert [part.texts for part in split(rows_of(texts), (0.5, 0.5))] == [
        part.texts for part in split(rows_of(shuffled), (0.5, 0.5))
    ]


def test_split_is_this_one_on_every_machine() -> None:
    part, _ = split(rows_of([f"text {number}" for number in range(10)]), (0.3, 0.7))
    assert part.texts == EXPECTED
    other, _ = split(rows_of([f"text {number}" for number in range(10)]), (0.3, 0.7), seed=1)
    assert other.texts != EXPECTED


EXPECTED = ["text 0", "text 7", "text 6"]


def test_load_splits_of_a_file(tmp_path: Path) -> None:
    splits = load_splits(write(tmp_path / "a.csv", numbered(40)), "text", "label")
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (32, 4, 4)
    assert splits.labels == ["even", "odd"]


def test_load_splits_leaves_texts_of_the_test_file_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = write(tmp_path / "a.csv", numbered(40))
    test = write(tmp_path / "b.csv", [(f" TEXT  {n}", label) for n, (_, label) in enumerate(numbered(6))])
    with caplog.at_level(logging.INFO, "fastgru"):
        splits = load_splits(data, "text", "label", test)
    assert len(splits.train) + len(splits.validation) == 34
    assert len(splits.test) == 6
    assert "left out 6 texts" in caplog.text


def test_load_splits_with_one_label(tmp_path: Path) -> None:
    data = write(tmp_path / "a.csv", [(f"text {number}", "same") for number in range(40)])
    with pytest.raises(InputError, match="needs two labels or more; all the texts are labelled 'same'"):
        load_splits(data, "text", "label")


def test_load_splits_with_a_label_seen_only_in_the_test_file(tmp_path: Path) -> None:
    test = write(tmp_path / "b.csv", [("new text", "strange")])
    with pytest.raises(InputError, match=r"labels that the training data has not: strange \(known: even, odd\)"):
        load_splits(write(tmp_path / "a.csv", numbered(40)), "text", "label", test)


def test_load_splits_of_too_few_texts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too few different texts"):
        load_splits(write(tmp_path / "a.csv", numbered(2)), "text", "label")


def test_fingerprint_changes_with_a_text(tmp_path: Path) -> None:
    first = load_splits(write(tmp_path / "a.csv", numbered(40)), "text", "label")
    second = load_splits(write(tmp_path / "a.csv", numbered(40, start=1)), "text", "label")
    assert first.fingerprint() != second.fingerprint()
    assert first.fingerprint() == load_splits(write(tmp_path / "a.csv", numbered(40)), "text", "label").fingerprint()
