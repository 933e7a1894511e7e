"""Pairs of sequences: what is read and what is written, with all references of a source kept together."""

from dataclasses import dataclass

from fastgru.data.labelled import LabelledTexts
from fastgru.data.pronunciations import load_pronunciations
from fastgru.data.split import complete, read_parts
from fastgru.data.table import read_labelled
from fastgru.errors import InputError

PRONUNCIATIONS = "pronunciations"
SHARE = 0.05  # of the sources, to test on, and as many to validate with


@dataclass(frozen=True)
class PairSplits:
    """The three parts of pairs: texts are sources, labels are targets. No source stands in two parts."""

    train: LabelledTexts
    validation: LabelledTexts
    test: LabelledTexts

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the three parts."""
        parts = (self.train, self.validation, self.test)
        return LabelledTexts([part.fingerprint() for part in parts], []).fingerprint()


def load_pairs(data: str, source: str, target: str, test: str | None = None, *, stress: bool = False) -> PairSplits:
    """Load `data` and split it by source, always the same way: 90 % train, 5 % validation, 5 % test.

    `data`: "pronunciations" (the CMU Pronouncing Dictionary, with `stress` or without), a table file, or the name or
    folder of a Hugging Face dataset; `source`, `target`: its columns. `test`: a table file to test on.
    InputError for bad data.
    """
    if data == PRONUNCIATIONS:
        parts = {"train": load_pronunciations(stress=stress)}
    else:
        parts = read_parts(data, source, target)
    if test is not None:
        parts["test"] = read_labelled(test, source, target)
    splits = PairSplits(*complete(parts, SHARE))
    for name in ("train", "validation", "test"):
        if not len(getattr(splits, name)):
            raise InputError(f"{data}: too few different sources: nothing is left for the {name} part")
    return splits


def references(rows: LabelledTexts) -> dict[str, list[str]]:
    """Give every target of each source, in order."""
    found: dict[str, list[str]] = {}
    for source, target in zip(rows.texts, rows.labels, strict=True):
        found.setdefault(source, []).append(target)
    return found
