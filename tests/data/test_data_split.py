import logging
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastgru.common.errors import InputError
from fastgru.data.labelled import LabelledTexts
from fastgru.data.split import RARE, normalise, split, split_by_label, tell_alike
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


@given(st.lists(st.tuples(st.text("aAbB e\t", max_size=3), st.sampled_from("xyz")), min_size=1, max_size=60))
def test_split_by_label_keeps_every_row_and_trains_every_label_that_it_measures(rows: list[tuple[str, str]]) -> None:
    texts, labels = map(list, zip(*rows, strict=True))
    parts = split_by_label(LabelledTexts(texts, labels), (0.1, 0.1, 0.8))
    found = [row for part in parts for row in zip(part.texts, part.labels, strict=True)]
    assert sorted(found) == sorted(rows)
    sides = [{normalise(text) for text in part.texts} for part in parts]
    assert sum(map(len, sides)) == len(set.union(*sides))


def test_split_by_label_has_every_label_in_every_part_but_rare_ones(caplog: pytest.LogCaptureFixture) -> None:
    counts = {"often": 100, "seldom": RARE + 1, "rare": RARE, "once": 1}
    labels = [label for label, count in counts.items() for _ in range(count)]
    with caplog.at_level(logging.INFO, "fastgru"):
        parts = split_by_label(LabelledTexts([f"text {row}" for row in range(len(labels))], labels), (0.1, 0.1, 0.8))
    assert [part.label_counts for part in parts] == [
        {"often": 10, "seldom": 1},
        {"often": 10, "seldom": 1},
        {"often": 80, "seldom": 2, "rare": 3, "once": 1},
    ]
    assert "labels of 3 texts or fewer only train: 2 (4 texts): once, rare" in caplog.text


def test_split_by_label_trains_on_texts_that_are_also_of_a_rare_label() -> None:
    texts = [f"text {number}" for number in range(20)]
    parts = split_by_label(LabelledTexts([*texts, *texts[:2]], ["often"] * 20 + ["rare"] * 2), (0.2, 0.8))
    assert parts[1].label_counts == {"often": 16, "rare": 2}


def test_split_by_label_is_the_same_for_every_order_of_the_rows() -> None:
    rows = [(f"text {number}", "odd" if number % 3 else "even") for number in range(50)]
    other = random.Random(1).sample(rows, 50)
    first, second = (split_by_label(LabelledTexts(*map(list, zip(*r, strict=True))), (0.3, 0.7)) for r in (rows, other))
    assert [part.texts for part in first] == [part.texts for part in second]


def test_labels_that_look_alike_are_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "fastgru"):
        tell_alike(["spam", "ham"])
        assert not caplog.text
        tell_alike(["spam", "Spam", "very  good", "very good", "ham"])
    assert "learned as different ones: 'Spam' and 'spam', 'very  good' and 'very good'" in caplog.text


def test_load_splits_with_a_long_tail_of_labels(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [*numbered(40), *((f"word {number}", f"tag {number}") for number in range(9))]
    with caplog.at_level(logging.INFO, "fastgru"):
        splits = load_splits(write(tmp_path / "a.csv", rows), "text", "label")
    assert len(splits.labels) == 11
    assert set(splits.validation.labels) == set(splits.test.labels) == {"even", "odd"}
    assert "only train: 9 (9 texts): tag 0, tag 1, tag 2, tag 3, tag 4 and 4 more" in caplog.text


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
