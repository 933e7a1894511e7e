"""Attribution: how much each token of a text spoke for the label that a classifier gave it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from fastgru.common.errors import InputError
from fastgru.inference.prediction import predictions
from fastgru.inference.problem import SINGLE
from fastgru.inference.tokens import UNKNOWN_ID
from fastgru.models.text_classifier import TextClassifier

POINTS, MOST_POINTS = 32, 512
BATCH = 128  # texts a call of the model


@dataclass(frozen=True)
class Attribution:
    """What the tokens of one text had to say.

    `label`: what they are asked about; `probability`: the model's, of it. `spans`: where each token stands in `text`
    (from, to). `scores`: what each added to the log odds of `label`, in nats: 0.7 doubles the odds, -0.7 halves them.
    `base`: the log odds of a text of as many tokens that say nothing; base + sum of scores + gap = log(p / (1 - p)).
    `gap`: what the sum of finitely many points left over.
    `unknown`: whether the model knows each token as the unknown one alone. `probabilities`: the model's, of each label.

    >>> from fastgru.models.attribution import Attribution
    >>> found = Attribution("so dull", "bad", 0.9, [(0, 2), (3, 7)], scores=[0.3, 1.8], base=0.1, gap=0.0)
    >>> [found.text[begin:end] for begin, end in found.spans]
    ['so', 'dull']
    """

    text: str
    label: str
    probability: float
    spans: list[tuple[int, int]]
    scores: list[float]
    base: float
    gap: float
    unknown: list[bool] = field(default_factory=list)
    probabilities: dict[str, float] = field(default_factory=dict)


def attribute(model: TextClassifier, texts: list[str], label: str | None = None) -> list[Attribution]:
    """Attribute the model's answers to the tokens of `texts` by integrated gradients over the word vectors.

        score_t = sum over i of x_ti * integral over a from 0 to 1 of dF(a x) / dx_ti,  F = log odds of the label

    from word vectors of zero, as the padding has; Sundararajan, Taly and Yan 2017 (arXiv:1703.01365), equation 1. The
    integral is a Gauss-Legendre sum of 32 points, which are doubled to at most 512 until the gap is below a
    hundredth of F(x) - F(0), or of 1 nat where that is more.
    The model is in eval mode while it works, and afterwards as it was.

    `label`: which to ask about; what the model says of each text where it is None.

    Raises ValueError for a label that is none, InputError for what is no text.

    >>> from fastgru.data.tokenizer import train_tokenizer
    >>> from fastgru.models import TextClassifier, TextClassifierConfig
    >>> from fastgru.models.attribution import attribute
    >>> tokenizer = train_tokenizer(["a fine film", "a dull film"], min_count=1)
    >>> model = TextClassifier(TextClassifierConfig(["bad", "good"], tokenizer.get_vocab_size()), tokenizer)
    >>> (found,) = attribute(model, ["a dull film"], "bad")
    >>> found.label, len(found.scores)
    ('bad', 3)
    """
    names = model.config.labels
    if model.config.problem_type != SINGLE:
        raise InputError("words are attributed to one of several labels, and this model tells several, or numbers")
    if label is not None and label not in names:
        raise ValueError(f"label must be one of {', '.join(names)}, got {label!r}")
    model.encode(texts)  # refuses what is no text
    with model.in_eval_mode():
        return [_attribute(model, text, label) for text in texts]


def _attribute(model: TextClassifier, text: str, label: str | None) -> Attribution:
    encoding = model.tokenizer.encode(text)
    with torch.no_grad():
        ids = torch.tensor([encoding.ids or [UNKNOWN_ID]], device=model.embedding.weight.device)
        x = model.embedding(ids)[0]  # [T, I]
        probabilities = _logits(model, x[None]).softmax(1)[0]
    names = model.config.labels
    (found,) = predictions(names, [probabilities.tolist()], model.threshold)
    index = names.index(found.label if label is None else label)

    def log_odds(vectors: Tensor) -> Tensor:
        logits = _logits(model, vectors)
        others = torch.cat([logits[:, :index], logits[:, index + 1 :]], dim=1)
        return logits[:, index] - others.logsumexp(1)

    with torch.no_grad():
        base, whole = log_odds(torch.stack([torch.zeros_like(x), x])).tolist()
    scores, gap = _integrate(log_odds, x, whole - base)
    spans = encoding.offsets or [(0, len(text))]
    return Attribution(
        text=text,
        label=names[index],
        probability=float(probabilities[index]),
        spans=spans,
        scores=scores.tolist(),
        base=base,
        gap=gap,
        unknown=[token == UNKNOWN_ID for token in encoding.ids or [UNKNOWN_ID]],
        probabilities=dict(zip(names, probabilities.tolist(), strict=True)),
    )


def _logits(model: TextClassifier, vectors: Tensor) -> Tensor:
    lengths = torch.full((vectors.shape[0],), vectors.shape[1], device=vectors.device)
    return model.logits(vectors, lengths)


def _integrate(function: Callable[[Tensor], Tensor], x: Tensor, difference: float) -> tuple[Tensor, float]:
    """Give scores `[T]` and what they miss of `difference`."""
    points = POINTS
    while True:
        scores = (x * _mean_gradient(function, x, points)).sum(1)
        gap = difference - float(scores.sum())
        if abs(gap) <= 0.01 * max(1.0, abs(difference)) or points >= MOST_POINTS:
            return scores, gap
        points *= 2


def _mean_gradient(function: Callable[[Tensor], Tensor], x: Tensor, points: int) -> Tensor:
    """The integral, over a from 0 to 1, of the gradient at a x."""
    # Gauss-Legendre, from [-1, 1] to [0, 1]
    places, weights = (torch.from_numpy(each).to(x) / 2 for each in np.polynomial.legendre.leggauss(points))
    places = places + 0.5
    total = torch.zeros_like(x)
    for first in range(0, points, BATCH):
        batch = slice(first, first + BATCH)
        scaled = (places[batch, None, None] * x).requires_grad_()
        (gradients,) = torch.autograd.grad(function(scaled).sum(), scaled)
        total += torch.einsum("p,pti->ti", weights[batch], gradients)
    return total
