"""Several labels a row, and numbers in the place of labels: from the table to the answer, for texts and signals."""

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from small_text_model import build
from typer.testing import CliRunner, Result

from fastgru import runtime
from fastgru.cli import app
from fastgru.common.errors import InputError
from fastgru.data.table import read_labelled
from fastgru.data.targets import BETWEEN, Targets
from fastgru.inference.prediction import Estimate, MultiLabelPrediction
from fastgru.inference.problem import MULTI, REGRESSION
from fastgru.models import SequenceClassifier, SequenceClassifierConfig, TextClassifier
from fastgru.models.attribution import attribute
from fastgru.predict import predict_parquet
from fastgru.training import train
from fastgru.training.classify import ClassifyPredictOptions
from fastgru.training.objective import OBJECTIVES, Truth, truth
from fastgru.training.target_measures import MultiLabelMeasures, RegressionMeasures

SMALL: dict[str, Any] = {
    "embedding_size": 8,
    "hidden_size": 8,
    "lr": 0.03,
    "epochs": 14,
    "batch_size": 16,
    "dropout": 0,
}
TOPICS = {"invoice": "billing", "parcel": "delivery", "broken": "complaint"}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def mails(count: int = 240) -> list[dict[str, Any]]:
    """Texts with the words of none to three topics, and a number that is how many times `very` is in them."""
    draw = random.Random(0)
    rows = []
    for number in range(count):
        words = draw.sample(sorted(TOPICS), draw.randint(0, 3))
        strong = draw.randint(0, 4)
        text = [*words, *["very"] * strong, *draw.choices(["the", "a", "mail", "is"], k=5), str(number)]
        draw.shuffle(text)
        rows.append({"text": " ".join(text), "topics": [TOPICS[word] for word in words], "anger": 10 + 2.5 * strong})
    return rows


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "mails.csv"
    frame = pd.DataFrame(mails())
    frame["topics"] = frame["topics"].map(" | ".join)
    frame.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def tagged(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "tagged"
    trained = train("classify", out, data=table, label="topics", separator_of_labels="|", **SMALL)
    assert list(trained.log[0])[1:-1] == [
        "train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "validation_f1"
    ]  # fmt: skip
    return out


@pytest.fixture(scope="module")
def estimated(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "estimated"
    trained = train("classify", out, data=table, target="anger", **SMALL)
    assert list(trained.log[0])[1:-1] == ["train_loss", "train_error", "validation_loss", "validation_error"]
    assert trained.best["validation_loss"] == min(row["validation_loss"] for row in trained.log)
    return out


def test_several_labels_are_learnt_and_told(tagged: Path, tmp_path: Path) -> None:
    measures = json.loads(run("evaluate", tagged, "--json").stdout)
    assert measures["f1_micro"] > 0.95
    assert [one["label"] for one in measures["scores"]] == ["billing", "complaint", "delivery"]
    texts = ["the parcel a mail is broken the a 7", "the a mail is a mail the 7", "the a invoice is a mail the 7"]
    lines = [json.loads(line) for line in run("predict", tagged, *texts, "--json").stdout.splitlines()]
    assert [line["labels"] for line in lines] == [["complaint", "delivery"], [], ["billing"]]
    assert set(lines[0]["probabilities"]) == {"billing", "complaint", "delivery"}
    assert run("predict", tagged, texts[0]).stdout.startswith("complaint, delivery\t")
    shown = run("evaluate", tagged).stdout
    assert "all labels right" in shown
    assert "Hamming loss" in shown
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in mails(40)))
    measured = json.loads(run("evaluate", tagged, "--data", tmp_path / "rows.jsonl", "--json").stdout)
    assert (measured["count"], measured["f1_micro"] > 0.95) == (40, True)  # lists, as JSON has them


def test_numbers_are_learnt_and_estimated(estimated: Path) -> None:
    measures = json.loads(run("evaluate", estimated, "--json").stdout)
    assert measures["r_squared"] > 0.9
    assert measures["mean_absolute_error"] < 0.3 * measures["baseline_error"]
    few, many = (
        json.loads(line)["values"]["anger"]
        for line in run(
            "predict", estimated, "a mail is the a 7", "very very a mail is very the a 7 very", "--json"
        ).stdout.splitlines()
    )
    assert 9 < few < 12
    assert 18 < many < 22
    assert run("predict", estimated, "a mail").stdout.split("\t")[1] == "a mail\n"
    assert "R squared" in run("evaluate", estimated).stdout


@pytest.mark.parametrize("kind", ["tagged", "estimated"])
def test_runtime_and_tables_say_the_same(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(kind)
    texts = [row["text"] for row in mails(30)]
    expected, found = TextClassifier.from_pretrained(folder).predict(texts), runtime.load(folder).predict(texts)
    pd.DataFrame({"text": texts}).to_parquet(tmp_path / "in.parquet")
    assert predict_parquet(
        str(folder), str(tmp_path / "in.parquet"), tmp_path / "out", "text", ClassifyPredictOptions()
    ) == len(texts)
    written = pd.read_parquet(tmp_path / "out")
    for one, other, row in zip(expected, found, written.to_dict("records"), strict=True):
        if isinstance(one, MultiLabelPrediction):
            assert one.labels == other.labels == list(row["predicted_labels"])
            assert other.probabilities == pytest.approx(one.probabilities, abs=1e-6)
            assert row["predicted_probabilities"] == pytest.approx(one.probabilities, abs=1e-6)
        else:
            assert isinstance(one, Estimate)
            assert other.values == pytest.approx(one.values, abs=1e-5)
            assert row["predicted_values"] == pytest.approx(one.values, rel=1e-6)


@pytest.mark.parametrize("targets", [Targets("|"), Targets(number="size")], ids=["labels", "number"])
def test_signals_have_targets_too(targets: Targets, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    x = draw.standard_normal((80, 6, 2)).astype(np.float32) * 0.1
    cells = []
    for row in range(80):
        loud, high = row % 2, row // 2 % 2
        x[row] += [loud, high]
        cells.append(
            "|".join(["any", *["loud"] * loud, *["high"] * high]) if targets.separator else str(loud + 3 * high)
        )
    np.savez(tmp_path / "x.npz", x=x, labels=cells)
    options = {"separator_of_labels": "|"} if targets.separator else {"target": "size"}
    small = {"epochs": 20, "hidden_size": 6, "lr": 0.03, "dropout": 0, "noise": 0}
    trained = train("signals", tmp_path / "run", data=tmp_path / "x.npz", **options, **small)
    measures = trained.evaluate()
    (found,) = trained.model.predict([np.tile([1.0, 1.0], (6, 1))])
    (without_torch,) = runtime.load(tmp_path / "run").predict([np.tile([1.0, 1.0], (6, 1))])
    if targets.separator:
        assert measures.f1_micro > 0.95
        assert found.labels == without_torch.labels == ["any", "high", "loud"]
    else:
        assert measures.r_squared > 0.95
        assert found.values["size"] == pytest.approx(4, abs=0.5)
        assert without_torch.values == pytest.approx(found.values, abs=1e-5)
    np.save(tmp_path / "one.npy", x[0])
    assert run("predict", tmp_path / "run", tmp_path / "one.npy").stdout.endswith(f"\t{tmp_path / 'one.npy'}\n")


def test_a_sequence_in_parts_has_targets_too() -> None:
    config = SequenceClassifierConfig(["a", "b"], 3, bidirectional=False, problem_type=MULTI)
    model = SequenceClassifier(config).eval()
    x = torch.randn(9, 3)
    *_, last = model.predict_parts([x[:4], x[4:]])
    assert last.probabilities == pytest.approx(model.predict([x])[0].probabilities, abs=1e-6)


def test_losses_are_their_formulas() -> None:
    logits = torch.tensor([[0.5, -2.0, 30.0], [-40.0, 0.0, 1.0]])
    targets = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    p = logits.double().sigmoid()
    several = OBJECTIVES[MULTI](build(problem_type=MULTI))
    batch = Truth(torch.zeros(2, dtype=torch.int64), targets)
    expected = -(targets * p.log() + (1 - targets) * (1 - p).log()).mean(1)
    torch.testing.assert_close(several.losses(logits, batch).double(), expected, rtol=1e-6, atol=1e-7)
    assert several.measured(logits, batch).tolist() == [1, 0]
    scale = {"target_mean": [5.0] * 3, "target_deviation": [2.0, 1.0, 1.0]}
    number = OBJECTIVES[REGRESSION](build(problem_type=REGRESSION, **scale))
    torch.testing.assert_close(number.losses(logits, batch), ((logits - targets) ** 2).mean(1))
    errors = ((logits - targets).abs() * torch.tensor([2.0, 1.0, 1.0])).mean(1)
    torch.testing.assert_close(number.measured(logits, batch), errors)


def test_targets_of_rows_are_standardised_and_come_back() -> None:
    model = build(problem_type=REGRESSION, target_mean=[10.0] * 3, target_deviation=[4.0] * 3)
    config = model.config
    (row,) = truth(config, ["18"]).targets.tolist()
    assert row == [2, 2, 2]
    with torch.no_grad():
        model.classify.weight.zero_()
        model.classify.bias.fill_(2.0)
    assert list(model.predict(["a film"])[0].values.values()) == [18, 18, 18]


def test_measures_are_their_definitions() -> None:
    cells = [f"a{BETWEEN}b", "a", "", "c"]
    told = [["a", "b"], ["b"], ["c"], ["c"]]
    found = MultiLabelMeasures.of(cells, [MultiLabelPrediction(one, {}) for one in told], ["a", "b", "c"])
    assert (found.accuracy, found.hamming_loss) == (0.5, pytest.approx(3 / 12))
    assert found.f1_micro == pytest.approx(2 * 3 / (2 * 3 + 2 + 1))
    assert [(one.right, one.wrong, one.missed) for one in found.scores] == [(1, 0, 1), (1, 1, 0), (1, 1, 0)]
    assert found.f1_macro == pytest.approx(2 / 3)
    number = RegressionMeasures.of(["1", "3"], [Estimate({"x": 2.0}), Estimate({"x": 3.0})], "x")
    assert (number.mean_absolute_error, number.r_squared, number.baseline_error) == (0.5, 0.5, 1)
    assert number.root_mean_squared_error == pytest.approx(math.sqrt(0.5))
    assert RegressionMeasures.of(["1", "1"], [Estimate({"x": 2.0})] * 2, "x").r_squared is None


def test_cells_are_read_into_one_form(tmp_path: Path) -> None:
    assert Targets("|").read(["b| a |b", "", " | "], "x") == [f"a{BETWEEN}b", "", ""]
    assert Targets("|").names([f"a{BETWEEN}b", "", "c"]) == ["a", "b", "c"]
    assert Targets(number="n").read(["1", " 2.50 ", "-1e3"], "x") == ["1.0", "2.5", "-1000.0"]
    assert Targets(number="n").scale(["1.0", "3.0"]) == {"target_mean": [2.0], "target_deviation": [1.0]}
    assert Targets(number="n").scale(["4.0"]) == {"target_mean": [4.0], "target_deviation": [1.0]}
    for bad in ("", "many", "nan", "inf"):
        with pytest.raises(InputError, match=f"x, row 2: expected a finite number, got '{bad}'"):
            Targets(number="n").read(["1", bad], "x")
    pd.DataFrame({"text": ["a", "b"], "label": [["x", "y"], []]}).to_parquet(tmp_path / "rows.parquet")
    rows = read_labelled(str(tmp_path / "rows.parquet"), "text", "label", targets=Targets(";"))
    assert rows.labels == [f"x{BETWEEN}y", ""]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"separator_of_labels": "|", "target": "anger"}, "separator_of_labels is for labels and target for numbers"),
        ({"separator_of_labels": ""}, "separator_of_labels takes what stands between two labels"),
        ({"separator_of_labels": "|", "class_weights": "balanced"}, "class_weights is for one label a text"),
        ({"target": "anger", "threshold": "a=0.3"}, "threshold is for one label a text"),
        ({"target": "anger", "metric": "f1"}, "metric f1 is for labels, and target names numbers"),
        ({"target": "anger", "stream": True}, "stream is for one label a text"),
        ({"target": "topics"}, r"mails\.csv: 56 of 240 rows have an empty label"),
        ({"target": "text"}, r"mails\.csv, row 1: expected a finite number, got '"),
        ({"separator_of_labels": "|", "label": "none"}, "there is no column 'none'"),
    ],
)
def test_targets_that_cannot_be(options: dict[str, Any], message: str, table: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        train("classify", tmp_path / "run", data=table, **{"label": "topics", **options}, **SMALL)


def test_labels_that_training_had_not_and_words_without_labels_are_refused(tagged: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("text,topics\na mail,praise\n")
    result = run("evaluate", tagged, "--data", tmp_path / "new.csv")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "labels that the training data has not: praise" in result.stderr
    with pytest.raises(InputError, match="this model tells several, or numbers"):
        attribute(TextClassifier.from_pretrained(tagged), ["a mail"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"problem_type": "many"}, "problem_type must be one of single_label_classification, multi_label"),
        ({"problem_type": REGRESSION}, r"target_mean must be a list of 3 finite numbers, got \[\]"),
        ({"target_mean": [1.0]}, r"target_mean must be a list of 0 finite numbers, got \[1.0\]"),
        (
            {"problem_type": REGRESSION, "target_mean": [0] * 3, "target_deviation": [1, 1, 0]},
            "target_deviation must be above 0",
        ),
    ],
)
def test_configurations_that_no_model_can_have(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**fields)
