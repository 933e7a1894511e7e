"""Ready models: a configuration and a module each."""

from fastgru.models.classifier import Prediction
from fastgru.models.ensemble import Seq2SeqEnsemble
from fastgru.models.g2p_en import seq2seq_from_g2p_en
from fastgru.models.generation import Alignment, GeneratedText, TextGenerator
from fastgru.models.log_mel import LogMel
from fastgru.models.seq2seq import Seq2Seq, Seq2SeqConfig
from fastgru.models.sequence_classifier import SequenceClassifier, SequenceClassifierConfig
from fastgru.models.text_classifier import TextClassifier, TextClassifierConfig

__all__ = [
    "Alignment",
    "GeneratedText",
    "LogMel",
    "Prediction",
    "Seq2Seq",
    "Seq2SeqConfig",
    "Seq2SeqEnsemble",
    "SequenceClassifier",
    "SequenceClassifierConfig",
    "TextClassifier",
    "TextClassifierConfig",
    "TextGenerator",
    "seq2seq_from_g2p_en",
]
