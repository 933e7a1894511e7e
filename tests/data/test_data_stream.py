"""Training data that does not fit into memory: what a stream holds, and a training on it."""

import math
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from task_data import write_pairs
from torch import Tensor
from typer.testing import CliRunner

from fastgru.cli import app
from fastgru.common.errors import InputError
from fastgru.data import hub, stream
from fastgru.data.labelled import LabelledTexts
from fastgru.data.pairs import load_pairs
from fastgru.data.split import normalise
from fastgru.data.stream import StreamedTexts, TextSplits, stream_splits
from fastgru.data.table_format import TableFormat
from fastgru.data.texts import load_splits
from fastgru.models import TextClassifier
from fastgru.training.batches import MicroBatch
from fastgru.training.classify.module import ClassifyModule

ROWS = 1_000


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows and chunks that a thousand rows fill many times over."""
    monkeypatch.setattr(stream, "CHUNK", 16)
    monkeypatch.setattr(stream, "WINDOW", 100)
    monkeypatch.setattr(hub, "CHUNK", 16)
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)  # 5 s an epoch


def rows_of(count: int = ROWS) -> list[tuple[str, str]]:
    """Rows sorted by label, as data often lies: only shuffling mixes them."""
    return [(f"text {number}", "even" if number < count // 2 else "odd") for number in range(count)]


def write_shards(folder: Path, rows: list[tuple[str, str]], shards: int = 3) -> str:
    folder.mkdir()
    for shard in range(shards):
        texts, labels = zip(*rows[shard * len(rows) // shards : (shard + 1) * len(rows) // shards], strict=True)
        pq.write_table(pa.table({"text": texts, "label": labels}), folder / f"{shard}.parquet", row_group_size=50)
    return str(folder / "*.parquet")


def write_dataset(folder: Path, rows: list[tuple[str, str]]) -> str:
    texts, labels = zip(*rows, strict=True)
    data = datasets.Dataset.from_dict({"text": texts, "label": labels})
    datasets.DatasetDict({"train": data}).save_to_disk(folder)
    return str(folder)


def write_hub_folder(folder: Path, rows: list[tuple[str, str]]) -> str:
    write_shards(folder, rows)
    for shard in sorted(folder.iterdir()):
        shard.rename(folder / f"train-0000{shard.stem}-of-00003.parquet")
    return str(folder)


WRITERS = {"Parquet": write_shards, "saved dataset": write_dataset, "folder of a dataset": write_hub_folder}


@pytest.fixture(params=WRITERS)
def splits(request: pytest.FixtureRequest, tmp_path: Path) -> TextSplits:
    data = WRITERS[request.param](tmp_path / "data", rows_of())
    return stream_splits(data, "text", "label", None)


def train_of(splits: TextSplits) -> StreamedTexts:
    assert isinstance(splits.train, StreamedTexts)
    return splits.train


def pairs(texts: LabelledTexts) -> list[tuple[str, str]]:
    return list(zip(texts.texts, texts.labels, strict=True))


def test_the_parts_hold_every_row_once(splits: TextSplits) -> None:
    train = list(zip(splits.train.texts, splits.train.labels, strict=True))
    assert sorted([*train, *pairs(splits.validation), *pairs(splits.test)]) == sorted(rows_of())
    assert len(splits.train) == len(train)
    assert 60 < len(splits.test) < 140
    assert 60 < len(splits.validation) < 140
    assert splits.labels == ["even", "odd"]
    assert train_of(splits).label_counts == Counter(label for _, label in train)


def test_windows_hold_the_training_part_once_in_an_order_of_their_number(splits: TextSplits) -> None:
    train = train_of(splits)
    first, again, second = ([pairs(window) for window in train.windows(order)] for order in (1, 1, 2))
    assert first == again
    assert first != second
    assert sorted(chain(*first)) == sorted(chain(*second)) == sorted(zip(train.texts, train.labels, strict=True))
    assert [len(window) for window in first[:-1]] == [100] * (len(first) - 1)


def test_windows_mix_what_lies_apart(tmp_path: Path) -> None:
    train = train_of(stream_splits(write_shards(tmp_path / "data", rows_of()), "text", "label", None))
    mixed = [len(set(window.labels)) == 2 for window in train.windows(0)]
    assert sum(mixed) > len(mixed) / 2


def test_the_parts_are_the_same_for_every_order_of_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "HELD_OUT", 40)
    rows = rows_of()
    shuffled = random.Random(0).sample(rows, len(rows))
    one, other = (
        stream_splits(write_shards(tmp_path / name, given), "text", "label", None)
        for name, given in (("one", rows), ("other", shuffled))
    )
    for part in ("validation", "test"):
        assert sorted(pairs(getattr(one, part))) == sorted(pairs(getattr(other, part)))
        assert 10 < len(getattr(one, part)) <= 40
    assert sorted(one.train.texts) == sorted(other.train.texts)
    assert len(one.train) == len(rows) - len(one.validation) - len(one.test)


def test_a_text_stays_on_one_side(tmp_path: Path) -> None:
    rows = [(text.upper() if copy else text, label) for text, label in rows_of() for copy in range(2)]
    splits = stream_splits(write_shards(tmp_path / "data", rows), "text", "label", None)
    sides = [set(map(normalise, part.texts)) for part in (splits.train, splits.validation, splits.test)]
    assert sum(map(len, sides)) == len(set.union(*sides)) == ROWS


def test_a_test_file_is_the_test_part_and_left_out_of_the_others(tmp_path: Path) -> None:
    test = tmp_path / "test.csv"
    test.write_text("text,label\nText  7,even\nnew,odd\n")
    splits = stream_splits(write_shards(tmp_path / "data", rows_of()), "text", "label", str(test))
    assert splits.test.texts == ["Text  7", "new"]
    assert len(splits.train) + len(splits.validation) == ROWS - 1
    assert "text 7" not in {*splits.train.texts, *splits.validation.texts}


def test_the_parts_of_a_dataset_are_kept(tmp_path: Path) -> None:
    folder = Path(write_hub_folder(tmp_path / "data", rows_of()))
    names = [("text 1", "even"), ("other", "odd")]
    write_shards(tmp_path / "test", names, 1)
    (tmp_path / "test" / "0.parquet").rename(folder / "test-00000-of-00001.parquet")
    splits = stream_splits(str(folder), "text", "label", None)
    assert pairs(splits.test) == names
    assert len(splits.train) + len(splits.validation) == ROWS - 1


def test_the_fingerprint_tells_a_change(tmp_path: Path) -> None:
    rows = rows_of()
    data = [write_shards(tmp_path / name, given) for name, given in (("a", rows), ("b", rows), ("c", rows[::-1]))]
    a, b, c = (stream_splits(one, "text", "label", None).fingerprint() for one in data)
    assert a == b != c


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("x.csv", b"text,label\n", "cannot be streamed: expected .parquet, a pattern .*, or a dataset"),
        ("x.parquet", b"PAR1", "cannot be read as Parquet"),
        ("none/*.parquet", None, "there is none"),
        ("nothing", None, "neither a file nor a dataset that can be loaded"),
    ],
)
def test_files_and_folders_that_cannot_be_streamed(
    tmp_path: Path, name: str, content: bytes | None, problem: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=problem):
        load_splits(str(tmp_path / name), "text", "label", stream=True)


def test_blank_rows_are_not_left_out_of_a_stream(tmp_path: Path) -> None:
    data = write_shards(tmp_path / "data", rows_of())
    with pytest.raises(InputError, match="--skip-blank goes with data in memory"):
        load_splits(data, "text", "label", stream=True, table=TableFormat(skip_blank=True))


@pytest.mark.parametrize("load", [load_splits, load_pairs])
@pytest.mark.parametrize("data", ["reviews", "pronunciations"])
def test_built_in_data_is_not_looked_for_on_the_hub(load: Callable[..., TextSplits], data: str) -> None:
    with pytest.raises(InputError, match=f"^{data} cannot be streamed"):
        load(data, "text", "label", stream=True)


@pytest.mark.parametrize(
    ("column", "problem"), [("body", "there is no column 'body'"), ("empty", "have an empty text")]
)
def test_bad_columns(tmp_path: Path, column: str, problem: str) -> None:
    table = {"text": ["a", "b"], "label": ["x", "y"], "empty": ["a", ""]}
    pq.write_table(pa.table(table), tmp_path / "x.parquet")
    datasets.DatasetDict({"train": datasets.Dataset.from_dict(table)}).save_to_disk(tmp_path / "saved")
    for data in ("x.parquet", "saved"):
        with pytest.raises(InputError, match=problem):
            load_splits(str(tmp_path / data), column, "label", stream=True)


def test_a_shard_that_breaks_in_the_middle(tmp_path: Path) -> None:
    data = write_shards(tmp_path / "data", rows_of())
    train = train_of(stream_splits(data, "text", "label", None))
    shard = tmp_path / "data" / "1.parquet"
    content = bytearray(shard.read_bytes())
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    shard.write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"1\.parquet cannot be read"):
        list(train.windows(0))


def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    """200 MB of text go twice through windows of 16,384 rows (16 MB) in a process of their own."""
    words = random.Random(0).choices([f"word{number}" for number in range(5_000)], k=4_000)
    shards = tmp_path / "shards"
    shards.mkdir()
    bodies = [" ".join(words[first : first + 110]) for first in range(3_900)]
    for shard in range(8):
        texts = [f"{shard} {row} {bodies[row % 3_900]}" for row in range(25_000)]
        labels = ["a" if row % 2 else "b" for row in range(25_000)]
        pq.write_table(pa.table({"text": texts, "label": labels}), shards / f"{shard}.parquet")
    code = f"""
from pathlib import Path
from fastgru.data.stream import stream_splits
# not ru_maxrss: that of a child begins with its parent's
peak = lambda: int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024
splits = stream_splits({str(shards / "*.parquet")!r}, "text", "label", None)
peaks = [peak()]
rows = size = 0
for epoch in range(2):
    for window in splits.train.windows(epoch):
        rows += len(window)
        size += sum(map(len, window.texts))
        peaks.append(peak())
print(rows, size // 2**20, len(splits.test), *peaks)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rows, megabytes, tested, *peaks = map(int, done.stdout.split())
    assert rows > 2 * 160_000
    assert megabytes > 2 * 140
    assert tested <= 16_384
    assert len(peaks) == 1 + 2 * math.ceil(rows / 2 / 16_384)
    assert peaks[-1] - peaks[0] < 120  # in all; one pass alone is over 140 MB
    assert peaks[-1] - peaks[4] < 32  # kept, the other twenty windows would be ten times that


def test_training_on_a_stream_and_over_it(tmp_path: Path) -> None:
    words = [("warm" if number % 2 else "dull", number) for number in range(400)]
    rows = [(f"the {word} film {number % 7} {number}", "good" if word == "warm" else "bad") for word, number in words]
    data = write_shards(tmp_path / "data", rows)
    out = tmp_path / "run"
    command = ["train", "classify", "--data", data, "--stream", "--out", str(out), "--epochs", "3", "--lr", "0.03"]
    command += ["--embedding-size", "8", "--hidden-size", "8", "--class-weights", "balanced"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert CliRunner().invoke(app, ["evaluate", str(out), "--json"]).exit_code == 0
    whole = (out / "model.safetensors").read_bytes()
    again = CliRunner().invoke(app, [*command, "--overwrite", "--checkpoint-every", "4", "--seed", "1"])
    assert again.exit_code == 0, again.output
    assert (out / "model.safetensors").read_bytes() != whole


def test_training_that_stopped_inside_an_epoch_goes_on_with_the_same_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_shards(tmp_path / "data", rows_of(400))
    command = ["train", "classify", "--data", data, "--stream", "--epochs", "3", "--checkpoint-every", "2"]
    command += ["--embedding-size", "8", "--hidden-size", "8", "--batch-size", "32", "--out"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert CliRunner().invoke(app, [*command, str(whole)]).exit_code == 0
    step = ClassifyModule.training_step

    def broken(module: ClassifyModule[TextClassifier], micro_batch: MicroBatch, batch_index: int) -> Tensor:
        if module.global_step == 19:  # of 12 in an epoch, with windows of 100 rows
            raise InputError("stopped here")
        return step(module, micro_batch, batch_index)

    with monkeypatch.context() as patch:
        patch.setattr(ClassifyModule, "training_step", broken)
        assert "stopped here" in CliRunner().invoke(app, [*command, str(stopped)]).stderr
    done = CliRunner().invoke(app, ["train", "classify", "--resume", "--out", str(stopped)])
    assert done.exit_code == 0, done.output
    assert (stopped / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_translating_on_a_stream(tmp_path: Path) -> None:
    table = Path(write_pairs(tmp_path / "pairs.csv", 300)).read_text().splitlines()[1:]
    sources, targets = zip(*(line.split(",") for line in table), strict=True)
    pq.write_table(pa.table({"source": sources, "target": targets}), tmp_path / "pairs.parquet")
    command = ["train", "translate", "--data", str(tmp_path / "pairs.parquet"), "--stream", "--out"]
    command += [str(tmp_path / "run"), "--epochs", "1", "--encoder-size", "8", "--decoder-size", "8"]
    done = CliRunner().invoke(app, [*command, "--embedding-size", "8", "--target-tokens", "characters"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "run" / "model.safetensors").is_file()
