"""The model card that a run leaves: what it says, what the Hub reads in it, and what evaluate adds."""

import hashlib
import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from task_data import write_pairs, write_reviews, write_signals
from test_cli_tasks import assert_one_line, run

from fastgru.training.run_folder import RunFolder
from fastgru.training.tasks import TASKS

SMALL = ["--embedding-size", 4, "--hidden-size", 3, "--epochs", 3, "--lr", 0.03]


@pytest.fixture(scope="module")
def carded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("carded")
    table = Path(write_reviews(folder / "secret | reviews.csv"))
    table.write_text(table.read_text().replace(",bad\n", ",bad | worse\n"))
    words = ["--language", "en", "--license", "mit"]
    done = run("train", "classify", "--data", table, "--out", folder / "run", *SMALL, *words)
    assert done.exit_code == 0, done.output
    return folder / "run"


def results(card: ModelCard, split: str) -> dict[str, float]:
    return {one.metric_name: one.metric_value for one in card.data.eval_results if one.dataset_split == split}


def test_the_hub_reads_the_metadata(carded: Path) -> None:
    card = ModelCard.load(carded / "README.md")
    assert (card.data.language, card.data.license, card.data.library_name) == ("en", "mit", "fastgru")
    assert card.data.pipeline_tag == "text-classification"
    assert {"fastgru", "gru", "classify"} < set(card.data.tags)
    assert card.data.metrics == ["accuracy", "f1"]
    assert card.data.datasets is None
    best = TASKS["classify"].best_by(RunFolder(carded).read_options()).of(RunFolder(carded).read_log())
    found = results(card, "validation")
    assert found == {name: best[f"validation_{name}"] for name in ("loss", "accuracy", "f1")}


def test_the_card_tells_labels_data_and_how_it_was_trained(carded: Path) -> None:
    text = (carded / "README.md").read_text()
    options, task = RunFolder(carded).read_options(), TASKS["classify"]
    data = task.load_data(options)
    assert f"SHA-256 `{data.fingerprint()}`" in text
    assert "96 train, 12 validation, 12 test rows" in text
    assert "| bad \\| worse | 48 |" in text
    assert "--epochs 3 --lr 0.03" in text or "--lr 0.03 --epochs 3" in text
    assert "--hidden-size 3" in text
    assert str(carded.parent) not in text


def test_evaluate_writes_its_measures_into_the_card(carded: Path) -> None:
    before = hashlib.sha256((carded / "README.md").read_bytes()).digest()
    assert run("evaluate", carded).exit_code == 0
    assert hashlib.sha256((carded / "README.md").read_bytes()).digest() == before
    measures = json.loads(run("evaluate", carded, "--card", "--json").stdout)
    card = ModelCard.load(carded / "README.md")
    found = results(card, "test")
    for name in ("accuracy", "f1 macro", "log loss", "calibration error", "roc auc"):
        assert found[name] == pytest.approx(measures[name.replace(" ", "_")], abs=1e-6)
    assert results(card, "validation")
    refused = run("evaluate", carded, "--card", "--data", carded.parent / "secret | reviews.csv")
    assert_one_line(refused, "--card tells of the test part of the run's own data: leave out --data")


def test_cards_of_the_other_tasks(tmp_path: Path) -> None:
    for task, source in (
        ("signals", write_signals(tmp_path / "a.npz")),
        ("translate", write_pairs(tmp_path / "a.csv")),
    ):
        out = tmp_path / task
        sizes = ["--hidden-size", 3] if task == "signals" else ["--encoder-size", 4, "--decoder-size", 4]
        assert run("train", task, "--data", source, "--out", out, "--epochs", 1, *sizes).exit_code == 0
        assert run("evaluate", out, "--card", "--json").exit_code == 0
        card = ModelCard.load(out / "README.md")
        assert task in card.data.tags
        assert results(card, "validation")
        assert results(card, "test")
        assert ("## Labels" in card.text) == (task == "signals")
