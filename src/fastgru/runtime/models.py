"""The ready models of `fastgru.models` without torch: loaded from what `save_pretrained` wrote, for `predict`."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastgru.common.errors import InputError, reason_of
from fastgru.inference.classifier_config import SequenceClassifierConfig, TextClassifierConfig
from fastgru.inference.folder import ready_models
from fastgru.inference.saved import read_saved
from fastgru.inference.seq2seq_config import Seq2SeqConfig
from fastgru.inference.tokens import read_tokenizer

if TYPE_CHECKING:
    from fastgru.runtime.classifiers import SequenceClassifier, TextClassifier
    from fastgru.runtime.seq2seq import Seq2Seq, Seq2SeqEnsemble

__all__ = ["Seq2Seq", "Seq2SeqEnsemble", "SequenceClassifier", "TextClassifier", "load_model", "ready_models"]

# Where each stands: only the one that a folder holds is imported, milliseconds of a program's start.
_HOMES = {
    "SequenceClassifier": "fastgru.runtime.classifiers",
    "TextClassifier": "fastgru.runtime.classifiers",
    "Seq2Seq": "fastgru.runtime.seq2seq",
    "Seq2SeqEnsemble": "fastgru.runtime.seq2seq",
}
KINDS = {
    TextClassifierConfig.model_type: "TextClassifier",
    SequenceClassifierConfig.model_type: "SequenceClassifier",
    Seq2SeqConfig.model_type: "Seq2Seq",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def load_model(name: str | Path, *, threads: int = 1) -> "TextClassifier | SequenceClassifier | Seq2Seq":
    """Load the model in a folder that `save_pretrained` wrote, or by its name a ready one, or one on the Hub.

    A path that is there wins over a ready model's name (`ready_models`); the Hub needs huggingface_hub.

    `threads`: how many a GRU may use. InputError where there is no such model, or a file of it is broken, cut, of
    other sizes than config.json tells, or holds what no model of ours can have.

    >>> import numpy
    >>> from fastgru.models import SequenceClassifier, SequenceClassifierConfig
    >>> from fastgru.runtime.models import load_model
    >>> SequenceClassifier(SequenceClassifierConfig(["down", "up"], input_size=3)).save_pretrained("moves")
    >>> load_model("moves").config.labels
    ['down', 'up']
    """
    try:
        saved = read_saved(name, read_tokenizer=read_tokenizer)
        kind = __getattr__(KINDS[saved.config.model_type])
        return kind(saved.config, *saved.tokenizers, saved.weights, threads)  # type: ignore[no-any-return]
    except InputError:
        raise
    # Unreadable files, a broken configuration, other weights, a name that is not on the Hub.
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{name} cannot be loaded as a model: {reason_of(error)}") from error
