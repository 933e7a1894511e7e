"""LabelledTexts: texts with one label each, the form that every source of data is brought into."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from fastgru.common.errors import InputError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledTexts:
    """N texts and their labels.

    `texts [N]`: as they came, not normalised.
    `labels [N]`: the name of each text's label.
    `soft_labels [N]`: how probable each label is to human raters, where the source knows more than the label:
    a mapping of label name to probability, summing to 1. A training signal only; never used to measure.
    `weights [N]`: how much each text counts in training and validation; alike where there are none.
    """

    texts: list[str]
    labels: list[str]
    soft_labels: list[dict[str, float]] | None = None
    weights: list[float] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def label_counts(self) -> "Counter[str]":
        """How many rows each label has."""
        return Counter(self.labels)

    def take(self, rows: Iterable[int]) -> "LabelledTexts":
        """Give the rows of these indices, in this order."""
        rows = list(rows)
        texts, labels = ([column[row] for row in rows] for column in (self.texts, self.labels))
        soft_labels = None if self.soft_labels is None else [self.soft_labels[row] for row in rows]
        weights = None if self.weights is None else [self.weights[row] for row in rows]
        return LabelledTexts(texts, labels, soft_labels, weights)

    def joined(self, others: "LabelledTexts") -> "LabelledTexts":
        """Give these rows and then the others; both are of one source."""
        soft_labels = None if self.soft_labels is None else self.soft_labels + (others.soft_labels or [])
        weights = None if self.weights is None else self.weights + (others.weights or [])
        return LabelledTexts(self.texts + others.texts, self.labels + others.labels, soft_labels, weights)

    def fingerprint(self) -> str:
        """SHA-256 (hex) over texts and labels: tells whether a source still holds what it held."""
        rows = json.dumps([self.texts, self.labels], ensure_ascii=True)
        return hashlib.sha256(rows.encode()).hexdigest()

    def check(self, source: str, *, skip_blank: bool = False, blank_labels: bool = False) -> "LabelledTexts":
        """Return self; InputError, naming `source`, where there is no row, or a text or label is blank.

        `blank_labels`: a label may be blank, as where a row has several or none.

        With `skip_blank` the rows with a blank text or label are left out, and their number is told.
        """
        if skip_blank:
            return self._without_blank(source, blank_labels).check(source, blank_labels=blank_labels)
        if not self.texts:
            raise InputError(f"{source}: there are no rows in it")
        for what, column in (("text", self.texts), ("label", self.labels))[: 1 if blank_labels else 2]:
            blank = [row for row, value in enumerate(column, start=1) if not value.strip()]
            if blank:
                raise InputError(
                    f"{source}: {len(blank)} of {len(column)} rows have an empty {what} (the first is row {blank[0]}); "
                    "--skip-blank leaves them out"
                )
        return self

    def _without_blank(self, source: str, blank_labels: bool) -> "LabelledTexts":
        rows = enumerate(zip(self.texts, self.labels, strict=True))
        kept = [row for row, (text, label) in rows if text.strip() and (blank_labels or label.strip())]
        if len(kept) < len(self):
            _log.info("%s: left out %d of %d rows, which are blank", source, len(self) - len(kept), len(self))
        return self.take(kept)
