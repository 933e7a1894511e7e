"""Which task a run or a model belongs to, and what the commands ask of it."""

import json
import shutil
from pathlib import Path

import pytest
from test_cli_tasks import assert_one_line, data, run, trained

from fastgru.common.errors import InputError
from fastgru.models import TextClassifier
from fastgru.training.callbacks import History
from fastgru.training.run_folder import FILES, RunFolder, task_of_run
from fastgru.training.task import Best
from fastgru.training.tasks import TASKS, task_of_model

__all__ = ["data", "trained"]  # fixtures


@pytest.fixture
def model(trained: Path, tmp_path: Path) -> Path:
    """A model without its run."""
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        shutil.copy(trained / name, tmp_path)
    return tmp_path


def change(file: Path, **values: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS.get)
def test_a_task_is_whole(task: object) -> None:
    assert task.options.task == task.name
    assert task.best in task.columns
    assert all(name.startswith(("train_", "validation_")) for name in task.columns)
    assert set(task.files) <= set(FILES)
    result = run("train", task.name, "--help")
    assert f"Example: fastgru train {task.name} " in " ".join(result.stdout.split())


def test_the_task_of_a_run_and_of_a_model(trained: Path, model: Path) -> None:
    assert task_of_run(str(trained)) is task_of_run(str(model)) is task_of_model(str(model)) is TASKS["classify"]


def test_the_kind_of_a_model_is_in_its_configuration(model: Path) -> None:
    assert json.loads((model / "config.json").read_text())["model_type"] == "text_classifier"
    change(model / "config.json", model_type="seer")
    with pytest.raises(InputError, match="holds a seer, and there is no task for it; there are: classify"):
        task_of_model(str(model))
    with pytest.raises(InputError, match=r"config\.json is that of a seer, not of a text_classifier"):
        TextClassifier.from_pretrained(model)


def test_a_model_that_does_not_tell_its_kind_is_a_text_classifier(model: Path) -> None:
    content = json.loads((model / "config.json").read_text())
    del content["model_type"]
    (model / "config.json").write_text(json.dumps(content))
    assert task_of_model(str(model)) is TASKS["classify"]
    assert TextClassifier.from_pretrained(model).config.labels == ["bad", "good"]


@pytest.mark.parametrize("content", ["", "[]"])
def test_a_broken_configuration(model: Path, content: str) -> None:
    (model / "config.json").write_text(content)
    assert_one_line(run("predict", model, "x"), "config.json")


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    assert_one_line(run("predict", tmp_path, "x"), "there is no config.json in it")


def test_a_run_of_an_unknown_task(trained: Path, tmp_path: Path) -> None:
    run_folder = shutil.copytree(trained, tmp_path / "run")
    change(run_folder / "train.json", task="divine")
    assert_one_line(run("evaluate", run_folder), "tells no task; expected one of classify")


def test_options_that_are_newer_than_the_run_have_their_defaults(trained: Path, tmp_path: Path) -> None:
    run_folder = RunFolder(Path(shutil.copytree(trained, tmp_path / "run")))
    options = json.loads((run_folder.path / "train.json").read_text())["options"]
    del options["pooling"]
    change(run_folder.path / "train.json", options=options)
    assert run_folder.read_options() == RunFolder(trained).read_options()
    for wrong in ({**options, "seed": "one"}, {**options, "colour": 1}):
        change(run_folder.path / "train.json", options=wrong)
        with pytest.raises(InputError, match="does not hold the options of a training of classify"):
            run_folder.read_options()


def test_the_best_epoch_is_the_highest_or_the_lowest() -> None:
    task = TASKS["classify"]
    rows = [{"epoch": epoch, "validation_accuracy": value} for epoch, value in enumerate((0.5, 0.7, 0.7, 0.2))]
    history = History(RunFolder(Path()), None, task, Best("validation_accuracy", "max"), rows=rows)
    assert history.best["epoch"] == 1
    history = History(RunFolder(Path()), None, task, Best("validation_accuracy", "min"), rows=rows)
    assert history.best["epoch"] == 3


def test_evaluate_reads_a_table_as_the_run_did(data: str, tmp_path: Path) -> None:
    (tmp_path / "mail.csv").write_text(Path(data).read_text().replace("text,label", "body,folder", 1))
    columns = ["--data", tmp_path / "mail.csv", "--text", "body", "--label", "folder"]
    done = run("train", "classify", *columns, "--out", tmp_path / "run", "--epochs", 1, "--hidden-size", 3)
    assert done.exit_code == 0, done.output
    found = run("evaluate", tmp_path / "run", "--data", tmp_path / "mail.csv", "--json")
    assert json.loads(found.stdout)["count"] == 120


def test_evaluate_draws_what_it_found(trained: Path, tmp_path: Path) -> None:
    assert run("evaluate", trained, "--plot", tmp_path / "confusion.png", "--json").exit_code == 0
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert_one_line(run("evaluate", trained, "--plot", tmp_path / "confusion.doc"), "an image's name ends in one of")


def test_predict_explains_itself(trained: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    result = run("predict", trained, "a lovely film", "an awful film", "--explain", page)
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == page.read_text().count("<article>") == 2
    for wrong in (tmp_path / "page.pdf", tmp_path / "none" / "page.html"):
        assert_one_line(run("predict", trained, "x", "--explain", wrong), "expected the name of an .html file")
