"""Noise: what regularises a layer's state in training, drawn here, and nowhere else, from torch's generator.

The order in which masks are drawn is part of the definition, so that a seed gives every backend the same ones: for each
layer those between layers (`between_layers`), W_hh's (`drop_weights`), then the recurrent one and zoneout's (`draw`).

All but torch's own dropout between layers take 16 random bits an element, four elements of one number of 64 bits: for
100 x 32 x 256 elements 1.1 ms where torch.bernoulli takes 3.8 (one core of a Zen 5). So their probabilities are rounded
to multiples of 2^-16, those strictly between 0 and 1 never to these; a factor's mean is 1 all the same.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgru.core.spec import GRUSpec
from fastgru.core.steps import Steps, batch_of
from fastgru.core.torch_internals import are_transforms_active


class Noise(NamedTuple):
    """A layer's masks.

    recurrent [D, B, H]: factors of the h that enters W_hh, not of the h that z carries on: 0 or 1 / (1 - p), with p as
        rounded, one for a whole sequence (Gal and Ghahramani 2016, arXiv:1512.05287; Semeniuta et al. 2016 drop the
        update instead).
    zoneout [T, B, D*H], or [N, D*H] where the steps are rows: m in h' = h + m * (h~ - h), with h~ what the equations
        give; 1 with probability 1 - p (Krueger et al. 2017, arXiv:1606.01305).
    """

    recurrent: Tensor | None = None
    zoneout: Tensor | None = None


NO_NOISE = Noise()

_LEVELS = 2**16


def draw(spec: GRUSpec, hidden_size: int, x: Tensor, steps: Steps) -> Noise:
    """The masks of one layer for its input x."""
    if not spec.training or not (spec.recurrent_dropout or spec.zoneout):
        return NO_NOISE
    recurrent = zoneout = None
    if spec.recurrent_dropout:
        recurrent = _factors(x, (spec.directions, batch_of(steps, x), hidden_size), spec.recurrent_dropout)
    if spec.zoneout:
        shape = (*x.shape[:-1], spec.directions * hidden_size)
        zoneout = _kept(x, shape, spec.zoneout).to(x.dtype)
    return Noise(recurrent, zoneout)


def drop_weights(spec: GRUSpec, weights: Sequence[Tensor]) -> Sequence[Tensor]:
    """A layer's weights with each W_hh's elements zeroed with probability p (Merity et al. 2017, arXiv:1708.02182)."""
    if not spec.training or not spec.weight_dropout:
        return weights
    each = spec.weights_per_direction
    p = spec.weight_dropout
    return [w * _factors(w, w.shape, p) if i % each == 1 else w for i, w in enumerate(weights)]


def between_layers(spec: GRUSpec, y: Tensor, steps: Steps) -> Tensor:
    """What the next layer sees of y: dropout, as torch.nn.GRU has it or, variational, with one mask a sequence."""
    if not spec.training or not spec.dropout:
        return y
    if not spec.variational:
        return _dropout(y, spec.dropout, steps)
    factors = _factors(y, (batch_of(steps, y), y.size(-1)), spec.dropout)
    return y * (factors if steps.rows_dim == 1 else factors[_sequence_of_rows(y, steps)])


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Do what torch.nn.functional.dropout does, with masks of this room: for a model's parts beside its GRUs."""
    return x * _factors(x, x.shape, p) if training and p else x


def _factors(like: Tensor, shape: tuple[int, ...], p: float) -> Tensor:
    """0 with probability p, otherwise 1 / (1 - p)."""
    kept = _kept(like, shape, p).to(like.dtype)
    return kept if p >= 1 else kept * (_LEVELS / _levels_kept(p))


def _kept(like: Tensor, shape: tuple[int, ...], p: float) -> Tensor:
    """False with probability p, to the nearest of _LEVELS."""
    *outer, width = shape
    numbers = torch.randint(-(2**63), 2**63 - 1, (*outer, -(-width // 4)), dtype=torch.int64, device=like.device)
    return numbers.view(torch.int16)[..., :width] < _levels_kept(p) - _LEVELS // 2


def _levels_kept(p: float) -> int:
    """How many of _LEVELS equally likely numbers stand for what is kept."""
    return 0 if p >= 1 else min(max(round((1 - p) * _LEVELS), 1), _LEVELS - 1)


def _dropout(y: Tensor, p: float, steps: Steps) -> Tensor:
    """Zero elements of y with probability p, drawing for the real steps alone, in the order of time, as torch does.

    Under torch.func.vmap and torch.compile, which cannot count them, it draws for all steps.
    """
    uncounted = torch.compiler.is_compiling() or are_transforms_active()
    if steps.lengths is None or uncounted:
        return F.dropout(y, p)
    real = real_steps(steps.lengths, y)
    return torch.zeros_like(y).index_put((real,), F.dropout(y[real], p))


def real_steps(lengths: Tensor, x: Tensor) -> Tensor:
    """Which steps [T, B] of x [T, B, ...] each sequence has."""
    return torch.arange(x.size(0), device=x.device)[:, None] < lengths.to(x.device)


def _sequence_of_rows(y: Tensor, steps: Steps) -> Tensor:
    """Whose step each row of y is: the sequence's number [N]."""
    if steps.offsets is not None:
        offsets = steps.offsets.to(y.device, torch.int64)
        return torch.arange(offsets.size(0) - 1, device=y.device).repeat_interleave(
            offsets.diff(), output_size=y.size(0)
        )
    assert steps.batch_sizes is not None
    sizes = steps.batch_sizes.to(y.device)
    first = (sizes.cumsum(0) - sizes).repeat_interleave(sizes, output_size=y.size(0))
    return torch.arange(y.size(0), device=y.device) - first
