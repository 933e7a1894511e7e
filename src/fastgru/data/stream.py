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
from fastgru.data.parquet import Stretch, cut_groups, find_parquet, read, read_schema, whole
from fastgru.data.split import Splits, normalise, without
from fastgru.data.table import is_table, read_column, read_labelled

WINDOW = 16_384  # rows of the training part that are in memory at a time
SPANS = 4  # that a row group is cut into, at most: one is only reached by decoding what lies before it in its group
OPEN = 8  # spans that are read in turns: rows of so many places come together in a window
BUILT_IN = ("reviews", "pronunciations")  # names that mean no dataset of the Hub: they fit into memory
HELD = 16_384  # rows of the validation and of the test part, at most: both stay in memory


class Source(Protocol):
    """Where the rows come from, as often as they are asked for."""

    def chunks(self, order: int | None) -> Iterator[LabelledTexts]:
        """Give all rows, CHUNK or fewer at a time: as they lie there, or as the number `order` shuffles them."""


@dataclass(frozen=True)
class ParquetSource:
    """Parquet shards; `text`, `label`: their columns.

    Shuffling cuts row groups into SPANS, puts these into a random order, and reads OPEN of them in turns.
    """

    files: Sequence[str]
    text: str
    label: str

    def chunks(self, order: int | None) -> Iterator[LabelledTexts]:
        """Give all rows."""
        if order is None:
            return chain.from_iterable(map(self._read, whole(self.files)))
        draw = random.Random(order)
        spans = cut_groups(self.files, SPANS, CHUNK)
        draw.shuffle(spans)
        return _in_turns(map(self._read, spans), draw)

    def _read(self, stretch: Stretch) -> Iterator[LabelledTexts]:
        row = stretch.start
        for batch in read(stretch, CHUNK, [self.text, self.label]):
            source = f"{stretch.path} after row {row}"
            frame = batch.to_pandas()
            texts, labels = (read_column(frame, column, source) for column in (self.text, self.label))
            yield LabelledTexts(texts, [label.strip() for label in labels]).check(source)
            row += len(batch)


def _in_turns(readers: Iterator[Iterator[LabelledTexts]], draw: random.Random) -> Iterator[LabelledTexts]:
    """Give what the readers give, OPEN of them at a time, each time one of these that is drawn."""
    reading = list(islice(readers, OPEN))
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
    `held`: whether a text belongs to another part.
    """

    source: Source
    rows: int
    digest: str
    held: Callable[[str], bool]

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
            yield chunk.take(row for row, text in enumerate(chunk.texts) if not self.held(text))


@dataclass(frozen=True)
class Column:
    """One column of a stream, an iterable of which a chunk is in memory at a time."""

    of: StreamedTexts
    name: str

    def __iter__(self) -> Iterator[str]:
        for chunk in self.of.chunks(None):
            yield from getattr(chunk, self.name)


TextSplits = Splits[LabelledTexts | StreamedTexts, LabelledTexts]


def stream_splits(data: str, text: str, label: str, test: str | None, *, share: float = 0.1) -> TextSplits:
    """Split `data` into a training part that is streamed, and the two others, which stay in memory.

    `data`: Parquet (a file, a folder, a pattern), or the name or folder of a Hugging Face dataset; `text`, `label`: its
    columns. `test`: a table file to test on. Of a part that is not there it takes `share` of the rows, HELD at most, by
    the SHA-256 of the text: the same ones on every machine and for every order.
    A text of one part never stays in another. InputError for bad data.
    """
    source, given = _open(data, text, label)
    if test is not None:
        given["test"] = read_labelled(test, text, label)
    apart = {_place(text) for part in given.values() for text in part.texts}
    digest = hashlib.sha256("".join(part.fingerprint() for part in given.values()).encode())
    first = _Drawn(0.0 if "test" in given else share)
    last = _Drawn(0.0 if "validation" in given else share)
    rows = 0
    for chunk in source.chunks(None):
        digest.update(chunk.fingerprint().encode())
        for row in zip(chunk.texts, chunk.labels, strict=True):
            place = _place(row[0])
            if place not in apart:
                rows += 1
                first.offer(place, row)
                last.offer(1 - place, row)

    def held(text: str) -> bool:
        place = _place(text)
        return place < first.bound or 1 - place < last.bound or place in apart

    train = StreamedTexts(source, rows - len(first.rows) - len(last.rows), digest.hexdigest(), held)
    tested = given.get("test") or first.texts()
    validation = without(given["validation"], tested) if "validation" in given else last.texts()
    return Splits(train, validation, tested)


class _Drawn:
    """The rows whose place lies below `bound`; with more than HELD of them the bound is halved, and halved again."""

    def __init__(self, bound: float) -> None:
        self.bound = bound
        self.rows: list[tuple[float, tuple[str, str]]] = []

    def offer(self, place: float, row: tuple[str, str]) -> None:
        if place < self.bound:
            self.rows.append((place, row))
        while len(self.rows) > HELD:
            self.bound /= 2
            self.rows = [kept for kept in self.rows if kept[0] < self.bound]

    def texts(self) -> LabelledTexts:
        return LabelledTexts([text for _, (text, _) in self.rows], [label for _, (_, label) in self.rows])


def _place(text: str) -> float:
    """Where a text stands between 0 and 1: texts that are equal but for case and white space at the same place."""
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
