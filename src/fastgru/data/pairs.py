"""Pairs of sequences, what is read and what is written, as texts and their labels."""

from fastgru.data.labelled import LabelledTexts
from fastgru.data.pronunciations import load_pronunciations
from fastgru.data.split import complete
from fastgru.data.stream import TextSplits, stream_splits
from fastgru.data.table import PLAIN, read_labelled
from fastgru.data.table_format import TableFormat
from fastgru.data.texts import read_parts

PRONUNCIATIONS = "pronunciations"
FRACTION = 0.05  # of the pairs, to test on, and as many to validate with


def load_pairs(
    data: str,
    source: str,
    target: str,
    test: str | None = None,
    *,
    stress: bool = False,
    stream: bool = False,
    table: TableFormat = PLAIN,
) -> TextSplits:
    """Load `data` and split it by source, always the same way: 90 % train, 5 % validation, 5 % test.

    `data`: "pronunciations" (the CMU Pronouncing Dictionary, with `stress` or without), a table file, or the name or
    folder of a Hugging Face dataset; `source`, `target`: its columns. `test`: a table file to test on.
    `stream`: leave the training part where it is (`fastgru.data.stream.stream_splits` says of what data).
    `table`: how table files are written.
    All targets of one source are in one part. InputError for bad data.
    """
    if stream:
        streamed = stream_splits(data, source, target, test, fraction=FRACTION, table=table)
        return streamed.check_sizes(data, "sources", test)
    if data == PRONUNCIATIONS:
        parts = {"train": load_pronunciations(stress=stress)}
    else:
        parts = read_parts(data, source, target, table)
    if test is not None:
        parts["test"] = read_labelled(test, source, target, table)
    return complete(parts, FRACTION).check_sizes(data, "sources", test)


def references(rows: LabelledTexts) -> dict[str, list[str]]:
    """Give every target of each source, in order."""
    found: dict[str, list[str]] = {}
    for source, target in zip(rows.texts, rows.labels, strict=True):
        found.setdefault(source, []).append(target)
    return found
