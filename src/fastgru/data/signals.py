"""Labelled signals from wherever they lie: the Japanese vowels, files of sequences, folders named by label."""

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np

from fastgru.common.errors import InputError
from fastgru.data.audio import common_rate, is_audio, read_features
from fastgru.data.listing import Columns, Listing, is_listed, list_files
from fastgru.data.sequences import LabelledSequences, Sequence, check_row, fingerprint_of, key_of
from fastgru.data.series_file import is_series_file, read_labelled_series, read_npy, read_series
from fastgru.data.split import Splits, split_groups
from fastgru.data.targets import Targets
from fastgru.inference.log_mel import LogMel

WINDOW = 1 << 27  # bytes of a streamed training part that are in memory at a time
PLAIN = Columns()
STEADY = 0.5  # share of the variance that lies within sounds, below which they differ by what lasts: hums, tones
LOOKED_AT = 64  # sounds, by which that is seen
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
R = TypeVar("R", bound=Rows)


@dataclass(frozen=True)
class SignalSplits(Splits[Rows, LabelledSequences]):
    """The three parts. `features`: where they are of sounds, what was computed of them."""

    features: LogMel | None = None


def load_signals(
    data: str,
    test: str | None = None,
    features: LogMel | None = None,
    *,
    stream: bool = False,
    columns: Columns = PLAIN,
    choose_centred: bool = False,
    targets: Targets | None = None,
) -> SignalSplits:
    """Load `data` and split it.

    `data`: "vowels" (Japanese Vowels, with its standard test part), a .ts or .npz file, a folder whose folders are
    named by label and hold sound files or .npy files, or a manifest, a table of such files with their labels. `test`:
    such a source to test on; otherwise what the data says, or a tenth of each label. Another tenth of each label
    validates. Sequences that are equal stay on one side; so does each group, and then it is a tenth of all.
    `features`: of sounds; their sample rate is lowered to that of the files. `choose_centred`: centre those that change
    (STEADY). `columns`: of a manifest, and what a group is (`fastgru.data.listing`). `targets`: what the labels are,
    where not one a sequence; then a tenth is one of all.
    `stream`: leave the training part where it is; of the others HELD_OUT sequences at most are kept, about.
    InputError for bad data, for fewer than two labels, and for a label that only the validation or test part has.
    """
    train: Rows
    held: dict[str, LabelledSequences] = {}
    listing, used = None, None
    if is_listed(data):
        listing = list_files(data, columns)
        used = _features_for(listing.paths, features or LogMel(), choose_centred)
        train = _with(_open(listing, used) if stream else _read(listing, used, data), targets, data)
        held, train = _said_parts(train, listing)
    elif stream:
        raise InputError(
            f"{data} cannot be streamed: expected a folder with a folder of sounds or .npy files for each label, "
            "or a manifest"
        )
    elif data == "vowels":
        from fastgru.data.vowels import load_vowels

        train, held["test"] = load_vowels()
    else:
        train = read_labelled_signals(data, None, columns, targets)
    if test is not None:
        held["test"] = read_labelled_signals(test, used, columns, targets)
        if held["test"].input_size != train.input_size:
            sizes = held["test"].input_size, train.input_size
            raise InputError(f"{test} has {sizes[0]} features a step, and {data} has {sizes[1]}")
    groups = dict(zip(listing.paths, listing.groups, strict=True)) if listing and listing.groups else {}
    fraction = min(0.1, HELD_OUT / len(train)) if stream else 0.1
    for part in ("test", "validation"):
        if part not in held:
            held[part], train = _split(train, fraction, groups, by_label=targets is None)
    splits = SignalSplits(train, held["validation"], held["test"], targets, used)
    splits.check(data, "sequences", test)
    return splits


def read_labelled_signals(
    source: str, features: LogMel | None, columns: Columns = PLAIN, targets: Targets | None = None
) -> LabelledSequences:
    """Read a .ts or .npz file, a folder of folders named by label, or a manifest; InputError for what is wrong.

    `features`: what is computed of sounds; None where a model takes no sounds.
    """
    if is_listed(source):
        return _with(_read(list_files(source, columns), features, source), targets, source)
    if not is_series_file(source):
        known = "a .ts or .npz file, a folder with a folder for each label, or a table of files and labels"
        raise InputError(f"{source} is not {'there' if not Path(source).exists() else 'data'}: name {known}")
    if features is not None:
        raise InputError(f"{source} holds no sounds, and the model was made for sounds: name a folder of them")
    return _with(read_labelled_series(source), targets, source)


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


def _said_parts(rows: Rows, listing: Listing) -> tuple[dict[str, LabelledSequences], Rows]:
    """Give the test and the validation part that the source tells, in memory, and the rows that train."""
    if listing.parts is None:
        return {}, rows
    part_of = dict(zip(listing.paths, listing.parts, strict=True))
    by_part = {part: [row for row, name in enumerate(rows.names) if part_of[name] == part] for part in listing.parts}
    held = {part: _in_memory(rows.take(own)) for part, own in by_part.items() if part != "train"}
    return held, rows.take(by_part.get("train", []))


def _with(rows: R, targets: Targets | None, source: str) -> R:
    """Give the rows with their labels in the form of the targets."""
    return rows if targets is None else replace(rows, labels=targets.read(rows.labels, source))


def _split(rows: Rows, fraction: float, groups: dict[str, str], *, by_label: bool) -> tuple[LabelledSequences, Rows]:
    """Take a fraction of each label, at least one sequence where a label has two or more; give it in memory.

    `groups`: of the rows' names; where there are some, take a fraction of all rows by whole groups. Without `by_label`
    take one of all rows.
    """
    if groups:
        taken = _by_group([groups[name] for name in rows.names], fraction)
    else:
        taken = _by_label(rows, fraction) if by_label else split_groups(rows.keys, (fraction, 1 - fraction))[0]
    left = set(range(len(rows))).difference(taken)
    return _in_memory(rows.take(taken)), rows.take(sorted(left))


def _by_group(groups: list[str], fraction: float) -> list[int]:
    if len(set(groups)) < 2:
        raise InputError("too few groups (speakers): the training, the validation and the test part need one each")
    return split_groups(groups, (fraction, 1 - fraction))[0]


def _by_label(rows: Rows, fraction: float) -> list[int]:
    keys = rows.keys
    taken: list[int] = []
    for label in sorted(set(rows.labels)):
        own = [row for row, name in enumerate(rows.labels) if name == label]
        if len(own) > 1:
            part = max(fraction, 1 / len(own))
            taken += [own[position] for position in split_groups([keys[row] for row in own], (part, 1 - part))[0]]
    return taken


def _in_memory(rows: Rows) -> LabelledSequences:
    return rows.read() if isinstance(rows, StreamedSequences) else rows


def _read(listing: Listing, features: LogMel | None, source: str) -> LabelledSequences:
    return LabelledSequences(list(_read_files(listing.paths, features)), listing.labels, listing.paths).check(source)


def _open(listing: Listing, features: LogMel | None) -> StreamedSequences:
    """Go over all files once; InputError for whatever is wrong with one."""
    keys: list[str] = []
    first = None
    for path, label, sequence in zip(listing.paths, listing.labels, _read_files(listing.paths, features), strict=True):
        first = sequence if first is None else first
        check_row(sequence, label, path, first, listing.paths[0])
        keys.append(key_of(sequence))
    assert first is not None  # a source without files is refused
    return StreamedSequences(listing.paths, listing.labels, keys, int(first.shape[1]), features)


def _features_for(files: list[str], features: LogMel, choose_centred: bool) -> LogMel | None:
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
    return replace(used, centred=_change(sounds, used)) if choose_centred else used


def _change(sounds: list[str], features: LogMel) -> bool:
    """Whether sounds, some of which are read, change more in themselves than they differ by what lasts in them.

    Of ten words by 17 voices 0.92 of the variance lies within the sounds, of lasting tones of two pitches 0.07.
    """
    some = sounds[:: max(1, len(sounds) // LOOKED_AT)][:LOOKED_AT]
    spectra = [read_features(path, replace(features, centred=False)) for path in some]
    within = sum(float(len(spectrum) * spectrum.var(0).sum()) for spectrum in spectra)
    frames = np.concatenate(spectra)
    return within > STEADY * float(len(frames) * frames.var(0).sum())


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
