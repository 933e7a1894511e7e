"""What the classifiers are besides their weights: TextClassifierConfig and SequenceClassifierConfig."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fastgru.inference.entries import Entry, gru_entries, linear_entries, ngram_entries
from fastgru.inference.log_mel import LogMel
from fastgru.inference.problem import SINGLE, check_problem

TOKENIZER = "tokenizer.json"
POOLINGS = ("last", "max", "mean", "attention")


@dataclass(frozen=True)
class TextClassifierConfig:
    """What a TextClassifier is besides its weights.

    `labels [C]`: the names of the labels, in the order of the logits.
    `vocab_size` V, `embedding_size` I, `hidden_size` H, `num_layers` L: sizes.
    `word_dropout`: share of the tokens that become `[UNK]` in training.
    `embedding_dropout`, `dropout`: on the word vectors, and on the features that enter the last linear layer.
    `pooling`: what these features are made of, names out of `fastgru.inference.classifier_config.POOLINGS`.
    `ngrams`: how many n-grams of tokens have a vector of I / 2 features, which is added to that of the token in their
    middle (`fastgru.models.ngrams`); `longest_ngram`: tokens in the longest of them, an odd number.
    `threshold`: of two labels the second one is told from this probability on; None tells the likelier one.
    `problem_type`, `target_mean`, `target_deviation`: one label, several, or numbers, which `labels` then name
    (`fastgru.inference.problem`).

    >>> from fastgru.models import TextClassifierConfig
    >>> TextClassifierConfig(["bad", "good"], vocab_size=5000, pooling=["max", "attention"]).hidden_size
    64
    """

    model_type = "text_classifier"
    own_files = (TOKENIZER,)

    labels: list[str]
    vocab_size: int
    embedding_size: int = 200
    hidden_size: int = 64
    num_layers: int = 1
    word_dropout: float = 0.1
    embedding_dropout: float = 0.6
    dropout: float = 0.5
    pooling: list[str] = field(default_factory=lambda: ["last", "max", "mean"])
    ngrams: int = 0
    longest_ngram: int = 5
    threshold: float | None = None
    problem_type: str = SINGLE
    target_mean: list[float] = field(default_factory=list)
    target_deviation: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """ValueError for a configuration that no model can have."""
        sizes = ("vocab_size", "embedding_size", "hidden_size", "num_layers")
        _check(self, sizes=sizes, fractions=("word_dropout", "embedding_dropout", "dropout"))
        check_ngrams(self.ngrams, self.longest_ngram)
        _check_threshold(self.threshold, self.labels)

    @property
    def vocabularies(self) -> tuple[int, ...]:
        """The sizes of the vocabularies, in the order of `own_files`."""
        return (self.vocab_size,)

    def entries(self) -> Iterator[Entry]:
        """The weights of such a model."""
        yield from _head_entries(self, directions=2)
        yield Entry("embedding.weight", (self.vocab_size, self.embedding_size))
        yield from ngram_entries("embedding", self.ngrams, self.embedding_size)
        yield from gru_entries("gru", self.embedding_size, self.hidden_size, self.num_layers, 2)


@dataclass(frozen=True)
class SequenceClassifierConfig:
    """What a SequenceClassifier is besides its weights.

    `labels [C]`: the names of the labels, in the order of the logits.
    `input_size` I, `hidden_size` H, `num_layers` L: sizes. `bidirectional`: without it a sequence can come in parts.
    `noise`: the deviation of what is added to the standardised input in training.
    `dropout`: on the pooled states, and between layers.
    `pooling`: what the last layer sees, names out of `fastgru.inference.classifier_config.POOLINGS`.
    `features`: for a model of sounds, what it hears of them.
    `problem_type`, `target_mean`, `target_deviation`: one label, several, or numbers, which `labels` then name
    (`fastgru.inference.problem`).

    >>> from fastgru.models import LogMel, SequenceClassifierConfig
    >>> SequenceClassifierConfig(["yes", "no"], input_size=40, features=LogMel(num_bins=40)).bidirectional
    True
    """

    model_type = "sequence_classifier"
    own_files = ()

    labels: list[str]
    input_size: int
    hidden_size: int = 64
    num_layers: int = 1
    bidirectional: bool = True
    noise: float = 0.5
    dropout: float = 0.5
    pooling: list[str] = field(default_factory=lambda: ["last", "max", "mean"])
    features: LogMel | None = None
    problem_type: str = SINGLE
    target_mean: list[float] = field(default_factory=list)
    target_deviation: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """ValueError for a configuration that no model can have."""
        _check(self, sizes=("input_size", "hidden_size", "num_layers"), fractions=("dropout",))
        if not isinstance(self.bidirectional, bool):
            raise ValueError(f"bidirectional must be true or false, got {self.bidirectional!r}")
        if not isinstance(self.noise, float | int) or not 0 <= self.noise < float("inf"):
            raise ValueError(f"noise must be a number of at least 0, got {self.noise!r}")
        if isinstance(self.features, dict):  # as config.json has it
            object.__setattr__(self, "features", LogMel.of(self.features))
        if self.features is not None and not isinstance(self.features, LogMel):
            raise ValueError(f"features must be the settings of a LogMel, got {self.features!r}")
        if self.features is not None and self.features.num_bins != self.input_size:
            raise ValueError(f"features have {self.features.num_bins} bins, and input_size is {self.input_size}")

    @property
    def vocabularies(self) -> tuple[int, ...]:
        """None: what is read are numbers."""
        return ()

    def entries(self) -> Iterator[Entry]:
        """The weights of such a model."""
        directions = 2 if self.bidirectional else 1
        yield from _head_entries(self, directions)
        yield Entry("mean", (self.input_size,))
        yield Entry("deviation", (self.input_size,), positive=True)
        yield from gru_entries("gru", self.input_size, self.hidden_size, self.num_layers, directions)


def _head_entries(config: TextClassifierConfig | SequenceClassifierConfig, directions: int) -> Iterator[Entry]:
    size = directions * config.hidden_size
    yield from linear_entries("classify", size * len(config.pooling), len(config.labels))
    if "attention" in config.pooling:
        yield from linear_entries("pooling.attend.0", size, size)
        yield from linear_entries("pooling.attend.2", size, 1, bias=False)


def check_pooling(names: Any) -> None:
    """ValueError where `names` is no list of different names out of POOLINGS."""
    if not isinstance(names, list) or not names or any(name not in POOLINGS for name in names):
        raise ValueError(f"pooling must be a list of names out of {', '.join(POOLINGS)}, got {names!r}")
    if len(set(names)) < len(names):
        raise ValueError(f"pooling must be a list of different names, got {names!r}")


def check_size(name: str, size: object, least: int) -> None:
    """ValueError where `size` is no whole number of at least `least`."""
    if not isinstance(size, int) or isinstance(size, bool) or size < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {size!r}")


def check_ngrams(ngrams: object, longest: object) -> None:
    """ValueError where these are no number of n-grams, and no odd number of tokens in the longest of them."""
    check_size("ngrams", ngrams, 0)
    check_size("longest_ngram", longest, 3)
    if isinstance(longest, int) and longest % 2 == 0:
        raise ValueError(f"longest_ngram must be an odd number, got {longest}")


def _check_threshold(threshold: object, labels: list[str]) -> None:
    if threshold is None:
        return
    if not isinstance(threshold, float | int) or isinstance(threshold, bool) or not 0 < threshold < 1:
        raise ValueError(f"threshold must be a number between 0 and 1, got {threshold!r}")
    if len(labels) != 2:
        raise ValueError(f"a threshold is between two labels, and there are {len(labels)}")


def _check(config: Any, *, sizes: tuple[str, ...], fractions: tuple[str, ...]) -> None:
    """`sizes` are the fields that must be at least 1, `fractions` those from 0 to 1."""
    names = config.labels
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise ValueError(f"labels must be a list of names, got {names!r}")
    least = 2 if config.problem_type == SINGLE else 1
    if len(names) < least or len(set(names)) < len(names):
        raise ValueError(f"labels must be {'two' if least == 2 else 'one'} or more different names, got {names!r}")
    check_problem(config)
    check_pooling(config.pooling)
    for name in sizes:
        check_size(name, getattr(config, name), 1)
    for name in fractions:
        fraction = getattr(config, name)
        if not isinstance(fraction, float | int) or not 0 <= fraction <= 1:
            raise ValueError(f"{name} must be a number from 0 to 1, got {fraction!r}")
