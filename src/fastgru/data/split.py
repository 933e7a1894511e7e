"""Train, validation and test: a fixed seeded split in which no text stands on two sides."""

import hashlib
import logging
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from fastgru.data.labelled import LabelledTexts
from fastgru.data.table import is_table, read_labelled
from fastgru.errors import InputError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Splits:
    """The three parts of a data set, and its label names in sorted order."""

    train: LabelledTexts
    validation: LabelledTexts
    test: LabelledTexts

    @property
    def labels(self) -> list[str]:
        """The names of the labels in the training part, sorted."""
        return sorted(set(self.train.labels))

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the three parts."""
        parts = (self.train, self.validation, self.test)
        return hashlib.sha256("".join(part.fingerprint() for part in parts).encode()).hexdigest()


def load_splits(data: str, text: str, label: str, test: str | None = None) -> Splits:
    """Load `data` and split it.

    `data`: "reviews" (the movie reviews), a table file, or the name or folder of a Hugging Face dataset.
    `test`: a table file to test on. Otherwise the dataset's own test part, otherwise a tenth of the data.
    A text of the test part never stays in the others. InputError for bad data, for fewer than two labels, and
    for a label that only the validation or the test part has.
    """
    from fastgru.data.reviews import load_reviews

    parts = {"train": load_reviews()} if data == "reviews" else read_parts(data, text, label)
    if test is not None:
        parts["test"] = read_labelled(test, text, label)
    return _check(Splits(*complete(parts)), data, test)


def read_parts(data: str, text: str, label: str) -> dict[str, LabelledTexts]:
    """Read a table file ("train" alone), or the parts that a Hugging Face dataset has; InputError for bad data."""
    from fastgru.data.hub import load_hub

    if is_table(data) or Path(data).is_file():
        return {"train": read_labelled(data, text, label)}
    return load_hub(data, text, label)


def split(rows: LabelledTexts, shares: tuple[float, ...], seed: int = 0) -> list[LabelledTexts]:
    """Split `rows` into parts of these shares (summing to 1).

    Texts that are equal but for case and white space stay together. The groups are ordered by the SHA-256 of
    the seed and the text, so that the split is the same on every machine and for every order of the rows.
    """
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for row, text in enumerate(rows.texts):
        groups[normalise(text)].append(row)
    order = sorted(groups, key=lambda text: hashlib.sha256(f"{seed}\n{text}".encode()).digest())
    parts: list[list[int]] = [[] for _ in shares]
    bounds = [sum(shares[: part + 1]) * len(rows) for part in range(len(shares))]
    part = done = 0
    for text in order:
        while part < len(shares) - 1 and done >= round(bounds[part]):
            part += 1
        parts[part] += groups[text]
        done += len(groups[text])
    return [rows.take(part) for part in parts]


def normalise(text: str) -> str:
    """Fold case and white space: texts with the same result count as the same text."""
    return " ".join(text.casefold().split())


def complete(parts: dict[str, LabelledTexts], share: float = 0.1) -> tuple[LabelledTexts, LabelledTexts, LabelledTexts]:
    """Give train, validation and test part, each of the last two a `share` of the training part where it is missing.

    A text of one part never stays in another.
    """
    train, validation, test = parts["train"], parts.get("validation"), parts.get("test")
    if test is None and validation is None:
        test, validation, train = split(train, (share, share, 1 - 2 * share))
        return train, validation, test
    if test is None:
        test, train = split(train, (share, 1 - share))
    train = _without(train, test)
    if validation is None:
        validation, train = split(train, (share, 1 - share))
    validation = _without(validation, test)
    return _without(train, validation), validation, test


def _without(rows: LabelledTexts, others: LabelledTexts) -> LabelledTexts:
    taken = {normalise(text) for text in others.texts}
    kept = [row for row, text in enumerate(rows.texts) if normalise(text) not in taken]
    if len(kept) < len(rows):
        _log.info("left out %d texts of the training data that are also held out", len(rows) - len(kept))
    return rows.take(kept)


def _check(splits: Splits, data: str, test: str | None) -> Splits:
    for name in ("train", "validation", "test"):
        if not len(getattr(splits, name)):
            why = f" once the texts of {test} are left out" if test and name != "test" else ""
            raise InputError(f"{data}: too few different texts{why}: nothing is left for the {name} part")
    if len(splits.labels) < 2:
        raise InputError(f"{data}: a classifier needs two labels or more; every text is labelled {splits.labels[0]!r}")
    for name in ("validation", "test"):
        source = test if test and name == "test" else f"the {name} part of {data}"
        check_labels(getattr(splits, name).labels, splits.labels, source)
    return splits


def check_labels(labels: list[str], known: list[str], source: str) -> None:
    """InputError where `labels` has a name that is not among the `known` ones of the training data."""
    unknown = sorted(set(labels) - set(known))
    if unknown:
        raise InputError(
            f"{source} has labels that the training data has not: {_some(unknown)} (known: {_some(known)}); "
            "is it the right column, and has every label some ten texts?"
        )


def _some(names: list[str]) -> str:
    """The first five names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
