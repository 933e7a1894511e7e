"""LabelledSequences: sequences of vectors with one label each, the form that every source of signals takes."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastgru.common.errors import InputError

Sequence = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LabelledSequences:
    """N sequences and their labels.

    `sequences [N]`: arrays `[T, I]` float32; T differs, I does not.
    `labels [N]`: the name of each sequence's label.
    `names [N]`: where each came from, for messages.
    """

    sequences: list[Sequence]
    labels: list[str]
    names: list[str]

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def label_counts(self) -> "Counter[str]":
        """How many sequences each label has."""
        return Counter(self.labels)

    @property
    def input_size(self) -> int:
        """I, the features of a step."""
        return int(self.sequences[0].shape[1])

    def take(self, rows: Iterable[int]) -> "LabelledSequences":
        """Give the rows of these indices, in this order."""
        rows = list(rows)
        columns = ([column[row] for row in rows] for column in (self.sequences, self.labels, self.names))
        return LabelledSequences(*columns)  # type: ignore[arg-type]

    @property
    def keys(self) -> list[str]:
        """SHA-256 (hex) of each sequence: equal sequences have equal keys."""
        return list(map(key_of, self.sequences))

    def fingerprint(self) -> str:
        """SHA-256 (hex) over sequences and labels: tells whether a source still holds what it held."""
        return fingerprint_of(self.keys, self.labels)

    def check(self, source: str) -> "LabelledSequences":
        """Return self; InputError, naming `source`, where there is no sequence, a blank label, or I differs."""
        if not self.sequences:
            raise InputError(f"{source}: there are no sequences in it")
        for sequence, label, name in zip(self.sequences, self.labels, self.names, strict=True):
            check_row(sequence, label, name, self.sequences[0], self.names[0])
        return self


def key_of(sequence: Sequence) -> str:
    """SHA-256 (hex) of a sequence."""
    return hashlib.sha256(sequence.tobytes()).hexdigest()


def fingerprint_of(keys: Iterable[str], labels: Iterable[str]) -> str:
    """SHA-256 (hex) over the sequences of these keys and their labels."""
    rows = (f"{key} {label!r}\n" for key, label in zip(keys, labels, strict=True))
    return hashlib.sha256("".join(rows).encode()).hexdigest()


def check_row(sequence: Sequence, label: str, name: str, first: Sequence, first_name: str) -> None:
    """InputError, naming the row, for a blank label and for other features than the first row has."""
    if not label.strip():
        raise InputError(f"{name} has no label")
    if sequence.shape[1] != first.shape[1]:
        raise InputError(
            f"{name} has {sequence.shape[1]} features a step, and {first_name} has {first.shape[1]}: "
            "all sequences need the same features"
        )


def check_sequence(sequence: npt.NDArray[np.generic], name: str) -> Sequence:
    """Give the sequence as float32; InputError where it is not [T, I], without steps, or not of finite numbers."""
    if sequence.ndim != 2 or not sequence.size:
        raise InputError(
            f"{name} must hold [steps, features], at least one of each, and has the shape {sequence.shape}"
        )
    if not np.issubdtype(sequence.dtype, np.number) or np.iscomplexobj(sequence):
        raise InputError(f"{name} must hold numbers, and holds {sequence.dtype}")
    with np.errstate(over="ignore"):
        values = sequence.astype(np.float32, copy=False)
    wrong = ~np.isfinite(values).all(axis=1)
    if wrong.any():
        raise InputError(f"{name} has a missing or infinite value in step {int(wrong.argmax()) + 1}")
    return values
