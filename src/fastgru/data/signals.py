"""Labelled signals from wherever they lie: the Japanese vowels, files of sequences, folders named by label."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fastgru.data.audio import common_rate, is_audio, read_features
from fastgru.data.sequences import LabelledSequences, Sequence
from fastgru.data.series_file import is_series_file, read_labelled_series, read_npy, read_series
from fastgru.data.split import Splits, share_out
from fastgru.errors import InputError
from fastgru.models.log_mel import LogMel


@dataclass(frozen=True)
class SignalSplits(Splits[LabelledSequences, LabelledSequences]):
    """The three parts. `features`: where they are of sounds, what was computed of them."""

    features: LogMel | None = None


def load_signals(data: str, test: str | None = None, features: LogMel | None = None) -> SignalSplits:
    """Load `data` and split it.

    `data`: "vowels" (Japanese Vowels, with its standard test part), a .ts or .npz file, or a folder whose folders are
    named by label and hold sound files or .npy files. `test`: such a file or folder to test on; otherwise a tenth of
    each label is. Another tenth of each label validates. Sequences that are equal stay on one side.
    `features`: of sounds; their sample rate is lowered to that of the files.
    InputError for bad data, for fewer than two labels, and for a label that only the validation or test part has.
    """
    if data == "vowels":
        from fastgru.data.vowels import load_vowels

        parts, heard = load_vowels(), None
    else:
        heard = _features_for(data, features or LogMel()) if Path(data).is_dir() else None
        parts = {"train": read_labelled_signals(data, heard)}
    if test is not None:
        parts["test"] = read_labelled_signals(test, heard)
        if parts["test"].input_size != parts["train"].input_size:
            there, here = parts["test"].input_size, parts["train"].input_size
            raise InputError(f"{test} has {there} features a step, and {data} has {here}")
    train, rest = parts["train"], parts.get("test")
    if rest is None:
        rest, train = _split(train)
    validation, train = _split(train)
    splits = SignalSplits(train, validation, rest, heard)
    splits.check(data, "sequences", test)
    return splits


def read_labelled_signals(source: str, features: LogMel | None) -> LabelledSequences:
    """Read a .ts or .npz file, or a folder of folders named by label; InputError for whatever is wrong with it.

    `features`: what is computed of sounds; None where a model takes no sounds.
    """
    if Path(source).is_dir():
        files = _files_by_label(source)
        rows = _read_files([path for path, _ in files], features)
        return LabelledSequences(rows, [label for _, label in files], [path for path, _ in files]).check(source)
    if not is_series_file(source):
        known = "a .ts or .npz file, or a folder with a folder for each label"
        raise InputError(f"{source} is not {'there' if not Path(source).exists() else 'data'}: name {known}")
    if features is not None:
        raise InputError(f"{source} holds no sounds, and the model was made for sounds: name a folder of them")
    return read_labelled_series(source)


def read_signals(sources: Iterable[str], features: LogMel | None) -> Iterable[tuple[str, Sequence]]:
    """Give name and sequence of every source: a sound file, a .npy file, or each of a .ts or .npz file, one by one."""
    for source in sources:
        if is_series_file(source) and features is None:
            rows = read_series(source)
            yield from zip(rows.names, rows.sequences, strict=True)
        else:
            yield source, _read_file(source, features)


def _split(rows: LabelledSequences) -> tuple[LabelledSequences, LabelledSequences]:
    """Take a tenth of each label, at least one sequence where a label has two or more."""
    keys = rows.keys()
    tenth: list[int] = []
    for label in sorted(set(rows.labels)):
        own = [row for row, name in enumerate(rows.labels) if name == label]
        share = max(0.1, 1 / len(own)) if len(own) > 1 else 0.0
        tenth += [own[place] for place in share_out([keys[row] for row in own], (share, 1 - share))[0]] if share else []
    taken = set(tenth)
    return rows.take(tenth), rows.take(row for row in range(len(rows)) if row not in taken)


def _features_for(folder: str, features: LogMel) -> LogMel | None:
    files = [path for path, _ in _files_by_label(folder)]
    sounds = [path for path in files if is_audio(path)]
    if not sounds:
        return None
    others = [path for path in files if not is_audio(path)]
    if others:
        raise InputError(f"{others[0]} is no sound file, and {sounds[0]} is one: a folder holds the one or the other")
    heard = replace(features, sample_rate=min(features.sample_rate, common_rate(sounds)))
    try:
        heard(np.zeros(heard.sample_rate, dtype=np.float32))
    except ValueError as error:
        raise InputError(f"{heard.num_bins} bins are too many at {heard.sample_rate} samples a second") from error
    return heard


def _files_by_label(folder: str) -> list[tuple[str, str]]:
    """Give path and label of each file, in the order of their names; what begins with a dot is passed over."""
    labels = sorted(entry for entry in Path(folder).iterdir() if entry.is_dir() and not entry.name.startswith("."))
    files = [
        (str(path), label.name) for label in labels for path in sorted(label.iterdir()) if not path.name.startswith(".")
    ]
    if not files:
        raise InputError(f"{folder} must hold a folder for each label, with its files in it, and holds none")
    for path, _ in files:
        if not is_audio(path) and not path.lower().endswith(".npy"):
            raise InputError(f"{path} is neither a sound file (.wav, .flac, ...) nor an array (.npy): take it away")
    return files


def _read_files(paths: list[str], features: LogMel | None) -> list[Sequence]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    shown = track(paths, "reading", console=console, transient=True, disable=not console.is_terminal)
    return [_read_file(path, features) for path in shown]


def _read_file(source: str, features: LogMel | None) -> Sequence:
    if features is not None:
        if source.lower().endswith((".npy", ".ts", ".npz")):
            raise InputError(f"{source} holds no sound, and the model was made for sounds")
        return read_features(source, features)
    if not source.lower().endswith(".npy"):
        known = "a .npy, .npz or .ts file"
        raise InputError(f"{source} is no sequence that this model takes: expected {known}; it was not made for sounds")
    return read_npy(source)
