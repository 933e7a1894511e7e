"""Files of labelled signals: manifests, groups, parts that the source tells, Google's speech commands as they lie."""

import json
from pathlib import Path

import numpy as np
import pytest
from sound_data import tone, tones

from fastgru.common.errors import InputError
from fastgru.data.listing import NOISE, Columns, list_files
from fastgru.data.signals import load_signals
from fastgru.models import LogMel

SPEAKERS = tuple(f"{number:08x}" for number in range(12))


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """Google's speech commands in small: two words, each said by 12 speakers."""
    folder = tmp_path / "speech_commands"
    for place, speaker in enumerate(SPEAKERS):
        tone(folder / "yes" / f"{speaker}_nohash_0.wav", 200 + place, seconds=0.1)
        tone(folder / "no" / f"{speaker}_nohash_0.wav", 2000 + place, seconds=0.1)
    tone(folder / NOISE / "white_noise.wav", 500, seconds=1.0)
    (folder / NOISE / "README.md").write_text("noise")
    (folder / "LICENSE").write_text("CC BY 4.0")
    return folder


def speakers(names: list[str]) -> set[str]:
    return {Path(name).name.split("_")[0] for name in names}


@pytest.mark.parametrize("stream", [False, True])
def test_speech_commands_are_split_by_speaker(commands: Path, stream: bool) -> None:
    splits = load_signals(str(commands), stream=stream)
    assert splits.labels == ["no", "yes"]
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [20, 2, 2]
    own = [speakers(part.names) for part in (splits.train, splits.validation, splits.test)]
    assert sum(map(len, own)) == len(SPEAKERS) == len(set.union(*own))


@pytest.mark.parametrize("stream", [False, True])
def test_speech_commands_own_lists_are_their_parts(commands: Path, stream: bool) -> None:
    (commands / "testing_list.txt").write_text(f"yes/{SPEAKERS[3]}_nohash_0.wav\nno/{SPEAKERS[3]}_nohash_0.wav\n")
    (commands / "validation_list.txt").write_text(f"no/{SPEAKERS[5]}_nohash_0.wav\n")
    splits = load_signals(str(commands), stream=stream)
    assert (speakers(splits.test.names), len(splits.test)) == ({SPEAKERS[3]}, 2)
    assert (speakers(splits.validation.names), splits.validation.labels) == ({SPEAKERS[5]}, ["no"])
    assert len(splits.train) == 21


@pytest.mark.parametrize(("pattern", "groups"), [(r"^(\w+)-", ["anna", "bob"]), (r"[ab]\w+", ["anna", "bob"])])
def test_groups_of_a_folder_are_found_in_file_names(tmp_path: Path, pattern: str, groups: list[str]) -> None:
    for name in ("anna-1", "bob-1"):
        np.save(tmp_path / f"{name}.npy", np.zeros((2, 1)))
    (tmp_path / "x").mkdir()
    for name in ("anna-1", "bob-1"):
        (tmp_path / f"{name}.npy").rename(tmp_path / "x" / f"{name}.npy")
    assert list_files(str(tmp_path), Columns(groups=pattern)).groups == groups
    assert list_files(str(tmp_path), Columns()).groups is None


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_manifest_names_files_beside_it(tmp_path: Path, suffix: str) -> None:
    rows = []
    for number in range(12):
        label = ("low", "high")[number % 2]
        tone(tmp_path / "wav" / f"{number}.wav", (200, 2000)[number % 2] + number, seconds=0.1)
        rows.append({"file": f"wav/{number}.wav", "word": label, "speaker": f"s{number // 2}"})
    manifest = tmp_path / f"all{suffix}"
    lines = [json.dumps(row) for row in rows]
    if suffix == ".csv":
        lines = ["file,word,speaker", *(",".join(row.values()) for row in rows)]
    manifest.write_text("\n".join(lines) + "\n")
    columns = Columns("file", "word", "speaker")
    splits = load_signals(str(manifest), columns=columns)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [8, 2, 2]
    for part in (splits.validation, splits.test):
        first, second = sorted(int(Path(name).stem) for name in part.names)
        assert (first // 2, second - first) == (second // 2, 1)  # one speaker's two words
    with pytest.raises(InputError, match="there is no column 'path'"):
        load_signals(str(manifest))


def test_a_manifest_may_tell_the_parts(tmp_path: Path) -> None:
    lines = ["path,label,split"]
    for number, part in enumerate(["train"] * 4 + ["dev"] * 2 + ["test"] * 3):
        np.save(tmp_path / f"{number}.npy", np.full((3, 2), number))
        lines.append(f"{number}.npy,{'ab'[number % 2]},{part}")
    (tmp_path / "all.csv").write_text("\n".join(lines))
    splits = load_signals(str(tmp_path / "all.csv"))
    assert [Path(name).stem for name in splits.test.names] == ["6", "7", "8"]
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [4, 2, 3]
    assert splits.features is None


@pytest.mark.parametrize(
    ("lines", "columns", "message"),
    [
        ("path,label\n", Columns(), "there are no rows in it"),
        ("path,label\n1.npy,\n", Columns(), r"all\.csv, row 1: column 'label' is empty"),
        ("path,label\n1.txt,a\n", Columns(), r"1\.txt is neither a sound file"),
        ("path,label\n1.npy,a\n", Columns(), r"1\.npy cannot be read as an array"),
        ("path,label,split\n1.npy,a,later\n", Columns(), "'split' says train, validation or test, and has 'later'"),
        ("path,label\n1.npy,a\n", Columns(groups="who"), "there is no column 'who'"),
    ],
)
def test_manifests_that_cannot_be_used(tmp_path: Path, lines: str, columns: Columns, message: str) -> None:
    (tmp_path / "all.csv").write_text(lines)
    with pytest.raises(InputError, match=message):
        load_signals(str(tmp_path / "all.csv"), columns=columns)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", r"--groups '\(' is no regular expression"),
        ("^anna", r"--groups '\^anna' is not to be found in the name of .*0\.wav"),
        ("wav", "too few groups"),
    ],
)
def test_groups_that_are_none(tmp_path: Path, pattern: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_signals(str(tones(tmp_path, seconds=0.1)), columns=Columns(groups=pattern))


def test_sounds_that_change_are_centred_and_lasting_ones_are_not(tmp_path: Path) -> None:
    lasting = load_signals(str(tones(tmp_path / "tones", seconds=0.1)), choose_centred=True)
    assert lasting.features == LogMel()
    for number in range(10):
        for label, steps in (("rise", 1), ("fall", -1)):
            sweep = np.linspace(200, 4000, 8000)[::steps] + number
            wave = 0.3 * np.sin(2 * np.pi * np.cumsum(sweep) / 16_000)
            write(tmp_path / "sweeps" / label / f"{number}.wav", wave)
    changing = load_signals(str(tmp_path / "sweeps"), choose_centred=True)
    assert changing.features == LogMel(centred=True)
    assert abs(changing.train.sequences[0].mean(0)).max() < 1e-5
    assert load_signals(str(tmp_path / "sweeps")).features == LogMel()


def write(path: Path, wave: np.ndarray) -> None:
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, 16_000)
