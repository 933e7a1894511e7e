"""Labelled texts that do not fit into memory: Parquet shards and Hugging Face datasets, read anew in each epoch."""

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

from fastgru.common.errors import InputError
from fastgru.data.hub import CHUNK, open_hub, read_chunks, read_hub
from fastgru.data.labelled import LabelledTexts
from fastgru.data.parquet import RowRange, cut_groups, find_parquet, read, read_schema, whole
from fastgru.data.split import Splits, normalise, without
from fastgru.data.table import PLAIN, is_table, read_column, read_labelled
from fastgru.data.table_format import TableFormat

WINDOW = 16_384  # rows of the training part that are in memory at a time
RANGES = 4  # that a row group is cut into, at most: one is only reached by decoding what lies before it in its group
INTERLEAVED = 8  # ranges that are read in turns: rows of so many places come together in a window
BUILT_IN = ("reviews", "pronunciations")  # names that mean no dataset of the Hub: they fit into memory
HELD_OUT = 16_384  # rows of the validation and of the test part, at most: both stay in memory


class Source(Protocol):
    """Where the rows come from, as often as they are asked for."""

    def chunks(self, order: int | None) -> Iterator[LabelledTexts]:
        """Give all rows, CHUNK or fewer at a time: as they lie there, or as the number `order` shuffles them."""


@dataclass(frozen=True)
class ParquetSource:
    """Parquet shards; `text`, `label`: their columns.

    Shuffling cuts row groups into RANGES, puts these into a random order, and reads INTERLEAVED of them in turns.
    """

    files: Sequence[str]
    text: str
    label: str

    def chunks(self, order: int | None) -> Iterator[LabelledTexts]:
        """Give all rows."""
        if order is None:
            return chain.from_iterable(map(self._read, whole(self.files)))
        draw = random.Random(order)
        ranges = cut_groups(self.files, RANGES, CHUNK)
        draw.shuffle(ranges)
        return _interleave(map(self._read, ranges), draw)

    def _read(self, row_range: RowRange) -> Iterator[LabelledTexts]:
        row = row_range.start
        for batch in read(row_range, CHUNK, [self.text, self.label]):
            source = f"{row_range.path} after row {row}"
            frame = batch.to_pandas()
            texts, labels = (read_column(frame, column, source) for column in (self.text, self.label))
            yield LabelledTexts(texts, [label.strip() for label in labels]).check(source)
            row += len(batch)


def _interleave(readers: Iterator[Iterator[LabelledTexts]], draw: random.Random) -> Iterator[LabelledTexts]:
    """Interleave what the readers give: INTERLEAVED of them are open, and the next to read is drawn among these."""
    reading = list(islice(readers, INTERLEAVED))
    while reading:
        turn = draw.randrange(len(reading))
        chunk = next(reading[turn], None)
        if chunk is not None:
            yield chunk
        elif (following := next(readers, None)) is not None:
            reading[turn] = following
        else:
            del reading[turn]


@dataclass(frozen=True)
class HubSource:
    """The training part of a Hugging Face dataset, an IterableDataset. Shuffling changes the order of its shards, and
    of CHUNK rows at a time.
    """

    part: Any
    name: str
    text: str
    label: str

    def chunks(self, order: int | None) -> Iterator[LabelledTexts]:
        """Give all rows."""
        part = self.part if order is None else self.part.shuffle(seed=order, buffer_size=CHUNK)
        for number, chunk in enumerate(read_chunks(part, self.name, self.text, self.label)):
            yield chunk.check(f"{self.name}, chunk {number + 1}")


@dataclass(frozen=True)
class StreamedTexts:
    """The training part of a source: all of its rows but those that are held out.

    `source`: where they come from. `rows`: how many there are. `digest`: SHA-256 (hex) over the whole source.
    `held_out`: whether a text belongs to another part.
    """

    source: Source
    rows: int
    digest: str
    held_out: Callable[[str], bool]

    def __len__(self) -> int:
        return self.rows

    @property
    def texts(self) -> "Column":
        """The texts, read anew whenever they are gone through."""
        return Column(self, "texts")

    @property
    def labels(self) -> "Column":
        """The labels, read anew whenever they are gone through."""
        return Column(self, "labels")

    @cached_property
    def label_counts(self) -> "Counter[str]":
        """How many rows each label has."""
        return Counter(self.labels)

    def fingerprint(self) -> str:
        """SHA-256 (hex) that tells whether the rows are still what they were."""
        return self.digest

    def windows(self, order: int) -> Iterator[LabelledTexts]:
        """Give the rows as the number `order` shuffles them, WINDOW of them at a time, the last time fewer."""
        texts: list[str] = []
        labels: list[str] = []
        for chunk in self.chunks(order):
            texts += chunk.texts
            labels += chunk.labels
            while len(texts) >= WINDOW:
                yield LabelledTexts(texts[:WINDOW], labels[:WINDOW])
                del texts[:WINDOW], labels[:WINDOW]
        if texts:
            yield LabelledTexts(texts, labels)

    def chunks(self, order: int | None) -> Iterator[LabelledTexts]:
        """Give the rows chunk by chunk, as Source.chunks does."""
        for chunk in self.source.chunks(order):
            yield chunk.take(row for row, text in enumerate(chunk.texts) if not self.held_out(text))


@dataclass(frozen=True)
class Column:
    """One column of a stream, an iterable of which a chunk is in memory at a time."""

    of: StreamedTexts
    name: str

    def __iter__(self) -> Iterator[str]:
        for chunk in self.of.chunks(None):
            yield from getattr(chunk, self.name)


TextSplits = Splits[LabelledTexts | StreamedTexts, LabelledTexts]


def stream_splits(
    data: str, text: str, label: str, test: str | None, *, fraction: float = 0.1, table: TableFormat = PLAIN
) -> TextSplits:
    """Split `data` into a training part that is streamed, and the two others, which stay in memory.

    `data`: Parquet (a file, a folder, a pattern), or the name or folder of a Hugging Face dataset; `text`, `label`: its
    columns. `test`: a table file to test on, as `table` says. Of a part that is not there it takes `fraction` of the
    rows, HELD_OUT at most, by the SHA-256 of the text: the same ones on every machine and for every order.
    A text of one part never stays in another. InputError for bad data.
    """
    if table.skip_blank:
        raise InputError("--skip-blank goes with data in memory: leave out --stream, or the blank rows")
    source, given = _open(data, text, label)
    if test is not None:
        given["test"] = read_labelled(test, text, label, table)
    elsewhere = {_hash_position(text) for part in given.values() for text in part.texts}
    digest = hashlib.sha256("".join(part.fingerprint() for part in given.values()).encode())
    first = _HeldOut(0.0 if "test" in given else fraction)
    last = _HeldOut(0.0 if "validation" in given else fraction)
    rows = 0
    for chunk in source.chunks(None):
        digest.update(chunk.fingerprint().encode())
        for row in zip(chunk.texts, chunk.labels, strict=True):
            position = _hash_position(row[0])
            if position not in elsewhere:
                rows += 1
                first.offer(position, row)
                last.offer(1 - position, row)

    def held_out(text: str) -> bool:
        position = _hash_position(text)
        return position < first.bound or 1 - position < last.bound or position in elsewhere

    train = StreamedTexts(source, rows - len(first.rows) - len(last.rows), digest.hexdigest(), held_out)
    tested = given.get("test") or first.texts()
    validation = without(given["validation"], tested) if "validation" in given else last.texts()
    return Splits(train, validation, tested)


class _HeldOut:
    """The rows whose position lies below `bound`, which is halved whenever they become more than HELD_OUT."""

    def __init__(self, bound: float) -> None:
        self.bound = bound
        self.rows: list[tuple[float, tuple[str, str]]] = []

    def offer(self, position: float, row: tuple[str, str]) -> None:
        if position < self.bound:
            self.rows.append((position, row))
        while len(self.rows) > HELD_OUT:
            self.bound /= 2
            self.rows = [kept for kept in self.rows if kept[0] < self.bound]

    def texts(self) -> LabelledTexts:
        return LabelledTexts([text for _, (text, _) in self.rows], [label for _, (_, label) in self.rows])


def _hash_position(text: str) -> float:
    """Hash a text to a number from 0 to 1; texts that are equal but for case and white space have the same."""
    return int.from_bytes(hashlib.sha256(normalise(text).encode()).digest()[:6]) / 2**48


def _open(data: str, text: str, label: str) -> tuple[Source, dict[str, LabelledTexts]]:
    """Give what is streamed, and the parts that the data has beside it."""
    if Path(data).suffix.lower() == ".parquet" or "*" in data or "?" in data:
        files = find_parquet(data)
        read_schema(files, (text, label))
        return ParquetSource(files, text, label), {}
    if data in BUILT_IN or is_table(data) or Path(data).is_file():
        raise InputError(
            f"{data} cannot be streamed: expected .parquet, a pattern such as 'mail/*.parquet', or a dataset"
        )
    parts = open_hub(data, streaming=True)
    given = {
        part: read_hub(rows, f"dataset {data} ({part})", text, label) for part, rows in parts.items() if part != "train"
    }
    return HubSource(parts["train"], f"dataset {data} (train)", text, label), given
