import csv
import io
import json
import logging
import os
import re
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import forked
import pytest
import torch
from rich.console import Console
from task_data import write_reviews

from fastgru.common.errors import InputError
from fastgru.data.texts import load_splits
from fastgru.models import TextClassifier
from fastgru.training import run as training
from fastgru.training.callbacks import History
from fastgru.training.classify import Classify, ClassifyOptions
from fastgru.training.classify.batches import EncodedTexts
from fastgru.training.classify.measure import measure
from fastgru.training.classify.module import ClassifyModule
from fastgru.training.run_folder import RunFolder

FILES = ["README.md", "checkpoints", "config.json", "curves.png", "metrics.csv", "model.safetensors", "tensorboard"]
FILES += ["tokenizer.json"]


def options_for(data: str, **others: Any) -> ClassifyOptions:
    small = {"epochs": 5, "patience": 5, "batch_size": 16, "lr": 0.03, "embedding_size": 8, "hidden_size": 6} | others
    return ClassifyOptions(data=data, **small)


def train(out: Path, options: ClassifyOptions) -> tuple[RunFolder, History]:
    run = RunFolder(out)
    return run, training.train(options, run, Console(quiet=True))


def log_of(run: RunFolder) -> list[dict[str, str]]:
    with run.metrics.open() as file:
        rows = list(csv.DictReader(file))
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def content(run: RunFolder) -> tuple[list[dict[str, str]], bytes]:
    return log_of(run), (run.path / "model.safetensors").read_bytes()


def state_of(run: RunFolder) -> dict[str, torch.Tensor]:
    return torch.load(run.checkpoint, weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_reviews(tmp_path_factory.mktemp("data") / "reviews.csv")


@pytest.fixture(scope="module")
def trained(data: str, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run, _ = train(tmp_path_factory.mktemp("runs") / "whole", options_for(data))
    return run


@pytest.fixture
def whole(trained: RunFolder, tmp_path: Path) -> RunFolder:
    """A finished run that the test may change."""
    return RunFolder(Path(shutil.copytree(trained.path, tmp_path / "whole")))


@pytest.fixture
def unfinished(whole: RunFolder) -> RunFolder:
    """A run that could go on."""
    state = json.loads((whole.path / "train.json").read_text())
    (whole.path / "train.json").write_text(json.dumps({**state, "finished": False}))
    return whole


def test_train_learns_and_leaves_a_whole_run_folder(data: str, tmp_path: Path) -> None:
    run, history = train(tmp_path / "run", replace(options_for(data), epochs=8))
    assert sorted(path.name for path in run.path.iterdir()) == [*FILES, "train.json"]
    assert [path.name for path in run.checkpoint.parent.iterdir()] == ["last.ckpt"]
    assert (run.path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert [row["epoch"] for row in log_of(run)] == [str(epoch) for epoch in range(1, len(history.rows) + 1)]
    assert tuple(history.rows[0]) == ("epoch", *Classify.columns, "seconds")
    assert history.best["validation_accuracy"] == 1
    splits = load_splits(data, "text", "label")
    measures = measure(TextClassifier.from_pretrained(run.path), splits.test, "test")
    assert measures.accuracy == measures.f1_macro == 1
    assert measures.confusion == [[measures.confusion[0][0], 0], [0, measures.confusion[1][1]]]


def test_train_keeps_the_model_of_the_best_epoch(data: str, tmp_path: Path) -> None:
    run, history = train(tmp_path / "run", options_for(data))
    validation = load_splits(data, "text", "label").validation
    found = measure(TextClassifier.from_pretrained(run.path), validation, "validation").accuracy
    assert found == pytest.approx(history.best["validation_accuracy"], abs=1e-6)


def test_train_with_the_same_seed_gives_the_same_model(whole: RunFolder, data: str, tmp_path: Path) -> None:
    again, _ = train(tmp_path / "again", options_for(data))
    other, _ = train(tmp_path / "other", replace(options_for(data), seed=1))
    assert content(again) == content(whole)
    assert content(other)[1] != content(whole)[1]


@pytest.mark.parametrize("moment", ["in a step", "before the checkpoint", "ctrl-c", "sigterm"])
def test_resume_after_a_kill_ends_as_the_whole_run(whole: RunFolder, data: str, tmp_path: Path, moment: str) -> None:
    run = RunFolder(tmp_path / "killed")
    done = forked.run_script(Path(__file__).with_name("interrupted_training.py"), data, run.path, moment)
    codes = {"ctrl-c": 128 + signal.SIGINT, "sigterm": 128 + signal.SIGTERM}
    assert done.returncode == codes.get(moment, -signal.SIGKILL), done.stderr
    assert ("stopped after 2 whole epochs; --resume goes on" in done.stderr) == (moment in codes)
    assert not run.finished
    training.resume(run, Console(quiet=True))
    assert run.finished
    assert content(run) == content(whole)
    torch.testing.assert_close(state_of(run), state_of(whole), rtol=0, atol=0)
    assert sorted(path.name for path in run.path.iterdir()) == [*FILES, "train.json"]


def test_resume_after_kills_at_random_moments_ends_as_the_whole_run(
    whole: RunFolder, data: str, tmp_path: Path
) -> None:
    steps = tmp_path / "steps"
    steps.touch()
    script = Path(__file__).with_name("fault_injection.py")
    done = forked.run_script(script, data, tmp_path / "run", steps, "1", "4")
    assert done.returncode == 0, done.stderr
    lives = [[int(step) for step in life.split()] for life in steps.read_text().split("attempt\n")[1:]]
    assert len(lives) > 2
    for life, following in pairwise(lives):
        assert life[-1] - following[0] <= 3  # steps lost: an interval between checkpoints at most
    run = RunFolder(tmp_path / "run")
    assert run.finished
    assert content(run) == content(whole)
    torch.testing.assert_close(state_of(run), state_of(whole), rtol=0, atol=0)
    assert sorted(path.name for path in run.path.iterdir()) == [*FILES, "train.json"]
    assert [path.name for path in run.checkpoint.parent.iterdir()] == ["last.ckpt"]


def test_an_epoch_is_told_once_its_checkpoint_is_safe(data: str, tmp_path: Path) -> None:
    run, found = RunFolder(tmp_path / "run"), []

    class Watching(Console):
        def print(self, *objects: Any, **options: Any) -> None:
            if str(objects[0]).startswith("epoch"):
                state = torch.load(run.checkpoint, map_location="cpu", weights_only=True)
                rows = state["callbacks"]["History"]["rows"]
                found.append((str(objects[0]).split("/")[0], len(rows)))

    training.train(options_for(data, epochs=2), run, Watching(file=io.StringIO()))
    assert found == [("epoch  1", 1), ("epoch  2", 2)]


def test_resume_before_the_first_checkpoint_starts_anew(whole: RunFolder, data: str, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "young")
    run.create(options_for(data), load_splits(data, "text", "label").fingerprint())
    training.resume(run, Console(quiet=True))
    assert content(run) == content(whole)


@pytest.mark.parametrize("calls", range(12))
def test_a_run_that_is_killed_where_it_begins_can_be_gone_on_with(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    """Every change of the folder is a moment to be killed at: of a new run, of a young one, and over an earlier one."""

    class Killed(BaseException):
        pass

    left = [calls]

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*given: Any, **others: Any) -> Any:
            if not left[0]:
                raise Killed
            left[0] -= 1
            return change(*given, **others)

        return changed

    old, new = options_for(data), replace(options_for(data), seed=5)
    for kind in ("new", "young", "earlier"):
        run = RunFolder(tmp_path / kind)
        run.path.mkdir()
        if kind != "new":
            run.create(old, "of the data")
        if kind == "earlier":
            run.checkpoint.touch()
            run.metrics.touch()
            (run.path / "model.safetensors").touch()
        left[0] = calls
        with monkeypatch.context() as patched:
            for place, name in ((os, "replace"), (shutil, "rmtree"), (Path, "unlink"), (Path, "mkdir")):
                patched.setattr(place, name, counted(getattr(place, name)))
            with suppress(Killed):
                run.create(new, "of the data")
        if kind == "new" and not run.is_run:
            run.check_free(overwrite=False)
        else:
            options = run.read_options()
            assert options in (old, new)
            assert not (options == new and run.checkpoint.exists())


def test_resume_of_a_finished_run_changes_nothing(whole: RunFolder) -> None:
    before = content(whole)
    history = training.resume(whole, Console(quiet=True))
    assert len(history.rows) == 5
    assert content(whole) == before


def test_resume_after_patience_ran_out_trains_no_further(data: str, tmp_path: Path) -> None:
    run, history = train(tmp_path / "run", replace(options_for(data), lr=1e-9, patience=2))
    assert len(history.rows) == 3
    state = json.loads((run.path / "train.json").read_text())
    (run.path / "train.json").write_text(json.dumps({**state, "finished": False}))
    assert training.resume(run, Console(quiet=True)).rows == history.rows


@pytest.mark.parametrize("finished", [True, False])
def test_resume_for_longer_ends_as_a_longer_run(whole: RunFolder, data: str, tmp_path: Path, finished: bool) -> None:
    run, _ = train(tmp_path / "short", options_for(data, epochs=2))
    state = json.loads((run.path / "train.json").read_text())
    (run.path / "train.json").write_text(json.dumps({**state, "finished": finished}))
    training.resume(run, Console(quiet=True), epochs=whole.read_options().epochs)
    assert run.finished
    assert run.read_options() == whole.read_options()
    assert content(run) == content(whole)


def test_resume_for_longer_after_patience_ran_out_needs_more_of_it(data: str, tmp_path: Path) -> None:
    run, history = train(tmp_path / "run", options_for(data, epochs=20, patience=1))
    assert len(history.rows) < 20
    with pytest.raises(InputError, match="brought no better model: give more --patience"):
        training.resume(run, Console(quiet=True), epochs=21)
    longer = training.resume(run, Console(quiet=True), patience=3)
    assert len(longer.rows) >= len(history.rows) + 2
    assert longer.rows[: len(history.rows)] == history.rows


def test_resume_with_changed_data_is_refused(tmp_path: Path) -> None:
    data = write_reviews(tmp_path / "reviews.csv")
    run = RunFolder(tmp_path / "run")
    run.create(options_for(data), load_splits(data, "text", "label").fingerprint())
    write_reviews(tmp_path / "reviews.csv", seed=1)
    with pytest.raises(InputError, match="has changed since that run was started"):
        training.resume(run, Console(quiet=True))


@pytest.mark.parametrize("broken", [b"", b"no checkpoint", b"PK\x03\x04 cut"])
def test_resume_from_an_unreadable_checkpoint(unfinished: RunFolder, broken: bytes) -> None:
    unfinished.checkpoint.write_bytes(broken)
    with pytest.raises(InputError, match=r"last\.ckpt is not a readable checkpoint"):
        training.resume(unfinished, Console(quiet=True))


def test_resume_from_a_cut_checkpoint(unfinished: RunFolder) -> None:
    unfinished.checkpoint.write_bytes(unfinished.checkpoint.read_bytes()[:-2000])
    with pytest.raises(InputError, match=r"last\.ckpt is not a readable checkpoint"):
        training.resume(unfinished, Console(quiet=True))


@pytest.mark.parametrize("foreign", [{"a": 1}, [1], {"pytorch-lightning_version": "2", "state_dict": {}}], ids=str)
def test_resume_from_a_foreign_checkpoint(unfinished: RunFolder, foreign: object) -> None:
    torch.save(foreign, unfinished.checkpoint)
    with pytest.raises(InputError, match=r"last\.ckpt is not a readable checkpoint"):
        training.resume(unfinished, Console(quiet=True))


def test_resume_with_the_checkpoint_of_other_sizes(unfinished: RunFolder) -> None:
    state = json.loads((unfinished.path / "train.json").read_text())
    state["options"]["hidden_size"] = 7
    (unfinished.path / "train.json").write_text(json.dumps(state))
    with pytest.raises(InputError, match="holds a model of other sizes"):
        training.resume(unfinished, Console(quiet=True))


def test_create_refuses_a_run_that_is_there(whole: RunFolder, data: str) -> None:
    with pytest.raises(InputError, match="already holds a run: go on with it with --resume"):
        training.train(options_for(data), whole, Console(quiet=True))
    training.train(replace(options_for(data), epochs=1), whole, Console(quiet=True), overwrite=True)
    assert len(log_of(whole)) == 1


def test_overwrite_takes_nothing_but_a_runs_own_files(whole: RunFolder, data: str) -> None:
    before = content(whole)
    (whole.path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"other things in it \(notes\.txt\)"):
        training.train(options_for(data), whole, Console(quiet=True), overwrite=True)
    (whole.path / "notes.txt").unlink()
    inside = str(shutil.copy(data, whole.path / "metrics.csv"))
    with pytest.raises(InputError, match="which --overwrite would empty"):
        training.train(options_for(inside), whole, Console(quiet=True), overwrite=True)
    assert (whole.path / "model.safetensors").read_bytes() == before[1]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError, MemoryError])
def test_overwrite_that_fails_in_its_first_epoch_leaves_the_old_run(
    whole: RunFolder, data: str, monkeypatch: pytest.MonkeyPatch, failure: type[BaseException]
) -> None:
    before, options = content(whole), whole.read_options()

    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(ClassifyModule, "training_step", fail)
    with pytest.raises((failure, SystemExit)):
        training.train(replace(options_for(data), seed=3), whole, Console(quiet=True), overwrite=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert content(whole) == before
    assert whole.read_options() == options
    assert whole.finished


def test_two_trainings_in_one_folder(unfinished: RunFolder, data: str) -> None:
    with unfinished.locked():
        for begin in (
            lambda: training.resume(unfinished, Console(quiet=True)),
            lambda: training.train(options_for(data), unfinished, Console(quiet=True), overwrite=True),
        ):
            with pytest.raises(InputError, match="another process is training into"):
                begin()


def test_create_never_empties_a_folder_that_is_no_run(data: str, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="a folder with other things in it"):
        training.train(options_for(data), RunFolder(tmp_path), Console(quiet=True), overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_bad_data_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        train(tmp_path / "run", options_for(str(tmp_path / "none.csv")))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["", "[]", '{"options": {"seed": 1}}', '{"options": 3}'])
def test_read_options_of_a_foreign_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "train.json").write_text(text)
    with pytest.raises(InputError, match=r"train\.json"):
        RunFolder(tmp_path).read_options()


def test_train_on_a_terminal_shows_a_bar_and_a_line_an_epoch(data: str, tmp_path: Path) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80, color_system=None)
    training.train(replace(options_for(data), epochs=2), RunFolder(tmp_path / "run"), console)
    assert re.search(r"epoch  2/2 .* 6/6 .* loss \d\.\d{3} accuracy \d\.\d{3}", screen.getvalue())
    assert len(re.findall(r"epoch  \d/2   train loss", screen.getvalue())) == 2


def test_train_leaves_torch_as_it_was(data: str, tmp_path: Path) -> None:
    torch.use_deterministic_algorithms(False)  # conftest.py has it on
    threads, filling = torch.get_num_threads(), torch.utils.deterministic.fill_uninitialized_memory
    train(tmp_path / "run", replace(options_for(data), epochs=1, threads=threads + 1))
    assert torch.get_num_threads() == threads
    assert torch.utils.deterministic.fill_uninitialized_memory == filling
    assert not torch.are_deterministic_algorithms_enabled()


def test_average_is_the_formula(data: str, whole: RunFolder) -> None:
    model = TextClassifier.from_pretrained(whole.path)
    module = ClassifyModule(model, lr=0.1, seed=0)
    expected = None
    for step in range(4):
        weight = model.classify.bias.detach()
        kept = min(0.995, (1 + step) / (10 + step))
        expected = weight.clone() if expected is None else kept * expected + (1 - kept) * weight
        module.average.update_parameters(module.model)
        torch.testing.assert_close(module.averaged.classify.bias.detach(), expected, rtol=0, atol=1e-6)
        with torch.no_grad():
            model.classify.bias.add_(1)


def test_targets_are_soft_labels_where_there_are_some(data: str, whole: RunFolder) -> None:
    model = TextClassifier.from_pretrained(whole.path)
    rows = load_splits(data, "text", "label").test
    hard = EncodedTexts(rows, model)
    assert torch.equal(hard.targets, torch.nn.functional.one_hot(hard.labels, 2).float())
    soft = EncodedTexts(replace(rows, soft_labels=[{"good": 0.25, "bad": 0.75}] * len(rows)), model)
    assert soft.targets.tolist() == [[0.75, 0.25]] * len(rows)
    assert torch.equal(soft.labels, hard.labels)


def test_train_is_quiet_but_for_its_own_lines(data: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        train(tmp_path / "run", replace(options_for(data), epochs=1))
    assert caplog.text == ""
