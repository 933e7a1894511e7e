"""Ready models: a configuration and a module each."""

from fastgru.models.g2p_en import seq2seq_from_g2p_en
from fastgru.models.seq2seq import Alignment, Seq2Seq, Seq2SeqConfig, Written
from fastgru.models.text_classifier import Prediction, TextClassifier, TextClassifierConfig

__all__ = [
    "Alignment",
    "Prediction",
    "Seq2Seq",
    "Seq2SeqConfig",
    "TextClassifier",
    "TextClassifierConfig",
    "Written",
    "seq2seq_from_g2p_en",
]
