"""Ready models: a configuration and a module each."""

from fastgru.models.seq2seq import Seq2Seq, Seq2SeqConfig, Written
from fastgru.models.text_classifier import Prediction, TextClassifier, TextClassifierConfig

__all__ = ["Prediction", "Seq2Seq", "Seq2SeqConfig", "TextClassifier", "TextClassifierConfig", "Written"]
