"""GRUTextClassifier: the text classifier as an estimator of scikit-learn."""

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from lightning.pytorch.utilities.seed import isolate_rng
from numpy.typing import NDArray
from rich.console import Console
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d

from fastgru.common.errors import InputError, Stopped, in_python
from fastgru.data.labelled import LabelledTexts
from fastgru.data.split import Splits, split
from fastgru.models import TextClassifier
from fastgru.training.classify import ClassifyOptions
from fastgru.training.run import train
from fastgru.training.run_folder import RunFolder

if TYPE_CHECKING:
    from typing import Self


class GRUTextClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A bidirectional GRU that learns the labels of texts; trained as `fastgru train classify` trains.

    `embedding_size`, `hidden_size`, `dropout`, `pooling`, `epochs`, `patience`, `batch_size`, `lr`, `threads`: as that
    command's. `class_weight`: None, "balanced" or a weight a label, as elsewhere in scikit-learn.
    `tokens`: "words", "characters" or "subwords"; None takes what suits the texts.
    `metric`: "accuracy", "f1" or "loss", by which the best epoch is found.
    `threshold`: from this probability on `predict` tells the second of two classes.
    `validation_fraction`: of the texts, taken by the same hash of a text as the command's; they choose the epoch and
    are not trained on.
    `random_state`: the same number gives the same model. `verbose`: show the epochs on stderr.

    After `fit`: `model_` is the TextClassifier, with its `save_pretrained`; `classes_ [C]` are the labels, sorted;
    `history_` holds what was measured each epoch.

    >>> from fastgru.sklearn import GRUTextClassifier
    >>> model = GRUTextClassifier(epochs=2).fit(["a fine film", "a dull film"] * 20, ["good", "bad"] * 20)
    >>> model.predict_proba(["fine", "dull", "film"]).shape
    (3, 2)
    """

    def __init__(
        self,
        *,
        embedding_size: int = 200,
        hidden_size: int = 64,
        dropout: float = 0.5,
        pooling: str = "last,max,mean",
        class_weight: Any = None,
        tokens: Any = None,
        metric: Any = "accuracy",
        threshold: float | None = None,
        epochs: int = 12,
        patience: int = 4,
        batch_size: int = 64,
        lr: float = 2e-3,
        validation_fraction: float = 0.1,
        random_state: int = 0,
        threads: int = 1,
        verbose: bool = False,
    ) -> None:
        self.embedding_size = embedding_size
        self.hidden_size = hidden_size
        self.dropout = dropout
        self.pooling = pooling
        self.class_weight = class_weight
        self.tokens = tokens
        self.metric = metric
        self.threshold = threshold
        self.epochs = epochs
        self.patience = patience
        self.batch_size = batch_size
        self.lr = lr
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.threads = threads
        self.verbose = verbose

    def fit(
        self,
        X: Iterable[str],  # noqa: N803
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Iterable[str] | None = None,  # noqa: N803
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> "Self":
        """Train on the texts `X [N]` and their labels `y [N]`; torch's, NumPy's and Python's random states stay.

        `sample_weight [N]`: how much each text counts, beside what `class_weight` says; one of weight 0 is left out.
        `X_val [M]`, `y_val [M]`, `sample_weight_val [M]`: texts that choose the epoch, in place of
        `validation_fraction` of `X`.

        ValueError for labels that are none, one class, or as many as there are not texts; InputError, which is one,
        for what is no text and for parameters that no training can have. KeyboardInterrupt by Ctrl-C.
        """
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val go together: give both or none")
        rows, labels = _rows(X, y, sample_weight, "X and y")
        classes = np.unique(labels)
        if len(classes) < 2:
            raise ValueError(f"a classifier needs labels of two classes or more, got {len(classes)} class")
        if X_val is None:
            data = self._splits(rows)
        else:
            validation, known = _rows(X_val, y_val, sample_weight_val, "X_val and y_val")
            if strange := sorted(set(known.tolist()) - set(classes.tolist())):
                raise ValueError(f"y_val has labels that y has not: {strange[0]!r}")
            data = Splits(rows, validation, LabelledTexts([], []))
        renamed = {"class_weights": "class_weight", "seed": "random_state"}
        with in_python(**renamed), TemporaryDirectory() as folder, isolate_rng():
            run = RunFolder(Path(folder) / "run")
            try:
                console = Console(stderr=True, quiet=not self.verbose)
                self.history_ = train(self._options([str(name) for name in classes]), run, console, data=data).rows
            except Stopped as stop:
                raise KeyboardInterrupt from stop
            self.model_ = TextClassifier.from_pretrained(run.path)
        self.classes_ = classes
        return self

    def predict_proba(self, X: Iterable[str]) -> NDArray[np.float64]:  # noqa: N803
        """Give the probability of each class, `[N, C]` in the order of `classes_`, each row summing to 1."""
        check_is_fitted(self, "model_")
        predictions = self.model_.predict(_texts(X))
        names = [str(name) for name in self.classes_]
        rows = [[prediction.probabilities[name] for name in names] for prediction in predictions]
        return np.array(rows, dtype=np.float64).reshape(-1, len(names))

    def predict(self, X: Iterable[str]) -> NDArray[Any]:  # noqa: N803
        """Give the class of each text, `[N]`: the likeliest, or, of two, what the threshold says."""
        check_is_fitted(self, "model_")
        places = {str(name): place for place, name in enumerate(self.classes_)}
        predictions = self.model_.predict(_texts(X))
        found: NDArray[Any] = self.classes_[[places[prediction.label] for prediction in predictions]]
        return found

    def _options(self, names: list[str]) -> ClassifyOptions:
        weights = self.class_weight or "none"
        if isinstance(weights, dict):
            weights = ",".join(f"{name}={weight}" for name, weight in weights.items())
        return ClassifyOptions(
            seed=self.random_state,
            epochs=self.epochs,
            patience=self.patience,
            batch_size=self.batch_size,
            lr=self.lr,
            threads=self.threads,
            embedding_size=self.embedding_size,
            hidden_size=self.hidden_size,
            dropout=self.dropout,
            pooling=self.pooling,
            class_weights=weights,
            tokens=self.tokens,
            metric=self.metric,
            threshold=None if self.threshold is None else f"{names[1]}={self.threshold}",
        )

    def _splits(self, rows: LabelledTexts) -> Splits[LabelledTexts, LabelledTexts]:
        """Keep some texts to validate on, of labels that are left to train on; all, where there are too few."""
        fraction = self.validation_fraction
        if not 0 < fraction < 1:
            raise ValueError(f"validation_fraction must lie between 0 and 1, got {fraction!r}")
        validation, training = split(rows, (fraction, 1 - fraction))
        known = set(training.labels)
        alone = [row for row, label in enumerate(validation.labels) if label not in known]
        others = [row for row, label in enumerate(validation.labels) if label in known]
        training = training.joined(validation.take(alone))
        return Splits(training, validation.take(others) if others else rows, LabelledTexts([], []))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags


def _rows(X: Any, y: Any, weight: Any, names: str) -> tuple[LabelledTexts, NDArray[Any]]:  # noqa: N803
    """Give the texts with their labels as strings, and the labels; those of weight 0 are left out."""
    texts, labels = _texts(X), column_or_1d(y, warn=True)
    check_classification_targets(labels)
    if len(texts) != len(labels):
        raise ValueError(f"{names} must be of one length, got {len(texts)} texts and {len(labels)} labels")
    written = [str(label) for label in labels]
    if weight is None:
        return LabelledTexts(texts, written), labels
    weights = _check_sample_weight(weight, texts, dtype=np.float64, ensure_non_negative=True)
    kept = np.flatnonzero(weights)
    return LabelledTexts(texts, written, weights=weights.tolist()).take(kept.tolist()), labels[kept]


def _texts(X: Any) -> list[str]:  # noqa: N803
    """Give the texts of any one-dimensional sequence of them."""
    if isinstance(X, str) or getattr(X, "ndim", 1) != 1:
        raise InputError(f"expected a sequence of texts, got {'one text' if isinstance(X, str) else 'an array'}")
    texts = [str(text) if isinstance(text, np.str_) else text for text in X]
    wrong = [type(text).__name__ for text in texts if not isinstance(text, str)]
    if wrong:
        raise InputError(f"expected a sequence of texts, got a {wrong[0]} in it")
    return texts
