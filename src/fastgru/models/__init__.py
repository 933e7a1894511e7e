"""Ready models: a configuration and a module each."""

from fastgru.models.classifier import Prediction
from fastgru.models.log_mel import LogMel
from fastgru.models.sequence_classifier import SequenceClassifier, SequenceClassifierConfig
from fastgru.models.text_classifier import TextClassifier, TextClassifierConfig

__all__ = [
    "LogMel",
    "Prediction",
    "SequenceClassifier",
    "SequenceClassifierConfig",
    "TextClassifier",
    "TextClassifierConfig",
]
