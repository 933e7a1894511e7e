"""Parquet in, Parquet out: by this process, and by a Ray cluster of two nodes whose workers are killed."""

import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from fastgru.common.errors import InputError
from fastgru.data.parquet import cut
from fastgru.data.tokenizer import train_tokenizer
from fastgru.models import TextClassifier, TextClassifierConfig
from fastgru.predict import predict_parquet
from fastgru.predict.engines import _Actor
from fastgru.predict.worker import Job, Shard, Worker
from fastgru.training.classify import ClassifyPredictOptions

ROWS, SHARD_ROWS = 240, 20
BY_TEXT = ClassifyPredictOptions(text="text")
PREDICT = """
import sys
from pathlib import Path
from fastgru.predict import predict_parquet
from fastgru.training.classify import ClassifyPredictOptions
model, table, out, engine, rows = sys.argv[1:]
by_text = ClassifyPredictOptions(text="text")
predict_parquet(model, table, Path(out), "text", by_text, engine=engine, shard_rows=int(rows))
"""


def start(
    model: str, table: str, out: Path, engine: str, *, shard_rows: int, **variables: str
) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PREDICT, model, table, str(out), engine, str(shard_rows)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env={**os.environ, **variables}, **pipes)


def texts(count: int) -> list[str]:
    return [f"{'the film is a ' * (row % 5)}story {row}" for row in range(count)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    tokenizer = train_tokenizer(texts(50))
    config = TextClassifierConfig(["bad", "good"], tokenizer.get_vocab_size(), embedding_size=8, hidden_size=6)
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    TextClassifier(config, tokenizer).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of two files, whose row groups and our shards end at different rows."""
    folder = tmp_path_factory.mktemp("table")
    whole = pa.table({"id": range(ROWS), "text": texts(ROWS), "label": ["?"] * ROWS, "tags": [["a", None]] * ROWS})
    pq.write_table(whole.slice(0, 150), folder / "1.parquet", row_group_size=33)
    pq.write_table(whole.slice(150), folder / "2.parquet", row_group_size=33)
    return str(folder)


def assert_complete(out: Path, table: str, model: str) -> None:
    """Every row of the input is there once, in order, with its own prediction; and nothing is left beside."""
    given, found = pq.read_table(table), pq.read_table(out)
    assert found.select(given.schema.names).equals(given)
    expected = TextClassifier.from_pretrained(model).predict(given["text"].to_pylist())
    assert found["predicted_label"].to_pylist() == [prediction.label for prediction in expected]
    for row, prediction in zip(found["predicted_probabilities"].to_pylist(), expected, strict=True):
        assert row == pytest.approx(prediction.probabilities, abs=1e-6)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_predict_keeps_rows_columns_and_order(model: str, table: str, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    out = tmp_path / "out"
    rows = predict_parquet(
        model, table, out, "text", BY_TEXT, shard_rows=SHARD_ROWS, progress=lambda *done: seen.append(done)
    )
    assert rows == ROWS
    assert seen[0] == (0, ROWS)
    assert seen[-1] == (ROWS, ROWS)
    assert len(list(out.glob("part-*.parquet"))) == 8 + 5  # 150 and 90 rows
    assert_complete(out, table, model)


def test_killed_prediction_goes_on_with_the_shards_it_has(model: str, table: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    staging = tmp_path / ".out.partial"
    process = start(model, table, out, "plain", shard_rows=3)
    while not list(staging.glob("part-*.parquet")):
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    process.communicate()
    (staging / ".part-000079.parquet.0123").write_bytes(b"half a shard")
    before = {path.name: path.stat().st_mtime_ns for path in staging.glob("part-*.parquet")}
    assert not out.exists()
    assert 0 < len(before) < ROWS / 3
    predict_parquet(model, table, out, "text", BY_TEXT, shard_rows=3)
    assert before.items() <= {path.name: path.stat().st_mtime_ns for path in out.iterdir()}.items()
    assert_complete(out, table, model)


def test_shards_of_another_prediction_are_not_taken(model: str, table: str, tmp_path: Path) -> None:
    out, staging = tmp_path / "out", tmp_path / ".out.partial"
    staging.mkdir()
    (staging / "_fastgru.json").write_text("{}")
    (staging / "part-000000.parquet").write_bytes(b"another's")
    predict_parquet(model, table, out, "text", BY_TEXT, shard_rows=SHARD_ROWS)
    assert_complete(out, table, model)


def test_a_row_without_text_is_named_and_nothing_is_left(model: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a film"] * 30 + [None]}), tmp_path / "in.parquet", row_group_size=4)
    with pytest.raises(InputError, match=r"in\.parquet, row 31: column 'text' is empty \(null\)"):
        predict_parquet(model, str(tmp_path / "in.parquet"), tmp_path / "out", "text", BY_TEXT, shard_rows=SHARD_ROWS)
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"body": ["x"]}, "there is no column 'text'; the columns are: 'body'"),
        ({"text": pa.array([], pa.string())}, "there are no rows in it"),
        ({"text": [1]}, "rows 1 to 1: text 1 is not valid text: 1"),
        ({"text": ["x"], "predicted_label": ["y"]}, "has a column 'predicted_label' already: choose another --prefix"),
    ],
)
def test_bad_tables_are_refused(model: str, tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    with pytest.raises(InputError, match=message):
        predict_parquet(model, str(tmp_path / "in.parquet"), tmp_path / "out", "text", BY_TEXT)
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]


def test_output_that_is_there_is_left_alone(model: str, table: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="out is there already: name another --out"):
        predict_parquet(model, table, tmp_path / "out", "text", BY_TEXT)


def test_the_datasets_library_reads_what_it_wrote(model: str, tmp_path: Path) -> None:
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["a", "b"])})
    datasets.Dataset.from_dict({"text": ["x"], "label": [1]}, features).to_parquet(tmp_path / "in.parquet")
    predict_parquet(model, str(tmp_path / "in.parquet"), tmp_path / "out", "text", BY_TEXT)
    files = [str(path) for path in (tmp_path / "out").glob("part-*")]
    (row,) = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))["train"]
    assert row["predicted_label"] in ("bad", "good")


def test_two_workers_with_one_shard_leave_its_rows_once(
    model: str, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Worker.write
    monkeypatch.setattr(Worker, "write", lambda *given: [write(*given) for _ in range(2)])
    predict_parquet(model, table, tmp_path / "out", "text", BY_TEXT, shard_rows=SHARD_ROWS)
    assert_complete(tmp_path / "out", table, model)


def test_an_actor_gives_bad_input_back_in_words(model: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a film", None]}), tmp_path / "in.parquet")
    shard = Shard(0, cut([str(tmp_path / "in.parquet")], 5)[0])
    actor = _Actor(Job((model,), "text", BY_TEXT, "", str(tmp_path / "out")), pa.schema([]), [shard])
    assert actor({"item": 0}) == {"item": 0, "refused": f"{tmp_path}/in.parquet, row 2: column 'text' is empty (null)"}
    assert not list((tmp_path / "out").iterdir())


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes with a CPU each."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        from ray.cluster_utils import Cluster

        node = {"num_cpus": 1, "object_store_memory": 80_000_000}
        fair = {"worker_niceness": 0}  # Ray's own is 15: beside other work on the machine its workers starve
        head = {**node, "include_dashboard": False, "_system_config": fair}
        nodes = Cluster(initialize_head=True, head_node_args=head)
        nodes.add_node(**node)
        yield nodes
        nodes.shutdown()


def workers_of(cluster: Any) -> list[psutil.Process]:
    raylets = [psutil.Process(node.all_processes["raylet"][0].process.pid) for node in cluster.list_all_nodes()]
    assert len(raylets) == 2
    found = [child for raylet in raylets for child in raylet.children(recursive=True)]
    return [process for process in found if "_Actor" in " ".join(process.cmdline())]


def test_ray_loses_and_doubles_no_row_when_a_worker_is_killed(
    cluster: Any, model: str, table: str, tmp_path: Path
) -> None:
    out, staging = tmp_path / "out", tmp_path / ".out.partial"
    process = start(model, table, out, "ray", shard_rows=2, RAY_ADDRESS=cluster.address)
    while not list(staging.glob("part-*.parquet")):
        assert process.poll() is None
        time.sleep(0.005)
    for worker in (victims := workers_of(cluster)):
        worker.kill()
    written = len(list(staging.glob("part-*.parquet")))
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert victims
    assert 0 < written < ROWS / 2
    assert_complete(out, table, model)
