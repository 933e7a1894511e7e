import gzip
import json
import logging
from pathlib import Path

import datasets
import huggingface_hub
import pandas as pd
import pytest

from fastgru.common.errors import InputError
from fastgru.data.hub import load_hub
from fastgru.data.table import read_labelled, read_texts
from fastgru.data.table_format import TableFormat

FRAME = pd.DataFrame({"body": ['one, "two"', "NA", "tr\u00e8s bon"], "folder": ["1", "0", "1"]})
WRITERS = {
    ".csv": lambda path: FRAME.to_csv(path, index=False),
    ".tsv": lambda path: FRAME.to_csv(path, index=False, sep="\t"),
    ".csv.gz": lambda path: FRAME.to_csv(path, index=False),
    ".jsonl": lambda path: FRAME.to_json(path, orient="records", lines=True),
    ".jsonl.gz": lambda path: FRAME.to_json(path, orient="records", lines=True),
    ".JSON": lambda path: FRAME.to_json(path, orient="records"),
    "-columns.json": lambda path: FRAME.to_json(path),
    "-lists.json": lambda path: path.write_text(json.dumps(FRAME.to_dict("list"))),
    "-lines.json": lambda path: FRAME.to_json(path, orient="records", lines=True),
    ".parquet": lambda path: FRAME.to_parquet(path),
}


@pytest.mark.parametrize("suffix", WRITERS)
def test_read_labelled_of_every_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mail{suffix}"
    WRITERS[suffix](path)
    rows = read_labelled(str(path), "body", "folder")
    assert rows.texts == list(FRAME["body"])
    assert rows.labels == ["1", "0", "1"]
    assert rows.soft_labels is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "body,folder\nhello,1\n", "there is no column 'text'; the columns are: 'body', 'folder'"),
        ("a.csv", "text,label\n", "there are no rows"),
        ("a.csv", "", "the file is empty"),
        ("a.parquet", "", "the file is empty"),
        ("a.csv", "text,label\nx,1\n ,0\n", "1 of 2 rows have an empty text (the first is row 2)"),
        ("a.csv", "text,label\nx,\n", "1 of 1 rows have an empty label"),
        ("a.jsonl", '{"text": "x", "label": 1}\n{"text": null, "label": 1}\n', "1 of 2 rows have an empty text"),
        ("a.jsonl", "{not json", "cannot be read"),
        ("a.jsonl", "[1, 2]", "every line has to be a JSON object"),
        ("a.parquet", "not parquet", "cannot be read"),
        ("a.csv", 'text,label\n"open,1\n', "cannot be read"),
        ("a.csv", "text,label\nwell, a good film,1\n", "line 2 has 3 fields and the header 2"),
        ("a.csv", "text,label,label\nx,1,2\n", "the column 'label' is there twice"),
        ("a.jsonl", '{"text": "x", "label": 1}\n{not json', "line 2 is no JSON"),
        ("a.jsonl", '{"text": ["x"], "label": 1}', "row 1: expected a text or a number, got list"),
        ("a.jsonl", '{"text": "\\ud83d", "label": 1}', "row 1 holds a text that no encoding can hold"),
        ("a.json", "[1]", "row 1: every element of the list has to be an object"),
        ("a.json", "3", "expected a list of objects, or an object of columns"),
        ("a.json", '{"text": ["x"], "label": ["a", "b"]}', "have to be lists of one length"),
        ("a.json", '{"text": "x", "label": "a"}\n{', "line 2 is no JSON"),
        ("a.json", "{not", "cannot be read"),
        ("a.csv.gz", "text,label", "cannot be unpacked"),
        ("a.parquet.gz", "x", "unpack it; Parquet is packed in itself"),
        ("a.csv", "text;label\nwell; a good film;1\n", "line 2 has 3 fields and the header 2"),
        ("a.xlsx", "text", "a data file ends in one of .csv, .tsv, .json, .jsonl, .parquet, or these and .gz"),
    ],
)
def test_read_labelled_of_a_bad_file(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        read_labelled(str(path), "text", "label")
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_read_labelled_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(InputError, match=r"a\.csv is a folder"):
        read_labelled(str(tmp_path / "a.csv"), "text", "label")


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_read_labelled_past_a_byte_order_mark(tmp_path: Path, name: str) -> None:
    content = 'text,label\n"two\nlines, one text", a \n' if name == "a.csv" else '{"text": "x", "label": 1.0}'
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content.encode())
    rows = read_labelled(str(tmp_path / name), "text", "label")
    assert (rows.texts, rows.labels) == ((["two\nlines, one text"], ["a"]) if name == "a.csv" else (["x"], ["1"]))


def test_read_labelled_of_a_missing_file() -> None:
    with pytest.raises(InputError, match=r"nowhere\.csv: there is no such file"):
        read_labelled("nowhere.csv", "text", "label")


def test_read_labelled_of_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes("text,label\ntr\u00e8s bon,1\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.csv is not UTF-8 \(byte 13\): save it as UTF-8"):
        read_labelled(str(path), "text", "label")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("text;label\ngood, very good;1\nno;0\n", "separated by semicolons"),
        ("text\tlabel\na, b; c\t1\n", "separated by tabs"),
        ("text|label\nx|1\n", "separated by bars"),
        ('text,label\n"a;b",1\nc;d,0\n', ""),
        ("text;label;from\nwell, yes;1;a, b\n", "separated by semicolons"),
    ],
)
def test_a_separator_is_recognised(tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str, told: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    with caplog.at_level(logging.INFO, "fastgru"):
        rows = read_labelled(str(tmp_path / "a.csv"), "text", "label")
    assert rows.labels[0] == "1"
    assert told in caplog.text
    assert bool(told) == bool(caplog.text)


def test_a_separator_an_encoding_and_no_header_are_taken_as_told(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("tr\u00e8s bon, oui:1\nnon:0\n".encode("latin-1"))
    table = TableFormat(separator=":", encoding="latin-1", header=False)
    rows = read_labelled(str(path), "1", "2", table)
    assert (rows.texts, rows.labels) == (["tr\u00e8s bon, oui", "non"], ["1", "0"])
    assert read_texts(str(path), "1", table) == rows.texts
    with pytest.raises(InputError, match="there is no column 'text'; the columns are: '1', '2'"):
        read_labelled(str(path), "text", "2", table)
    path.write_text("a:1\nb\n")
    with pytest.raises(InputError, match="line 2 has 1 fields and the first 2"):
        read_labelled(str(path), "1", "2", table)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_the_mark_of_an_encoding_is_enough(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_bytes(gzip.compress("text\tlabel\n\u8d26\u5355\t1\n".encode(encoding)))
    (tmp_path / "a.csv").rename(tmp_path / "a.csv.gz")
    assert read_labelled(str(tmp_path / "a.csv.gz"), "text", "label").texts == ["\u8d26\u5355"]


@pytest.mark.parametrize("separator", ["", ",,", "\n", '"', "tabs"])
def test_table_format_refuses_a_separator(separator: str) -> None:
    with pytest.raises(InputError, match="--separator takes one character, or 'tab'"):
        TableFormat(separator=separator)


def test_table_format_takes_tab_by_its_name_and_refuses_an_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text, or not\tlabel\nx\t1\n")
    assert read_labelled(str(tmp_path / "a.csv"), "text, or not", "label", TableFormat("tab")).texts == ["x"]
    with pytest.raises(InputError, match="--encoding klingon: Python knows no such encoding"):
        TableFormat(encoding="klingon")


def test_blank_rows_are_left_out_where_that_is_asked_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n ,a\nx,b\ny, \n,\n")
    with caplog.at_level(logging.INFO, "fastgru"):
        rows = read_labelled(str(path), "text", "label", TableFormat(skip_blank=True))
    assert (rows.texts, rows.labels) == (["x"], ["b"])
    assert "a.csv: left out 3 of 4 rows, which are blank" in caplog.text
    assert read_texts(str(path), "text", TableFormat(skip_blank=True)) == ["x", "y"]
    path.write_text("text,label\n,\n")
    with pytest.raises(InputError, match="there are no rows in it"):
        read_labelled(str(path), "text", "label", TableFormat(skip_blank=True))


def test_a_header_that_is_repeated_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\nx,a\ntext,label\ntext,b\ny,label\n")
    with caplog.at_level(logging.INFO, "fastgru"):
        rows = read_labelled(str(path), "text", "label")
    assert list(zip(rows.texts, rows.labels, strict=True)) == [("x", "a"), ("text", "b"), ("y", "label")]
    assert "a.csv: left out what repeats the header: 1 of 4 rows, the first is row 2" in caplog.text


def test_read_texts_of_lines_and_of_a_table(tmp_path: Path) -> None:
    lines, table = tmp_path / "lines.txt", tmp_path / "table.csv"
    lines.write_text("one\n\ntwo\n")
    FRAME.to_csv(table, index=False)
    assert read_texts(str(lines), None) == ["one", "two"]
    assert read_texts(str(table), "body") == list(FRAME["body"])
    with pytest.raises(InputError, match="name its column of texts with --text"):
        read_texts(str(table), None)


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe\x00"])
def test_read_texts_of_a_bad_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"lines\.txt"):
        read_texts(str(path), None)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    train = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}, features=features)
    test = datasets.Dataset.from_dict({"text": ["c"], "label": [1]}, features=features)
    folder = str(tmp_path_factory.mktemp("saved") / "set")
    datasets.DatasetDict({"train": train, "test": test}).save_to_disk(folder)
    return folder


def test_load_hub_of_a_saved_dataset_names_its_classes(saved: str) -> None:
    parts = load_hub(saved, "text", "label")
    assert list(parts) == ["train", "test"]
    assert parts["train"].labels == ["no", "yes"]
    assert parts["test"].texts == ["c"]


def test_load_hub_of_a_folder_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "mail"
    folder.mkdir()
    (folder / "train.csv").write_text("body,folder\none,1\ntwo,0\n")
    assert load_hub(str(folder), "body", "folder")["train"].labels == ["1", "0"]


def test_load_hub_of_a_missing_column(saved: str) -> None:
    with pytest.raises(InputError, match="there is no column 'body'; the columns are: text, label"):
        load_hub(saved, "body", "label")


def test_load_hub_leaves_blank_rows_out_where_that_is_asked_for(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_dict({"text": ["a", " "], "label": ["x", "y"]})
    datasets.DatasetDict({"train": rows}).save_to_disk(tmp_path / "set")
    assert load_hub(str(tmp_path / "set"), "text", "label", skip_blank=True)["train"].labels == ["x"]


def test_a_name_that_the_hub_does_not_know_is_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def dataset_info(self: object, name: str, *, timeout: float) -> None:
        asked.append(name)
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets, "load_dataset", lambda name, **_: asked.append(f"loaded {name}") or {})
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"nosuchset is neither a file nor a dataset .*: the Hub says: Name or"):
        load_hub("nosuchset", "text", "label")
    assert asked == ["nosuchset"]
    (tmp_path / "some___set").mkdir()
    with pytest.raises(InputError, match="there is no part 'train'"):
        load_hub("some/set", "text", "label")
    assert asked == ["nosuchset", "loaded some/set"]


def test_load_hub_of_a_name_that_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is neither a file nor a dataset that can be loaded"):
        load_hub(str(tmp_path / "nothing"), "text", "label")
