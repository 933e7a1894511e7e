"""What `fastgru evaluate` writes and prints beside the confusion."""

import csv
import json
from pathlib import Path

import pytest
from task_data import write_pairs, write_reviews, write_signals
from test_cli_tasks import assert_one_line, data, run, trained

__all__ = ["data", "trained"]  # fixtures


def test_evaluate_prints_all_of_it_as_json(trained: Path, tmp_path: Path) -> None:
    other = write_reviews(tmp_path / "other.csv", count=30, seed=5)
    found = json.loads(run("evaluate", trained, "--data", other, "--json").stdout)
    assert {"accuracy", "f1_macro", "log_loss", "calibration_error", "roc_auc", "confusion", "reliability"} < set(found)
    assert [(one["label"], one["support"]) for one in found["scores"]] == [("bad", 15), ("good", 15)]
    assert sum(one["count"] for one in found["reliability"]) == 30
    assert "errors" not in found


def test_evaluate_writes_what_was_wrong_and_what_probabilities_are_worth(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("text,label\nan awful film,good\na lovely film,good\n")
    files = ["--errors", tmp_path / "wrong.csv", "--reliability", tmp_path / "reliability.png"]
    done = run("evaluate", trained, "--data", tmp_path / "other.csv", *files)
    assert done.exit_code == 0, done.output
    with (tmp_path / "wrong.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["input"], row["truth"], row["answer"]) == ("an awful film", "good", "bad")
    assert 0.5 < float(row["probability"]) < 1
    assert (tmp_path / "reliability.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("option", "name", "message"),
    [
        ("--errors", "wrong.xlsx", "the file's name ends in one of .csv, .tsv, .jsonl"),
        ("--errors", "none/wrong.csv", "name a file in a folder that can"),
        ("--reliability", "picture.doc", "an image's name ends in one of"),
    ],
)
def test_evaluate_refuses_files_before_it_measures(
    trained: Path, tmp_path: Path, option: str, name: str, message: str
) -> None:
    assert_one_line(run("evaluate", trained, option, tmp_path / name), message)


def test_evaluate_of_other_tasks_writes_what_was_wrong(tmp_path: Path) -> None:
    small = ["--epochs", 1, "--batch-size", 32]
    for task, source, sizes in (
        ("signals", write_signals(tmp_path / "a.npz"), ["--hidden-size", 3]),
        ("translate", write_pairs(tmp_path / "a.csv"), ["--encoder-size", 4, "--decoder-size", 4]),
    ):
        out, errors = tmp_path / task, tmp_path / f"{task}.jsonl"
        done = run("train", task, "--data", source, "--out", out, *small, *sizes)
        assert done.exit_code == 0, done.output
        found = json.loads(run("evaluate", out, "--json", "--errors", errors).stdout)
        rows = [json.loads(line) for line in errors.read_text().splitlines()]
        wrong = (
            found["sources"] * found["sequence_error"]
            if task == "translate"
            else (1 - found["accuracy"]) * found["count"]
        )
        assert len(rows) == round(wrong)
        assert all(0 <= row["probability"] <= 1 and row["truth"] != row["answer"] for row in rows)
    refused = run("evaluate", tmp_path / "translate", "--reliability", tmp_path / "r.png")
    assert_one_line(refused, "a model of translate has no labels to be sure of: leave --reliability out")
