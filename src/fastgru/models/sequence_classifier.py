"""SequenceClassifier: a GRU that tells which label a sequence of vectors has: speech, motion, any signal."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from fastgru.inference.batches import as_vectors
from fastgru.inference.classifier_config import SequenceClassifierConfig
from fastgru.inference.prediction import Prediction
from fastgru.models.classifier import Classifier
from fastgru.models.pooling import Pooling
from fastgru.nn import GRU

MODEL_CARD = """---
{{ card_data }}
---

A classifier of sequences on a GRU, made with fastgru. Install `fastgru[train]`, or `fastgru[audio]` for sounds, then

    from fastgru.models import SequenceClassifier

    model = SequenceClassifier.from_pretrained("this folder, or its name on the Hub")
    model.predict([sequence])  # arrays or tensors [steps, features]
"""


class SequenceClassifier(Classifier, model_card_template=MODEL_CARD, library_name="fastgru"):
    """Tells which label a sequence of vectors has: standardisation, GRU, pooled states, dropout, linear.

        logits = W pooling(y, h_n) + b,  y, h_n = GRU((x - mean) / deviation)

    `mean [I]`, `deviation [I]`: buffers, those of the training part (`fit_standardisation`).

    >>> import numpy
    >>> from fastgru.models import SequenceClassifier, SequenceClassifierConfig
    >>> model = SequenceClassifier(SequenceClassifierConfig(["down", "up"], input_size=3))
    >>> (found,) = model.predict([numpy.zeros((20, 3))])
    >>> list(found.probabilities)
    ['down', 'up']
    """

    config_type = SequenceClassifierConfig
    mean: Tensor
    deviation: Tensor

    def __init__(self, config: SequenceClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.gru = GRU(
            config.input_size,
            config.hidden_size,
            config.num_layers,
            batch_first=True,
            dropout=config.dropout if config.num_layers > 1 else 0.0,
            bidirectional=config.bidirectional,
        )
        self.pooling = Pooling(config.pooling, config.hidden_size * (1 + config.bidirectional))
        self.classify = nn.Linear(self.pooling.out_features, len(config.labels))
        self.register_buffer("mean", torch.zeros(config.input_size))
        self.register_buffer("deviation", torch.ones(config.input_size))

    @torch.no_grad()
    def fit_standardisation(self, sequences: Iterable[Any]) -> None:
        """Take mean and deviation of each feature over all steps of `sequences`, each [T, I].

        A feature that never changes keeps a deviation of 1.
        """
        count, first = 0, None
        total = squares = torch.zeros_like(self.mean, dtype=torch.float64)
        for sequence in sequences:
            values = torch.as_tensor(sequence, device=self.mean.device).double()
            # Sums of squares around a step of the data, lest a far mean swallow the deviation.
            first = values[0] if first is None else first
            count, total = count + len(values), total + (values - first).sum(0)
            squares = squares + (values - first).square().sum(0)
        if first is None:
            raise ValueError("fit_standardisation needs one sequence or more")
        mean = total / count
        deviation = (squares / count - mean.square()).clamp(min=0).sqrt()
        self.mean.copy_(first + mean)
        self.deviation.copy_(torch.where(deviation > 1e-6 * (first + mean).abs().clamp(min=1e-6), deviation, 1.0))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Give logits `[B, C]`.

        `x [B, T, I]`: sequences, padded with anything. `lengths [B] int64`: steps of each, from 1 to T.
        ValueError for an empty batch, and for a length that is below 1 or beyond T.
        """
        shortest, longest = (int(length) for length in lengths.aminmax()) if x.numel() else (0, 0)
        if shortest < 1 or longest > x.shape[1]:
            raise ValueError(f"lengths of sequences in x {[*x.shape]} must be from 1 to T, got {lengths.tolist()}")
        y, h_n = self._states(self._standardise(x[:, :longest]), lengths)
        features = self.pooling(y, h_n[-1 - self.config.bidirectional :], lengths)
        logits: Tensor = self.classify(nn.functional.dropout(features, self.config.dropout, self.training))
        return logits

    def _standardise(self, x: Tensor) -> Tensor:
        x = (x - self.mean) / self.deviation
        return x + self.config.noise * torch.randn_like(x) if self.training and self.config.noise else x

    def _states(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        if x.is_cpu:  # our kernels find the steps where they lie
            y, h_n = self.gru(x, lengths=lengths)
            return y, h_n
        # cuDNN knows no lengths, but packed sequences.
        packed, h_n = self.gru(pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False))
        return pad_packed_sequence(packed, batch_first=True)[0], h_n

    def predict(self, sequences: Iterable[Any], *, batch_size: int = 256) -> list[Prediction]:
        """Classify `sequences`, arrays or tensors [T, I]; in eval mode meanwhile, and afterwards as it was.

        A model of several labels gives MultiLabelPredictions, one of regression Estimates.

        ValueError for a batch_size below 1, InputError for what is no sequence of I finite numbers a step.
        """
        rows = [self._row(sequence, number) for number, sequence in enumerate(sequences, start=1)]
        return self._predict_rows(rows, pad_sequences, batch_size)

    def predict_parts(self, parts: Iterable[Any]) -> Iterator[Prediction]:
        """Classify one sequence that comes in parts, each [t, I]: after every part, what `predict` says of all so far.

        The state goes from part to part; nothing is kept of the parts, however long the sequence.
        ValueError for a model that reads from both ends or pools by attention, InputError as in `predict`.
        """
        if self.config.bidirectional or "attention" in self.config.pooling:
            raise ValueError("a sequence in parts needs a model with bidirectional=False, without pooling by attention")
        state: Tensor | None = None
        pooled = {"max": self.mean.new_full((self.config.hidden_size,), float("-inf"))}
        total, count = torch.zeros_like(pooled["max"]), 0
        for number, part in enumerate(parts, start=1):
            row = self._row(part, number).to(self.mean.device)
            with torch.inference_mode(), self.in_eval_mode():
                y, state = self.gru(self._standardise(row), state)  # [t, H], [L, H]
                total, count = total + y.sum(0), count + len(y)
                pooled = {"last": state[-1], "max": torch.maximum(pooled["max"], y.amax(0)), "mean": total / count}
                logits = self.classify(torch.cat([pooled[name] for name in self.config.pooling]))
                (found,) = self._answers(logits[None])
            yield found

    def _row(self, sequence: Any, number: int) -> Tensor:
        return torch.from_numpy(as_vectors(sequence, number, self.config.input_size))


def pad_sequences(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Pad sequences to `x [B, T, I]` and give their `lengths [B] int64`."""
    return pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])
