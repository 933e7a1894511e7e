"""Labelled texts from wherever they lie: the movie reviews, table files, Hugging Face datasets."""

from dataclasses import replace
from pathlib import Path

from fastgru.common.errors import InputError
from fastgru.data.hub import load_hub
from fastgru.data.labelled import LabelledTexts
from fastgru.data.reviews import load_reviews
from fastgru.data.split import complete, tell_alike
from fastgru.data.stream import TextSplits, stream_splits
from fastgru.data.table import PLAIN, is_table, read_labelled
from fastgru.data.table_format import TableFormat
from fastgru.data.targets import Targets


def load_splits(
    data: str,
    text: str,
    label: str,
    test: str | None = None,
    *,
    stream: bool = False,
    table: TableFormat = PLAIN,
    targets: Targets | None = None,
) -> TextSplits:
    """Load `data` and split it.

    `data`: "reviews" (the movie reviews), a table file, or the name or folder of a Hugging Face dataset.
    `test`: a table file to test on. Otherwise the dataset's own test part, otherwise a tenth of the data.
    `stream`: leave the training part where it is (`fastgru.data.stream.stream_splits` says of what data).
    `table`: how table files are written. `targets`: what the column of labels holds, where that is not one label.
    A table is split by label (`fastgru.data.split.split_by_label`), and labels that look alike are told.
    A text of the test part never stays in the others. InputError for bad data, for fewer than two labels, and
    for a label that only the validation or the test part has.
    """
    if targets is not None:
        return _load_targets(data, text, label, test, stream, table, targets)
    if stream:
        return stream_splits(data, text, label, test, table=table).check(data, "texts", test)
    parts = {"train": load_reviews()} if data == "reviews" else read_parts(data, text, label, table)
    if test is not None:
        parts["test"] = read_labelled(test, text, label, table)
    # The reviews are split as they were when what is measured on them was measured.
    splits = complete(parts, by_label=data != "reviews").check(data, "texts", test)
    tell_alike(splits.labels)
    return splits


def _load_targets(
    data: str, text: str, label: str, test: str | None, stream: bool, table: TableFormat, targets: Targets
) -> TextSplits:
    """Load texts of several labels or of numbers, split by the text alone."""
    if stream:
        raise InputError("--stream is for one label a text: leave it out")
    if data == "reviews" or not (is_table(data) or Path(data).is_file()):
        raise InputError(f"{data}: several labels a text, and numbers, are read from table files: name one with --data")
    parts = {"train": read_labelled(data, text, label, table, targets)}
    if test is not None:
        parts["test"] = read_labelled(test, text, label, table, targets)
    return replace(complete(parts), targets=targets).check(data, "texts", test)


def read_parts(data: str, text: str, label: str, table: TableFormat = PLAIN) -> dict[str, LabelledTexts]:
    """Read a table file ("train" alone), or the parts that a Hugging Face dataset has; InputError for bad data."""
    if is_table(data) or Path(data).is_file():
        return {"train": read_labelled(data, text, label, table)}
    return load_hub(data, text, label, skip_blank=table.skip_blank)
