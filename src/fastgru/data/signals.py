"""Labelled signals from wherever they lie: the Japanese vowels, files of sequences, folders named by label."""

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from fastgru.common.errors import InputError
from fastgru.data.audio import common_rate, is_audio, read_features
from fastgru.data.sequences import LabelledSequences, Sequence, check_row, fingerprint_of, key_of
from fastgru.data.series_file import is_series_file, read_labelled_series, read_npy, read_series
from fastgru.data.split import Splits, split_groups
from fastgru.inference.log_mel import LogMel

WINDOW = 1 << 27  # bytes of a streamed training part that are in memory at a time
HELD_OUT = 16_384  # sequences of the validation and of the test part of what is streamed, about: they stay in memory


@dataclass(frozen=True)
class StreamedSequences:
    """N sequences in files of their own, which are read anew whenever they are gone through.

    `names [N]`: the files. `labels [N]`: the name of each one's label. `keys [N]`: SHA-256 (hex) of each sequence.
    `input_size` I: features of a step. `features`: what is computed of sounds.
    """

    names: list[str]
    labels: list[str]
    keys: list[str]
    input_size: int
    features: LogMel | None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def label_counts(self) -> "Counter[str]":
        """How many sequences each label has."""
        return Counter(self.labels)

    @property
    def sequences(self) -> Iterator[Sequence]:
        """The sequences, one after the other."""
        return _read_files(self.names, self.features)

    def fingerprint(self) -> str:
        """SHA-256 (hex) over sequences and labels: that of the same rows in memory."""
        return fingerprint_of(self.keys, self.labels)

    def take(self, rows: Iterable[int]) -> "StreamedSequences":
        """Give the rows of these indices, in this order."""
        rows = list(rows)
        names, labels, keys = ([column[row] for row in rows] for column in (self.names, self.labels, self.keys))
        return StreamedSequences(names, labels, keys, self.input_size, self.features)

    def read(self) -> LabelledSequences:
        """Give all rows in memory."""
        return LabelledSequences(list(self.sequences), self.labels, self.names)

    def windows(self, order: int) -> Iterator[LabelledSequences]:
        """Give the rows as the number `order` shuffles them, WINDOW bytes of them at a time, the last time fewer."""
        rows = random.Random(order).sample(range(len(self)), len(self))
        begin = size = 0
        sequences: list[Sequence] = []
        for done, row in enumerate(rows, start=1):
            sequences.append(_read_file(self.names[row], self.features))
            size += sequences[-1].nbytes
            if size >= WINDOW or done == len(rows):
                own = self.take(rows[begin:done])
                yield LabelledSequences(sequences, own.labels, own.names)
                begin, size, sequences = done, 0, []


Rows = LabelledSequences | StreamedSequences


@dataclass(frozen=True)
class SignalSplits(Splits[Rows, LabelledSequences]):
    """The three parts. `features`: where they are of sounds, what was computed of them."""

    features: LogMel | None = None


def load_signals(
    data: str, test: str | None = None, features: LogMel | None = None, *, stream: bool = False
) -> SignalSplits:
    """Load `data` and split it.

    `data`: "vowels" (Japanese Vowels, with its standard test part), a .ts or .npz file, or a folder whose folders are
    named by label and hold sound files or .npy files. `test`: such a file or folder to test on; otherwise a tenth of
    each label is. Another tenth of each label validates. Sequences that are equal stay on one side.
    `features`: of sounds; their sample rate is lowered to that of the files.
    `stream`: leave the training part where it is, a folder; of the others HELD_OUT sequences at most are kept, about.
    InputError for bad data, for fewer than two labels, and for a label that only the validation or test part has.
    """
    train: Rows
    rest = used = None
    if stream:
        train = _open_folder(data, features or LogMel())
        used = train.features
    elif data == "vowels":
        from fastgru.data.vowels import load_vowels

        train, rest = load_vowels()
    else:
        used = _features_for(data, features or LogMel()) if Path(data).is_dir() else None
        train = read_labelled_signals(data, used)
    if test is not None:
        rest = read_labelled_signals(test, used)
        if rest.input_size != train.input_size:
            raise InputError(f"{test} has {rest.input_size} features a step, and {data} has {train.input_size}")
    fraction = min(0.1, HELD_OUT / len(train)) if stream else 0.1
    if rest is None:
        rest, train = _split(train, fraction)
    validation, train = _split(train, fraction)
    splits = SignalSplits(train, validation, rest, used)
    splits.check(data, "sequences", test)
    return splits


def read_labelled_signals(source: str, features: LogMel | None) -> LabelledSequences:
    """Read a .ts or .npz file, or a folder of folders named by label; InputError for whatever is wrong with it.

    `features`: what is computed of sounds; None where a model takes no sounds.
    """
    if Path(source).is_dir():
        paths, labels = _files_by_label(source)
        return LabelledSequences(list(_read_files(paths, features)), labels, paths).check(source)
    if not is_series_file(source):
        known = "a .ts or .npz file, or a folder with a folder for each label"
        raise InputError(f"{source} is not {'there' if not Path(source).exists() else 'data'}: name {known}")
    if features is not None:
        raise InputError(f"{source} holds no sounds, and the model was made for sounds: name a folder of them")
    return read_labelled_series(source)


def read_signals(sources: Iterable[str], features: LogMel | None) -> Iterable[tuple[str, Sequence]]:
    """Give name and sequence of every source: a sound file, a .npy file, or each of a .ts or .npz file, one by one.

    Of a folder: each file in it and in its folders, in the order of their names; what begins with a dot is passed over.
    """
    for source in chain.from_iterable(map(_files_in, sources)):
        if is_series_file(source) and features is None:
            rows = read_series(source)
            yield from zip(rows.names, rows.sequences, strict=True)
        else:
            yield source, _read_file(source, features)


def _files_in(source: str) -> list[str]:
    folder = Path(source)
    if not folder.is_dir():
        return [source]
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    files = [str(path) for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if not files:
        raise InputError(f"{source}: there are no files in it")
    return files


def _split(rows: Rows, fraction: float) -> tuple[LabelledSequences, Rows]:
    """Take a fraction of each label, at least one sequence where a label has two or more; give it in memory."""
    keys = rows.keys
    taken: list[int] = []
    for label in sorted(set(rows.labels)):
        own = [row for row, name in enumerate(rows.labels) if name == label]
        if len(own) > 1:
            part = max(fraction, 1 / len(own))
            taken += [own[position] for position in split_groups([keys[row] for row in own], (part, 1 - part))[0]]
    held_out = rows.take(taken)
    left = set(range(len(rows))).difference(taken)
    return held_out.read() if isinstance(held_out, StreamedSequences) else held_out, rows.take(sorted(left))


def _open_folder(folder: str, features: LogMel) -> StreamedSequences:
    """Go over all files of a folder once; InputError for whatever is wrong with one."""
    if not Path(folder).is_dir():
        known = "a folder with a folder of sounds or .npy files for each label"
        raise InputError(f"{folder} cannot be streamed: expected {known}")
    used = _features_for(folder, features)
    paths, labels = _files_by_label(folder)
    keys: list[str] = []
    first = None
    for path, label, sequence in zip(paths, labels, _read_files(paths, used), strict=True):
        first = sequence if first is None else first
        check_row(sequence, label, path, first, paths[0])
        keys.append(key_of(sequence))
    assert first is not None  # a folder without files is refused
    return StreamedSequences(paths, labels, keys, int(first.shape[1]), used)


def _features_for(folder: str, features: LogMel) -> LogMel | None:
    files, _ = _files_by_label(folder)
    sounds = [path for path in files if is_audio(path)]
    if not sounds:
        return None
    others = [path for path in files if not is_audio(path)]
    if others:
        raise InputError(f"{others[0]} is no sound file, and {sounds[0]} is one: a folder holds the one or the other")
    used = replace(features, sample_rate=min(features.sample_rate, common_rate(sounds)))
    try:
        used(np.zeros(used.sample_rate, dtype=np.float32))
    except ValueError as error:
        raise InputError(f"{used.num_bins} bins are too many at {used.sample_rate} samples a second") from error
    return used


def _files_by_label(folder: str) -> tuple[list[str], list[str]]:
    """Give the files and their labels, in the order of their names; what begins with a dot is passed over."""
    labels = sorted(entry for entry in Path(folder).iterdir() if entry.is_dir() and not entry.name.startswith("."))
    files = [
        (str(path), label.name) for label in labels for path in sorted(label.iterdir()) if not path.name.startswith(".")
    ]
    if not files:
        raise InputError(f"{folder} must hold a folder for each label, with its files in it, and holds none")
    for path, _ in files:
        if not is_audio(path) and not path.lower().endswith(".npy"):
            raise InputError(f"{path} is neither a sound file (.wav, .flac, ...) nor an array (.npy): take it away")
    return [path for path, _ in files], [label for _, label in files]


def _read_files(paths: list[str], features: LogMel | None) -> Iterator[Sequence]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    shown = track(paths, "reading", console=console, transient=True, disable=not console.is_terminal)
    return (_read_file(path, features) for path in shown)


def _read_file(source: str, features: LogMel | None) -> Sequence:
    if features is not None:
        if source.lower().endswith((".npy", ".ts", ".npz")):
            raise InputError(f"{source} holds no sound, and the model was made for sounds")
        return read_features(source, features)
    if not source.lower().endswith(".npy"):
        known = "a .npy, .npz or .ts file"
        raise InputError(f"{source} is no sequence that this model takes: expected {known}; it was not made for sounds")
    return read_npy(source)
