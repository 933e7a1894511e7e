"""What `evaluate` tells of labels, beside scikit-learn's and torchmetrics' own measures of the same answers."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from sklearn import metrics
from torchmetrics.functional.classification import multiclass_calibration_error

from fastgru.common.errors import InputError
from fastgru.inference.prediction import Prediction, predictions
from fastgru.training.classify.measure import ClassifyMeasures
from fastgru.training.labels import WIDEST
from fastgru.training.reliability import BINS
from fastgru.training.wrong import check_errors_file, write_errors


def answers(labels: list[str], count: int, seed: int = 0) -> tuple[list[str], list[Prediction]]:
    """Random probabilities, and true labels that are drawn by them more or less."""
    draw = np.random.default_rng(seed)
    rows = draw.dirichlet(np.full(len(labels), 0.5), count)
    true = [labels[draw.choice(len(labels), p=0.8 * row + 0.2 / len(labels))] for row in rows]
    return true, predictions(labels, rows.tolist())


def measured(labels: list[str], count: int = 200) -> tuple[ClassifyMeasures, list[str], list[Prediction]]:
    true, found = answers(labels, count)
    return ClassifyMeasures.of([f"text {row}" for row in range(count)], true, found, labels), true, found


@pytest.mark.parametrize("labels", [["ham", "spam"], ["a", "b", "c", "never"]], ids=str)
def test_measures_are_those_of_other_libraries(labels: list[str]) -> None:
    measures, true, found = measured(labels)
    told = [one.label for one in found]
    scores = metrics.precision_recall_fscore_support(true, told, labels=labels, zero_division=0)
    for place, one in enumerate(measures.scores):
        assert one.label == labels[place]
        expected = [column[place] for column in scores]
        assert [one.precision, one.recall, one.f1, one.support] == pytest.approx(expected, abs=1e-6)
    probabilities = np.array([list(one.probabilities.values()) for one in found])
    assert measures.accuracy == pytest.approx(metrics.accuracy_score(true, told), abs=1e-6)
    assert measures.f1_macro == pytest.approx(metrics.f1_score(true, told, average="macro"), abs=1e-6)
    assert measures.log_loss == pytest.approx(metrics.log_loss(true, probabilities, labels=labels), rel=1e-9)
    rights = torch.tensor([labels.index(name) for name in true])
    error = multiclass_calibration_error(torch.tensor(probabilities), rights, len(labels), n_bins=BINS)
    assert measures.calibration_error == pytest.approx(float(error), abs=1e-6)
    assert measures.confusion == metrics.confusion_matrix(true, told, labels=labels).tolist()
    if len(labels) == 2:
        area = metrics.roc_auc_score([name == labels[1] for name in true], probabilities[:, 1])
        assert measures.roc_auc == pytest.approx(area, abs=1e-6)
    else:
        assert measures.roc_auc is None


def test_bins_hold_each_row_once_and_what_is_sure_is_in_the_last() -> None:
    labels = ["a", "b"]
    found = predictions(labels, [[1.0, 0.0], [0.6, 0.4], [0.5, 0.5], [0.0, 1.0]])
    measures = ClassifyMeasures.of(["", "", "", ""], ["a", "b", "a", "b"], found, labels)
    there = {round(one.high, 3): (one.count, one.accuracy) for one in measures.reliability if one.count}
    assert there == {0.533: (1, 1.0), 0.6: (1, 0.0), 1.0: (2, 1.0)}
    assert measures.calibration_error == pytest.approx((0.6 + 0.5) / 4)


def test_measures_of_one_label_and_of_an_impossible_answer_are_finite() -> None:
    labels = ["a", "b"]
    measures = ClassifyMeasures.of(["x", "y"], ["a", "a"], predictions(labels, [[1.0, 0.0], [0.0, 1.0]]), labels)
    assert measures.roc_auc is None
    assert 40 < measures.log_loss < 50
    assert [one.support for one in measures.scores] == [2, 0]


def test_errors_are_told_the_surest_first() -> None:
    measures, true, found = measured(["ham", "spam"])
    wrong = [row for row, (right, one) in enumerate(zip(true, found, strict=True)) if one.label != right]
    assert len(measures.errors) == len(wrong) > 10
    assert {one.input for one in measures.errors} == {f"text {row}" for row in wrong}
    sure = [one.probability for one in measures.errors]
    assert sure == sorted(sure, reverse=True)
    assert all(one.truth != one.answer for one in measures.errors)


@pytest.mark.parametrize("name", ["e.csv", "e.tsv", "e.jsonl"])
def test_errors_are_written_and_read_again(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    found = predictions(["a", "b"], [[0.75, 0.25], [0.9, 0.1]])
    errors = ClassifyMeasures.of(['two\nlines, "quoted"\t', "\u4f60\u597d"], ["b", "b"], found, ["a", "b"]).errors
    check_errors_file(path)
    write_errors(errors, path)
    with path.open(newline="", encoding="utf-8") as file:
        if name.endswith("jsonl"):
            rows = [json.loads(line) for line in file]
        else:
            rows = list(csv.DictReader(file, delimiter="\t" if name.endswith("tsv") else ","))
    assert [row["input"] for row in rows] == ["\u4f60\u597d", 'two\nlines, "quoted"\t']
    assert [(row["truth"], row["answer"], float(row["probability"])) for row in rows] == [
        ("b", "a", 0.9),
        ("b", "a", 0.75),
    ]


@pytest.mark.parametrize("name", ["e.xlsx", "none/e.csv", "."])
def test_errors_file_that_cannot_be_written_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="--errors"):
        check_errors_file(tmp_path / name)


@pytest.mark.parametrize("count", [2, WIDEST, WIDEST + 1])
def test_measures_are_shown_in_80_columns(count: int) -> None:
    measures, _, _ = measured([f"label{number}" for number in range(count)])
    screen = io.StringIO()
    measures.show("a file", Console(file=screen, width=80))
    shown = screen.getvalue()
    assert shown.count("a file: 200 texts") == 1
    assert f"accuracy {measures.accuracy:.4f}   F1 (macro) {measures.f1_macro:.4f}" in shown
    assert f"calibration error {measures.calibration_error:.4f}" in shown
    assert ("ROC AUC" in shown) == (count == 2)
    for one in measures.scores:
        assert f"{one.precision:.4f}" in shown


def test_reliability_is_drawn(tmp_path: Path) -> None:
    measures, _, _ = measured(["ham", "spam"])
    measures.draw_reliability("$5 texts", tmp_path / "reliability.png")
    assert (tmp_path / "reliability.png").read_bytes().startswith(b"\x89PNG")
