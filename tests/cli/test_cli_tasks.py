import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from task_data import write_reviews
from typer.testing import CliRunner, Result

import fastgru
from fastgru.cli import app

SMALL = [
    f"--{name}" for name in ("epochs=8", "patience=8", "batch-size=16", "lr=0.03", "embedding-size=8", "hidden-size=6")
]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def assert_one_line(result: Result, message: str) -> None:
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert message in result.stderr
    assert result.stderr.startswith("fastgru: ")
    assert result.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_reviews(tmp_path_factory.mktemp("data") / "reviews.csv")


@pytest.fixture(scope="module")
def trained(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    result = run("train", "classify", "--data", data, "--out", out, *SMALL)
    assert result.exit_code == 0, result.output
    assert f"the model is in {out}" in result.stdout
    assert result.stderr.count("validation loss") == 8
    return out


def copy_of(folder: Path, target: Path) -> Path:
    target.mkdir()
    for file in folder.iterdir():
        if file.is_file():
            (target / file.name).write_bytes(file.read_bytes())
    return target


def test_evaluate_shows_accuracy_and_who_was_taken_for_whom(trained: Path) -> None:
    shown = run("evaluate", trained)
    assert shown.exit_code == 0
    assert "12 texts" in shown.stdout
    assert "called good" in shown.stdout
    measures = json.loads(run("evaluate", trained, "--json").stdout)
    assert f"accuracy {measures['accuracy']:.4f}" in shown.stdout
    assert measures["labels"] == ["bad", "good"]
    assert sum(map(sum, measures["confusion"])) == measures["count"] == 12


def test_evaluate_on_another_file(trained: Path, tmp_path: Path) -> None:
    other = write_reviews(tmp_path / "other.csv", count=30, seed=5)
    assert json.loads(run("evaluate", trained, "--data", other, "--json").stdout)["count"] == 30


def test_predict_of_arguments(trained: Path) -> None:
    result = run("predict", trained, "a lovely film", "the story is awful", "")
    assert result.exit_code == 0
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert [line[0] for line in lines[:2]] == ["good", "bad"]
    assert [line[2] for line in lines] == ["a lovely film", "the story is awful", ""]


def test_predict_of_a_file_as_json(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("a lovely film\nun film tr\u00e8s dull\n")
    result = run("predict", trained, "--file", tmp_path / "texts.txt", "--json")
    said = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["text"] for row in said] == ["a lovely film", "un film tr\u00e8s dull"]
    assert all(sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-6) for row in said)


@pytest.mark.parametrize("given", [["-"], ["--file", "-"]], ids=" ".join)
def test_predict_of_standard_input(trained: Path, given: list[str]) -> None:
    texts = "a lovely film\n\nun film tr\u00e8s dull\n"
    result = CliRunner().invoke(app, ["predict", str(trained), *given], input=texts)
    assert [line.split("\t")[2] for line in result.stdout.splitlines()] == ["a lovely film", "un film tr\u00e8s dull"]
    bad = CliRunner().invoke(app, ["predict", str(trained), *given], input="tr\u00e8s bon".encode("latin-1"))
    assert_one_line(bad, "standard input is not UTF-8 (byte 2)")


def test_the_version() -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"fastgru {fastgru.__version__}\n")


def test_a_run_remembers_where_its_data_is(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mail.csv").write_bytes(Path(data).read_bytes())
    monkeypatch.chdir(tmp_path)
    short = ["--epochs", "1", "--hidden-size", "3"]
    assert run("train", "classify", "--data", "mail.csv", "--out", "run", *short).exit_code == 0
    resumed = run("train", "classify", "--data", "mail.csv", "--out", "run", "--resume")
    assert resumed.exit_code == 0, resumed.output
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert json.loads(run("evaluate", "../run", "--json").stdout)["count"] == 12


def test_predict_of_a_table(trained: Path, data: str) -> None:
    result = run("predict", trained, "--file", data, "--text", "text")
    assert len(result.stdout.splitlines()) == 120


def test_predict_from_parquet_to_parquet(trained: Path, data: str, tmp_path: Path) -> None:
    frame = pd.read_csv(data)
    frame.to_parquet(tmp_path / "in.parquet")
    given = ("--file", tmp_path / "in.parquet", "--text", "text", "--out", tmp_path / "out")
    result = run("predict", trained, *given, "--prefix", "said_")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"120 rows are in {tmp_path / 'out'}\n"
    found = pd.read_parquet(tmp_path / "out")
    assert found[["text", "label"]].equals(frame)
    assert (found["said_label"] == frame["label"]).mean() > 0.9
    assert_one_line(run("predict", trained, *given), "out is there already")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "ray"], "--engine, --workers and --prefix go with --file (Parquet) and --out"),
        (["--file", "x.parquet", "--out", "o", "--text", "t", "--json"], "without --json"),
        (["--file", "x.parquet", "--out", "o", "--text", "t"], "expected a Parquet file, a folder or a pattern"),
        (
            ["--file", "x.parquet", "--out", "o", "--text", "t", "--engine", "dask"],
            "--engine must be one of plain, ray",
        ),
        (["--file", "x.parquet", "--out", "o"], "name the column of inputs with --text"),
    ],
)
def test_predict_from_parquet_with_bad_options(trained: Path, options: list[str], message: str) -> None:
    given = options if "--file" in options else [*options, "a text"]
    assert_one_line(run("predict", trained, *given), message)


def test_resume_of_a_finished_run_says_its_result_again(trained: Path) -> None:
    result = run("train", "classify", "--out", trained, "--resume", "--epochs", "8")
    assert result.exit_code == 0
    assert f"the model is in {trained}" in result.stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        ("text,label\n", "there are no rows in it"),
        ("body,label\nx,1\n", "there is no column 'text'; the columns are: 'body', 'label'"),
        ("text,label\nx,1\n,2\n", "1 of 2 rows have an empty text (the first is row 2)"),
        ("text,label\n" + "".join(f"x{n},1\n" for n in range(40)), "a classifier needs two labels or more"),
        ("text,label\nx,1\ny,2\n", "too few different texts"),
    ],
)
def test_train_on_bad_data(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "data.csv").write_text(content)
    result = run("train", "classify", "--data", tmp_path / "data.csv", "--out", tmp_path / "out")
    assert_one_line(result, message)
    assert not (tmp_path / "out").exists()


def test_train_on_a_missing_file(tmp_path: Path) -> None:
    assert_one_line(run("train", "classify", "--data", "none.csv", "--out", tmp_path / "o"), "there is no such file")


def test_train_on_a_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "data.docx").write_text("x")
    result = run("train", "classify", "--data", tmp_path / "data.docx", "--out", tmp_path / "out")
    assert_one_line(result, "a data file ends in one of .csv, .tsv, .json, .jsonl, .parquet")


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is a GPU")
def test_train_on_a_gpu_that_is_not_there(data: str, tmp_path: Path) -> None:
    result = run("train", "classify", "--data", data, "--accelerator", "gpu", "--out", tmp_path / "out")
    assert_one_line(result, "--accelerator gpu: torch sees no GPU here")
    assert not (tmp_path / "out").exists()


def test_tables_are_read_as_the_options_say(trained: Path, data: str, tmp_path: Path) -> None:
    table = tmp_path / "bare.csv"
    table.write_bytes(b"\n".join(line.replace(b",", b":") for line in Path(data).read_bytes().splitlines()[1:]))
    form = ["--separator", ":", "--encoding", "latin-1", "--no-header"]
    found = run("evaluate", trained, "--data", table, *form, "--text", "1", "--label", "2", "--json")
    assert json.loads(found.stdout)["count"] == 120
    assert len(run("predict", trained, "--file", table, *form, "--text", "1").stdout.splitlines()) == 120
    table.write_text("text,label\na fine film,good\n,bad\n")
    found = run("evaluate", trained, "--data", table, "--skip-blank", "--json")
    assert json.loads(found.stdout)["count"] == 1
    assert "left out 1 of 2 rows, which are blank" in found.stderr


@pytest.mark.parametrize(
    "command", [["train", "classify", "--out", "x"], ["train", "translate", "--out", "x"], ["evaluate"], ["predict"]]
)
def test_what_is_wrong_with_a_table_is_said_before_torch_is_imported(
    trained: Path, tmp_path: Path, command: list[str]
) -> None:
    (tmp_path / "a.csv").write_text("body,folder\nx,1\n")
    name, file = ([], "--data") if command[0] == "train" else ([str(trained)], "--data")
    file = "--file" if command[0] == "predict" else file
    extra = ["--text", "text"] if command[0] == "predict" else []
    code = (
        "import sys; from fastgru.__main__ import main; sys.argv[0] = 'fastgru'\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code, [m for m in ('torch', 'lightning', 'pandas') if m in sys.modules])"
    )
    given = [*command, *name, file, "a.csv", *extra]
    done = subprocess.run(
        [sys.executable, "-c", code, *given], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "2 []\n"
    assert "a.csv: there is no column" in done.stderr


def test_train_with_a_label_seen_only_in_the_test_file(data: str, tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("text,label\nsomething new,strange\n")
    result = run("train", "classify", "--data", data, "--test", tmp_path / "test.csv", "--out", tmp_path / "out")
    assert_one_line(result, "has labels that the training data has not: strange (known: bad, good)")


def test_train_into_a_folder_that_is_taken(trained: Path, data: str) -> None:
    assert_one_line(run("train", "classify", "--data", data, "--out", trained), "already holds a run")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "classify"], "Missing option '--out'. "),
        (["train", "classify", "--out", "x", "--epochs", "0"], "Invalid value for '--epochs': "),
        (["train", "clasify", "--out", "x"], "No such command 'clasify'. Did you mean 'classify'?"),
        (["predict", "x", "--colour", "red"], "No such option"),
    ],
)
def test_a_command_that_is_called_wrongly(arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert_one_line(result, message)
    assert result.stderr.endswith(" --help tells more\n")


def test_train_with_resume_and_overwrite(trained: Path) -> None:
    result = run("train", "classify", "--out", trained, "--resume", "--overwrite")
    assert_one_line(result, "give one of them")


def test_resume_with_other_options(trained: Path) -> None:
    result = run("train", "classify", "--out", trained, "--resume", "--seed", "7")
    assert_one_line(result, "the run has --seed 0: --resume goes on with a run's own options")


def test_resume_for_longer(trained: Path, tmp_path: Path) -> None:
    short = tmp_path / "run"
    shutil.copytree(trained, short)
    result = run("train", "classify", "--out", short, "--resume", "--epochs", "9")
    assert result.exit_code == 0, result.output
    assert re.findall(r"^epoch +(\d+/\d+)", result.stderr, re.MULTILINE) == ["9/9"]
    fewer = run("train", "classify", "--out", short, "--resume", "--epochs", "5")
    assert_one_line(fewer, "the run has --epochs 9: --resume goes on with a run's own options")


def test_resume_where_there_is_no_run(tmp_path: Path) -> None:
    assert_one_line(run("train", "classify", "--out", tmp_path, "--resume"), "there is no train.json in it")


def test_resume_from_an_unreadable_checkpoint(trained: Path, tmp_path: Path) -> None:
    broken = copy_of(trained, tmp_path / "run")
    (broken / "checkpoints").mkdir()
    (broken / "checkpoints" / "last.ckpt").write_text("no checkpoint")
    state = json.loads((broken / "train.json").read_text())
    (broken / "train.json").write_text(json.dumps({**state, "finished": False}))
    assert_one_line(run("train", "classify", "--out", broken, "--resume"), "is not a readable checkpoint")


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_a_run_that_is_not_there(command: str) -> None:
    for name in ("no-such-run", f"{Path(__file__).parent}/no-such-run", "a/b/c"):
        assert_one_line(run(command, name, *(["x"] if command == "predict" else [])), "there is no such folder")


def test_a_run_that_is_not_there_beside_others_is_not_looked_for_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    assert_one_line(run("evaluate", "runs/mial"), "runs/mial: there is no such folder")


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_run_with_an_unreadable_file(trained: Path, tmp_path: Path, file: str) -> None:
    broken = copy_of(trained, tmp_path / "run")
    (broken / file).write_text("\x00 nothing of ours")
    assert_one_line(run("predict", broken, "x"), "cannot be loaded as a TextClassifier")
    (broken / file).unlink()
    assert_one_line(run("predict", broken, "x"), f"there is no {file} in it")


def test_evaluate_of_a_model_without_its_run(trained: Path, tmp_path: Path) -> None:
    alone = copy_of(trained, tmp_path / "model")
    (alone / "train.json").unlink()
    assert_one_line(run("evaluate", alone), "there is no train.json in it")


def test_evaluate_on_a_label_that_the_model_does_not_know(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("text,label\na film,strange\n")
    result = run("evaluate", trained, "--data", tmp_path / "other.csv")
    assert_one_line(result, "other.csv has labels that the training data has not: strange")


def test_evaluate_on_a_missing_column(trained: Path, data: str) -> None:
    assert_one_line(run("evaluate", trained, "--data", data, "--text", "body"), "there is no column 'body'")


@pytest.mark.parametrize("arguments", [[], ["a text", "--file", "texts.txt"]])
def test_predict_without_texts_or_with_both_kinds(trained: Path, arguments: list[str]) -> None:
    assert_one_line(run("predict", trained, *arguments), "give texts to classify, or a file of them")


@pytest.mark.parametrize("command", [["evaluate"], ["predict", "a fine film"]], ids=["evaluate", "predict"])
def test_an_ensemble_of_models_that_answer_each_for_itself(trained: Path, command: list[str]) -> None:
    refused = run(command[0], trained, *command[1:], "--ensemble", trained)
    assert_one_line(refused, "models of classify answer each for itself: leave out --ensemble")


def test_predict_of_a_file_that_is_not_there(trained: Path) -> None:
    assert_one_line(run("predict", trained, "--file", "none.txt"), "none.txt cannot be read")


def test_predict_of_an_empty_file(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("")
    assert_one_line(run("predict", trained, "--file", tmp_path / "texts.txt"), "there are no texts in it")


@pytest.mark.parametrize("command", [["train", "classify"], ["evaluate"], ["predict"]])
def test_help_shows_an_example(command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert f"Example: fastgru {' '.join(command)}" in result.stdout


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from fastgru.cli import app; app(['--help'], standalone_mode=False);"
        "print([m for m in ('torch', 'lightning', 'datasets', 'pandas', 'tokenizers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


def test_the_command_without_its_packages_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise ModuleNotFoundError(\"No module named 'typer'\", name='typer')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "fastgru", "--help"], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 2
    said = "fastgru: typer is not installed. Install it with: pip install 'fastgru[train]'; "
    assert done.stderr == f"{said}without it there are fastgru predict and fastgru run\n"
    assert done.stdout == ""
