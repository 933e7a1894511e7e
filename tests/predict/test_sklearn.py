"""The classifier as an estimator of scikit-learn."""

import copy
import pickle
import random
import signal

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import Tags, estimator_checks
from sklearn.utils.validation import check_is_fitted, validate_data
from task_data import BAD, GOOD

from fastgru.sklearn import GRUTextClassifier
from fastgru.training import run as training
from fastgru.training.classify.module import ClassifyModule

SMALL = {"embedding_size": 8, "hidden_size": 6, "epochs": 8, "patience": 8, "batch_size": 16, "lr": 0.03}
TEXTS = [f"a {word} film {number}" for number in range(20) for word in GOOD + BAD]
LABELS = ["good", "good", "good", "bad", "bad", "bad"] * 20


@pytest.fixture(scope="module")
def fitted() -> GRUTextClassifier:
    return GRUTextClassifier(**SMALL).fit(TEXTS, LABELS)


def test_fit_learns_and_says_what_it_learnt(fitted: GRUTextClassifier) -> None:
    assert fitted.classes_.tolist() == ["bad", "good"]
    assert fitted.predict(["a lovely film", "an awful film"]).tolist() == ["good", "bad"]
    assert fitted.score(TEXTS, LABELS) == 1
    proba = fitted.predict_proba(np.array(TEXTS[:5]))
    assert proba.shape == (5, 2)
    np.testing.assert_allclose(proba.sum(1), 1, atol=1e-6)
    assert len(fitted.history_) == 8
    assert fitted.predict_proba([]).shape == (0, 2)


def test_fit_is_the_same_again_and_after_a_pickle(fitted: GRUTextClassifier) -> None:
    again = clone(fitted).fit(np.array(TEXTS, dtype=object), np.array(LABELS))
    for other in (again, pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        assert np.array_equal(other.predict_proba(TEXTS), fitted.predict_proba(TEXTS))


def test_fit_leaves_the_random_states() -> None:
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    expected = torch.rand(1).item(), np.random.rand(), random.random()
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    GRUTextClassifier(**{**SMALL, "epochs": 1}).fit(TEXTS, LABELS)
    assert (torch.rand(1).item(), np.random.rand(), random.random()) == expected


def test_classes_keep_their_kind_and_order() -> None:
    labels = np.array([2, 2, 2, 10, 10, 10] * 20)
    model = GRUTextClassifier(**SMALL, class_weight={2: 1.5, 10: 0.5}).fit(TEXTS, labels)
    assert model.classes_.tolist() == [2, 10]  # in the model they are "10" and "2"
    assert model.score(TEXTS, labels) == 1
    assert model.predict_proba(["a lovely film"]).argmax() == 0


def test_it_works_in_scikit_learns_own_company() -> None:
    small = {**SMALL, "epochs": 8}
    assert cross_val_score(GRUTextClassifier(**small), TEXTS, LABELS, cv=2).mean() > 0.9
    search = GridSearchCV(
        make_pipeline(GRUTextClassifier(**small)), {"grutextclassifier__pooling": ["max", "last"]}, cv=2
    )
    assert search.fit(TEXTS, LABELS).predict(["a lovely film"]).tolist() == ["good"]


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        ("a text", ["a"], "expected a sequence of texts, got one text"),
        ([["a"], ["b"]], [0, 1], "expected a sequence of texts, got a list in it"),
        (np.zeros((2, 2)), [0, 1], "expected a sequence of texts, got an array"),
        (["a", None], [0, 1], "expected a sequence of texts, got a NoneType in it"),
        (["a", "b"], [0], "X and y must be of one length, got 2 texts and 1 labels"),
        (["a", "b"], [1, 1], "two classes or more, got 1 class"),
        (["a", "b"], [0.5, 1.25], "Unknown label type"),
    ],
)
def test_fit_refuses(texts: object, labels: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GRUTextClassifier(**SMALL).fit(texts, labels)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"pooling": "median"}, "^pooling takes names out of"),
        ({"class_weight": "heavy"}, "^class_weight takes none, balanced"),
        ({"validation_fraction": 1.0}, "validation_fraction must lie between 0 and 1, got 1.0"),
    ],
)
def test_fit_refuses_parameters(parameters: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GRUTextClassifier(**parameters).fit(TEXTS, LABELS)


def test_texts_of_no_weight_are_left_out(fitted: GRUTextClassifier) -> None:
    odd = [f"an odd film {number}" for number in range(40)]
    weights = [2.0] * len(TEXTS) + [0.0] * len(odd)
    model = GRUTextClassifier(**SMALL).fit(TEXTS + odd, LABELS + ["odd"] * len(odd), weights)
    assert np.array_equal(model.predict_proba(TEXTS), fitted.predict_proba(TEXTS))  # weights alike are none


def test_texts_of_more_weight_win() -> None:
    texts = [f"a film {number}" for number in range(40) for _ in range(2)]
    labels = ["good", "bad"] * 40
    for favoured in ("good", "bad"):
        weights = np.where(np.array(labels) == favoured, 9, 1)
        found = GRUTextClassifier(**SMALL).fit(texts, labels, sample_weight=weights).predict(["a film"])
        assert found.tolist() == [favoured]


def test_a_validation_set_chooses_the_epoch_and_is_not_trained_on(fitted: GRUTextClassifier) -> None:
    model = GRUTextClassifier(**SMALL).fit(TEXTS, LABELS, X_val=["zestful"] * 4, y_val=["good", "bad", "bad", "bad"])
    assert {round(row["validation_accuracy"], 6) for row in model.history_} <= {0.25, 0.75}
    assert "zestful" not in model.model_.tokenizer.get_vocab()
    weighted = GRUTextClassifier(**SMALL).fit(
        TEXTS, LABELS, X_val=["zestful"] * 4, y_val=["good", "bad", "bad", "bad"], sample_weight_val=[3, 1, 0, 0]
    )
    assert {round(row["validation_accuracy"], 6) for row in weighted.history_} <= {0.25, 0.75}
    for row, other in zip(model.history_, weighted.history_, strict=True):
        assert row["validation_accuracy"] != other["validation_accuracy"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"X_val": ["a"]}, "X_val and y_val go together"),
        ({"X_val": ["a"], "y_val": ["odd"]}, "y_val has labels that y has not: 'odd'"),
        ({"X_val": ["a", "b"], "y_val": ["good"]}, "X_val and y_val must be of one length, got 2 texts and 1 labels"),
        ({"sample_weight": [0.0] * 120}, "at least one non-zero number"),
        ({"sample_weight": [-1.0] * 120}, "[Nn]egative values in data passed to `sample_weight`"),
        ({"sample_weight": [1.0]}, "sample_weight.shape"),
    ],
)
def test_fit_refuses_weights_and_validation_sets(given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GRUTextClassifier(**SMALL).fit(TEXTS, LABELS, **given)


def test_predict_before_fit() -> None:
    with pytest.raises(NotFittedError):
        GRUTextClassifier().predict(["a"])


def test_ctrl_c_is_an_interrupt_and_leaves_no_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClassifyModule, "training_step", lambda *_: signal.raise_signal(signal.SIGINT))
    model = GRUTextClassifier(**SMALL)
    with pytest.raises(KeyboardInterrupt):
        model.fit(TEXTS, LABELS)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert not hasattr(model, "model_")


class Numbers(GRUTextClassifier):
    """Takes rows of numbers for texts of as many words, so that scikit-learn can try it on its own data."""

    def fit(self, X: object, y: object, sample_weight: object = None) -> GRUTextClassifier:  # noqa: N803
        rows, labels = validate_data(self, X, y)
        return super().fit(self.written(rows), labels, sample_weight)

    def predict_proba(self, X: object) -> np.ndarray:  # noqa: N803
        check_is_fitted(self, "model_")
        return super().predict_proba(self.written(validate_data(self, X, reset=False)))

    def predict(self, X: object) -> np.ndarray:  # noqa: N803
        check_is_fitted(self, "model_")
        return self.classes_[self.predict_proba(X).argmax(1)]

    @staticmethod
    def written(rows: np.ndarray) -> list[str]:
        return [" ".join(f"x{place}is{round(2 * value)}" for place, value in enumerate(row)) for row in rows]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.one_d_array = tags.input_tags.string = False
        return tags


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")  # of array_api, which needs a variable set
def test_scikit_learns_own_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "draw_curves", lambda *_: None)  # a third of the time of some hundred fits
    tiny = {**SMALL, "embedding_size": 4, "hidden_size": 3, "epochs": 3, "batch_size": 32, "lr": 0.1}
    # These two ask for 1e-7 of what is computed in float32, in batches of other rows.
    rounded = ("check_methods_sample_order_invariance", "check_methods_subset_invariance")
    # A text that is repeated is not one of twice the weight: batches and dropout are others (as in MLPClassifier).
    other_batches = ("check_sample_weight_equivalence_on_dense_data",)
    expected = dict.fromkeys((*rounded, *other_batches), "float32, or other batches")
    results = estimator_checks.check_estimator(Numbers(**tiny), expected_failed_checks=expected)
    assert sum(result["status"] == "passed" for result in results) >= 50
    failed = {result["check_name"] for result in results if result["status"] != "passed"}
    assert failed <= {"check_array_api_input", *rounded, *other_batches}


def test_predictions_of_a_text_do_not_depend_on_its_batch(fitted: GRUTextClassifier) -> None:
    one_by_one = np.concatenate([fitted.predict_proba([text]) for text in TEXTS[:12]])
    np.testing.assert_allclose(fitted.predict_proba(TEXTS[:12]), one_by_one, rtol=0, atol=1e-6)
