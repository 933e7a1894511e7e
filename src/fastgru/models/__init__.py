"""Ready models: a configuration and a module each."""

from fastgru.models.text_classifier import Prediction, TextClassifier, TextClassifierConfig

__all__ = ["Prediction", "TextClassifier", "TextClassifierConfig"]
