from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from sound_data import tone, tones

from fastgru.common.errors import InputError
from fastgru.data import signals
from fastgru.data.audio import read_features
from fastgru.data.sequences import LabelledSequences
from fastgru.data.series_file import read_labelled_series, read_npy
from fastgru.data.signals import StreamedSequences, load_signals, read_signals
from fastgru.data.vowels import load_vowels
from fastgru.models import LogMel

HEAD = "# a comment\n@problemName x\n@classLabel true a b\n@data\n"


def ts(path: Path, body: str, head: str = HEAD) -> str:
    path.write_text(head + body)
    return str(path)


def test_the_real_vowels() -> None:
    train, test = load_vowels()
    assert (len(train), len(test), train.input_size) == (270, 370, 12)
    assert {name: train.labels.count(name) for name in set(train.labels)} == {str(n): 30 for n in range(1, 10)}
    lengths = [len(sequence) for sequence in [*train.sequences, *test.sequences]]
    assert (min(lengths), max(lengths)) == (7, 29)
    assert train.sequences[0][:2, 0].tolist() == pytest.approx([1.860936, 1.891651])
    assert test.labels.count("3") == 88


def test_load_signals_of_the_vowels_keeps_the_standard_test_part() -> None:
    splits = load_signals("vowels")
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (243, 27, 370)
    assert [splits.validation.labels.count(name) for name in splits.labels] == [3] * 9
    assert splits.fingerprint() == load_signals("vowels").fingerprint()


def test_ts_is_read_feature_by_feature(tmp_path: Path) -> None:
    rows = read_labelled_series(ts(tmp_path / "x.ts", "1,2,3:4,5,6:a\n7:8:b\n"))
    assert [sequence.tolist() for sequence in rows.sequences] == [[[1, 4], [2, 5], [3, 6]], [[7, 8]]]
    assert rows.labels == ["a", "b"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "there are no sequences in it"),
        ("1,2:3:a\n", r"x\.ts \(line 5\) must have series of the same length"),
        ("1,?:3,4:a\n", r"\(line 5\) has a missing value or one that is no number"),
        ("1,nan:3,4:a\n", r"\(line 5\) has a missing or infinite value in step 2"),
        ("1:2:a\n1:b\n", r"\(line 6\) has 1 features a step, and .* \(line 5\) has 2"),
        ("1:2:\n", r"\(line 5\) has no label"),
    ],
)
def test_ts_that_cannot_be_used(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_labelled_series(ts(tmp_path / "x.ts", body))


@pytest.mark.parametrize(
    ("head", "message"),
    [("no head\n", "there is no line @data"), ("@timeStamps true\n@classLabel true a\n@data\n", "has time stamps")],
)
def test_ts_with_another_head(tmp_path: Path, head: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_labelled_series(ts(tmp_path / "x.ts", "1:2:a\n", head))


def test_npz_with_lengths(tmp_path: Path) -> None:
    x = np.arange(12, dtype=np.float64).reshape(2, 3, 2)
    np.savez(tmp_path / "x.npz", x=x, lengths=[3, 1], labels=["a", "b"])
    rows = read_labelled_series(str(tmp_path / "x.npz"))
    assert [sequence.tolist() for sequence in rows.sequences] == [x[0].tolist(), x[1, :1].tolist()]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": np.zeros(3)}, r"must hold x \[sequences, steps, features\], and holds y \[3\]"),
        ({"x": np.zeros((2, 3, 1)), "labels": ["a"]}, r"labels must be \[2\]"),
        ({"x": np.zeros((2, 3, 1)), "lengths": [0, 3]}, "lengths must be whole numbers from 1 to 3"),
        ({"x": np.zeros((2, 3, 1))}, "has no label"),
        ({"x": np.array([[["a"]]]), "labels": ["a"]}, "must hold numbers"),
        ({"x": np.array([[[None]]], dtype=object), "labels": ["a"]}, "cannot be read as a .npz file"),
    ],
)
def test_npz_that_cannot_be_used(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(InputError, match=message):
        read_labelled_series(str(tmp_path / "x.npz"))


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.ts"])
def test_files_that_are_broken(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\xff\xfe nothing")
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        list(read_signals([str(tmp_path / name)], None))


def test_a_folder_is_read_file_by_file(tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    (tmp_path / ".hidden").mkdir()
    for name in ("b.npy", "deeper/a.npy", "a.npy", ".hidden/c.npy", "deeper/.d.npy"):
        np.save(tmp_path / name, np.zeros((2, 3), dtype=np.float32))
    names = [name for name, _ in read_signals([str(tmp_path), str(tmp_path / "a.npy")], None)]
    assert names == [str(tmp_path / name) for name in ("a.npy", "b.npy", "deeper/a.npy", "a.npy")]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: there are no files in it"):
        list(read_signals([str(tmp_path / "empty")], None))


def test_npy_of_one_dimension_is_one_feature(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([1, 2, 3]))
    assert read_npy(str(tmp_path / "x.npy")).tolist() == [[1], [2], [3]]


def test_folders_of_arrays(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for number in range(10):
            np.save(tmp_path / label / f"{number}.npy", np.random.default_rng(number).random((number + 1, 3)))
    splits = load_signals(str(tmp_path))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (16, 2, 2)
    assert splits.features is None


def arrays(folder: Path, count: int = 20) -> str:
    """Two labels of so many arrays each, 1 to `count` steps long."""
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            values = np.random.default_rng([number, ord(label)]).random((number + 1, 3))
            np.save(folder / label / f"{number}.npy", values)
    return str(folder)


@pytest.mark.parametrize("write", [arrays, tones])
def test_a_stream_has_the_parts_that_memory_has(tmp_path: Path, write: Callable[[Path], str]) -> None:
    data = str(write(tmp_path / "data"))
    streamed, held = load_signals(data, stream=True), load_signals(data)
    assert streamed.fingerprint() == held.fingerprint()
    assert (streamed.features, streamed.labels) == (held.features, held.labels)
    assert isinstance(streamed.train, StreamedSequences)
    assert isinstance(streamed.validation, LabelledSequences)
    pairs = zip(streamed.train.sequences, held.train.sequences, strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)


def test_windows_hold_the_training_part_once_in_an_order_of_their_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "WINDOW", 600)  # bytes: 50 steps of three numbers
    train = load_signals(arrays(tmp_path / "data"), stream=True).train
    assert isinstance(train, StreamedSequences)
    first, again, second = (list(train.windows(order)) for order in (1, 1, 2))
    assert [window.names for window in first] == [window.names for window in again]
    assert [window.names for window in first] != [window.names for window in second]
    assert len(first) > 4
    for windows in (first, second):
        assert sorted(name for window in windows for name in window.names) == sorted(train.names)
    for window in first[:-1]:
        assert sum(sequence.nbytes for sequence in window.sequences[:-1]) < 600
        assert sum(sequence.nbytes for sequence in window.sequences) >= 600
    for window in first:
        for sequence, label, name in zip(window.sequences, window.labels, window.names, strict=True):
            assert np.array_equal(sequence, read_npy(name))
            assert Path(name).parent.name == label


def test_a_stream_keeps_so_many_sequences_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "HELD_OUT", 4)
    splits = load_signals(arrays(tmp_path / "data", 60), stream=True)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (112, 4, 4)


@pytest.mark.parametrize("data", ["vowels", "x.npz", "missing"])
def test_what_cannot_be_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("x.npz", x=np.zeros((4, 2, 1)), labels=["a", "b"] * 2)
    with pytest.raises(InputError, match=f"{data} cannot be streamed: expected a folder with a folder of sounds or"):
        load_signals(data, stream=True)


def test_a_streamed_file_that_cannot_be_used(tmp_path: Path) -> None:
    data = arrays(tmp_path / "data")
    np.save(tmp_path / "data" / "b" / "1.npy", np.zeros((4, 2)))
    with pytest.raises(InputError, match=r"b.1\.npy has 2 features a step, and .*a.0\.npy has 3"):
        load_signals(data, stream=True)


def test_equal_sequences_stay_on_one_side(tmp_path: Path) -> None:
    rows = [np.full((2, 1), number % 12, dtype=np.float32) for number in range(96)]
    np.savez(tmp_path / "x.npz", x=rows, labels=["a", "b"] * 48)
    splits = load_signals(str(tmp_path / "x.npz"))
    sides = [set(part.keys) for part in (splits.train, splits.validation, splits.test)]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 12


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100])
def test_frames_is_what_the_features_have(rate: int) -> None:
    features = LogMel(rate, 20)
    for samples in (0, 1, rate // 40 - 1, rate // 40, rate // 40 + 1, rate // 7, rate // 3 + 1):
        assert features(np.zeros(samples, dtype=np.float32)).shape == (features.frames(samples), 20)


def test_features_follow_the_pitch_and_not_the_loudness(tmp_path: Path) -> None:
    features = LogMel(centred=False)
    low, high = (read_features(str(tone(tmp_path / f"{hz}.wav", hz)), features) for hz in (300, 3000))
    assert low.shape == (28, 40)
    assert low.mean(0).argmax() < high.mean(0).argmax()
    wave, _ = soundfile.read(tmp_path / "300.wav", dtype="float32")
    np.testing.assert_allclose(LogMel(centred=True)(wave), LogMel(centred=True)(wave / 2), rtol=0, atol=2e-2)


def test_rates_and_channels_are_brought_to_the_models(tmp_path: Path) -> None:
    features = LogMel(centred=False)
    plain = read_features(str(tone(tmp_path / "a.wav", 500)), features)
    for name, options in {"b": {"rate": 44_100}, "c": {"channels": 2}, "d": {"rate": 48_000, "channels": 3}}.items():
        other = read_features(str(tone(tmp_path / f"{name}.wav", 500, **options)), features)
        assert abs(len(other) - len(plain)) <= 1
        assert other.mean(0).argmax() == plain.mean(0).argmax()


def test_folders_of_sounds_are_heard_at_their_lowest_rate(tmp_path: Path) -> None:
    tones(tmp_path)
    tone(tmp_path / "low" / "slow.wav", 220, rate=8_000)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "low" / ".cache").touch()
    splits = load_signals(str(tmp_path), features=LogMel(num_bins=20))
    assert splits.features == LogMel(8_000, 20)
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 21
    assert splits.labels == ["high", "low"]


def write(path: Path, wave: Any, rate: int = 16_000) -> None:
    soundfile.write(path, np.asarray(wave, dtype=np.float32), rate, subtype="FLOAT")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_text("no sound"), "cannot be read as a sound"),
        (lambda path: path.write_bytes(b""), "cannot be read as a sound"),
        (lambda path: write(path, []), "holds no samples"),
        (lambda path: write(path, [0.1] * 100), "is 6.2 ms long, and a frame is 25.0 ms"),
        (lambda path: write(path, [np.nan] * 1000), "samples that are no finite numbers"),
        (lambda path: write(path, [0.1] * 8000, 8_000), "has 8000 samples a second, and 16000 or more are expected"),
        (lambda path: None, "there is no such file"),
    ],
)
def test_sounds_that_cannot_be_used(tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path / "bad.wav")
    with pytest.raises(InputError, match=message) as refused:
        read_features(str(tmp_path / "bad.wav"), LogMel())
    assert "bad.wav" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_cut_sound_in_a_folder_is_named(tmp_path: Path) -> None:
    tones(tmp_path)
    (tmp_path / "low" / "3.wav").write_bytes((tmp_path / "low" / "3.wav").read_bytes()[:20])
    with pytest.raises(InputError, match=r"low/3\.wav cannot be read as a sound"):
        load_signals(str(tmp_path))


@pytest.mark.parametrize(
    ("add", "message"),
    [
        ("low/notes.txt", r"notes\.txt is neither a sound file .* nor an array"),
        ("low/x.npy", r"x\.npy is no sound file, and .* is one"),
    ],
)
def test_folders_with_other_files(tmp_path: Path, add: str, message: str) -> None:
    tones(tmp_path)
    (tmp_path / add).touch()
    with pytest.raises(InputError, match=message):
        load_signals(str(tmp_path))


@pytest.mark.parametrize(("source", "message"), [("none", "is not there"), (__file__, "is not data"), (".", None)])
def test_sources_that_are_none(tmp_path: Path, source: str, message: str | None) -> None:
    if message is None:
        source, message = str(tmp_path), "must hold a folder for each label"
    with pytest.raises(InputError, match=message):
        load_signals(source)


def test_too_many_bins_for_the_rate(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="400 bins are too many at 16000 samples a second"):
        load_signals(str(tones(tmp_path)), features=LogMel(num_bins=400))


def test_a_test_file_with_other_features(tmp_path: Path) -> None:
    data = ts(tmp_path / "x.ts", "1:2:a\n2:3:b\n4:5:a\n6:7:b\n")
    with pytest.raises(InputError, match=r"y\.ts has 1 features a step, and .*x\.ts has 2"):
        load_signals(data, ts(tmp_path / "y.ts", "1:a\n"))


def test_take_and_fingerprint() -> None:
    rows = LabelledSequences([np.full((n, 1), n, dtype=np.float32) for n in (1, 2)], ["a", "b"], ["x", "y"])
    assert rows.take([1]).labels == ["b"]
    assert rows.take([1, 0]).fingerprint() != rows.fingerprint() == rows.take([0, 1]).fingerprint()
