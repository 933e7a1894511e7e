"""Ready models: a configuration and a module each."""

from fastgru.models.classifier import Prediction
from fastgru.models.g2p_en import seq2seq_from_g2p_en
from fastgru.models.log_mel import LogMel
from fastgru.models.seq2seq import Alignment, Seq2Seq, Seq2SeqConfig, Written
from fastgru.models.sequence_classifier import SequenceClassifier, SequenceClassifierConfig
from fastgru.models.text_classifier import TextClassifier, TextClassifierConfig

__all__ = [
    "Alignment",
    "LogMel",
    "Prediction",
    "Seq2Seq",
    "Seq2SeqConfig",
    "SequenceClassifier",
    "SequenceClassifierConfig",
    "TextClassifier",
    "TextClassifierConfig",
    "Written",
    "seq2seq_from_g2p_en",
]
