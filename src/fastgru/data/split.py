"""Train, validation and test: a fixed seeded split in which no text stands on two sides."""

import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Generic, Protocol, TypeVar

from fastgru.common.errors import InputError
from fastgru.data.labelled import LabelledTexts
from fastgru.data.targets import Targets

RARE = 3  # different texts of a label that all train: a part of so few would measure chance

_log = logging.getLogger(__name__)


class Labelled(Protocol):
    """Rows with one label each: texts, sequences."""

    @property
    def labels(self) -> Iterable[str]:
        """The name of each row's label."""

    @property
    def label_counts(self) -> "Counter[str]":
        """How many rows each label has."""

    def __len__(self) -> int: ...

    def fingerprint(self) -> str:
        """SHA-256 (hex) that tells whether the rows are still what they were."""


Train = TypeVar("Train", bound=Labelled, covariant=True)
Rows = TypeVar("Rows", bound=Labelled, covariant=True)


@dataclass(frozen=True)
class Splits(Generic[Train, Rows]):
    """The three parts of a data set, and its label names in sorted order.

    `targets`: what the labels are, where they are not one label a row.
    """

    train: Train
    validation: Rows
    test: Rows
    targets: Targets | None = None

    @property
    def labels(self) -> list[str]:
        """The names of the labels in the training part, sorted; of numbers, what they are called."""
        return self._names(self.train.labels) if self.targets else sorted(self.train.label_counts)

    def _names(self, cells: Iterable[str]) -> list[str]:
        return self.targets.names(cells) if self.targets else sorted(set(cells))

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the three parts."""
        parts = (self.train, self.validation, self.test)
        return hashlib.sha256("".join(part.fingerprint() for part in parts).encode()).hexdigest()

    def check(self, data: str, rows: str, test: str | None = None) -> "Splits[Train, Rows]":
        """Return self; InputError for an empty part, fewer than two labels, and a label that training never sees.

        `data`, `test`: the sources that the messages name. `rows`: what the rows are, such as "texts".
        """
        self.check_sizes(data, rows, test)
        if self.targets and not self.labels:
            raise InputError(f"{data}: there is no label in it")
        if not self.targets and len(self.labels) < 2:
            raise InputError(
                f"{data}: a classifier needs two labels or more; all the {rows} are labelled {self.labels[0]!r}"
            )
        for name in ("validation", "test"):
            source = test if test and name == "test" else f"the {name} part of {data}"
            check_labels(self._names(getattr(self, name).labels), self.labels, source)
        return self

    def check_sizes(self, data: str, rows: str, test: str | None = None) -> "Splits[Train, Rows]":
        """Return self; InputError for an empty part, in the words of `check`."""
        for name in ("train", "validation", "test"):
            if not len(getattr(self, name)):
                why = f" once the {rows} of {test} are left out" if test and name != "test" else ""
                raise InputError(f"{data}: too few different {rows}{why}: nothing is left for the {name} part")
        return self


def split(rows: LabelledTexts, fractions: tuple[float, ...], seed: int = 0) -> list[LabelledTexts]:
    """Split `rows` into parts of these fractions (summing to 1).

    Texts that are equal but for case and white space stay together.
    """
    keys = [normalise(text) for text in rows.texts]
    return [rows.take(part) for part in split_groups(keys, fractions, seed)]


def split_groups(keys: list[str], fractions: tuple[float, ...], seed: int = 0) -> list[list[int]]:
    """Split the indices of `keys` into parts of these fractions (summing to 1); rows with equal keys stay together.

    The keys are ordered by the SHA-256 of the seed and the key, so that the parts are the same on every machine and
    for every order of the rows.
    """
    groups = _in_order(keys, seed)
    parts: list[list[int]] = [[] for _ in fractions]
    bounds = [sum(fractions[: part + 1]) * len(keys) for part in range(len(fractions))]
    part = done = 0
    for group in groups.values():
        while part < len(fractions) - 1 and done >= round(bounds[part]):
            part += 1
        parts[part] += group
        done += len(group)
    return parts


def split_by_label(rows: LabelledTexts, fractions: tuple[float, ...], seed: int = 0) -> list[LabelledTexts]:
    """Split `rows` into parts of these fractions of every label (summing to 1), of which the last one trains.

    Texts that are equal but for case and white space stay together, under the rarest of their labels. A part takes one
    text of a label at least; a label of RARE different texts or fewer trains only, and such labels are told.
    """
    groups = _in_order([normalise(text) for text in rows.texts], seed)
    counts = rows.label_counts
    by_label: defaultdict[str, list[str]] = defaultdict(list)
    for key, group in groups.items():
        by_label[min((counts[rows.labels[row]], rows.labels[row]) for row in group)[1]].append(key)
    rare = {label: len(keys) for label, keys in by_label.items() if len(keys) <= RARE}
    if len(rare) < len(by_label):  # where all are rare nothing can be measured, which is refused
        _tell_rare(rare)
    place: dict[str, int] = {}
    for keys in by_label.values():
        place.update(zip(keys, _places(len(keys), fractions), strict=False))
    return [
        rows.take(row for key, group in groups.items() if place[key] == part for row in group)
        for part in range(len(fractions))
    ]


def _places(count: int, fractions: tuple[float, ...]) -> Iterator[int]:
    """Give the part of each of `count` texts of a label, and the last part without end."""
    for part, fraction in enumerate(fractions[:-1] if count > RARE else ()):
        yield from repeat(part, max(1, round(fraction * count)))
    yield from repeat(len(fractions) - 1)


def _tell_rare(rare: dict[str, int]) -> None:
    if rare:
        numbers = (RARE, len(rare), sum(rare.values()))
        _log.info("labels of %d texts or fewer only train: %d (%d texts): %s", *numbers, _some(sorted(rare)))


def tell_alike(labels: Iterable[str]) -> None:
    """Tell which labels differ in case or white space alone: they are learned as different ones."""
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for label in sorted(labels):
        alike[normalise(label)].append(label)
    shown = [" and ".join(map(repr, names)) for names in alike.values() if len(names) > 1]
    if shown:
        _log.info("labels that differ in case or spaces alone are learned as different ones: %s", _some(shown))


def _in_order(keys: list[str], seed: int) -> dict[str, list[int]]:
    """Give the rows of each key, the keys in the order of their hash."""
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for row, key in enumerate(keys):
        groups[key].append(row)
    order = sorted(groups, key=lambda key: hashlib.sha256(f"{seed}\n{key}".encode()).digest())
    return {key: groups[key] for key in order}


def normalise(text: str) -> str:
    """Fold case and white space: texts with the same result count as the same text."""
    return " ".join(text.casefold().split())


def complete(
    parts: dict[str, LabelledTexts], fraction: float = 0.1, *, by_label: bool = False
) -> Splits[LabelledTexts, LabelledTexts]:
    """Give all three parts: where validation or test is missing, it is a `fraction` of the training part.

    A text of one part never stays in another. `by_label`: take the fraction of every label (`split_by_label`).
    """
    cut = split_by_label if by_label else split
    train, validation, test = parts["train"], parts.get("validation"), parts.get("test")
    if test is None and validation is None:
        test, validation, train = cut(train, (fraction, fraction, 1 - 2 * fraction))
        return Splits(train, validation, test)
    if test is None:
        test, train = cut(train, (fraction, 1 - fraction))
    train = without(train, test)
    if validation is None:
        validation, train = cut(train, (fraction, 1 - fraction))
    validation = without(validation, test)
    return Splits(without(train, validation), validation, test)


def without(rows: LabelledTexts, others: LabelledTexts) -> LabelledTexts:
    """Give the rows whose texts are not among those of `others`."""
    taken = {normalise(text) for text in others.texts}
    kept = [row for row, text in enumerate(rows.texts) if normalise(text) not in taken]
    if len(kept) < len(rows):
        _log.info("left out %d texts of the training data that are also held out", len(rows) - len(kept))
    return rows.take(kept)


def check_labels(labels: Iterable[str], known: list[str], source: str) -> None:
    """InputError where `labels` has a name that is not among the `known` ones of the training data."""
    unknown = sorted(set(labels) - set(known))
    if unknown:
        raise InputError(
            f"{source} has labels that the training data has not: {_some(unknown)} (known: {_some(known)}); "
            "is it the right column?"
        )


def _some(names: list[str]) -> str:
    """The first five names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
