"""Ready models: a configuration and a module each."""

from fastgru.inference.classifier_config import SequenceClassifierConfig, TextClassifierConfig
from fastgru.inference.generation import Alignment, GeneratedText, TextGenerator
from fastgru.inference.log_mel import LogMel
from fastgru.inference.prediction import Estimate, MultiLabelPrediction, Prediction
from fastgru.inference.seq2seq_config import Seq2SeqConfig
from fastgru.models.ensemble import Seq2SeqEnsemble
from fastgru.models.g2p_en import seq2seq_from_g2p_en
from fastgru.models.seq2seq import Seq2Seq
from fastgru.models.sequence_classifier import SequenceClassifier
from fastgru.models.text_classifier import TextClassifier

__all__ = [
    "Alignment",
    "Estimate",
    "GeneratedText",
    "LogMel",
    "MultiLabelPrediction",
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
