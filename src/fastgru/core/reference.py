"""What a GRU computes: the definition, in plain torch, on any dtype and device.

One step, with `gx [B, 3H]` and `gh [B, 3H]` the input and the recurrent pre-activations, rows in the order r, z, n:

    gx = x W_ih^T + b_ih            gh = h W_hh^T + b_hh
    r  = sigmoid(gx_r + gh_r)
    z  = sigmoid(gx_z + gh_z)
    n  = tanh(gx_n + r * gh_n)
    h' = (1 - z) * n + z * h

This is the reset-after form of Cho et al. 2014 (arXiv:1406.1078, eq. 5 to 8) that cuDNN and torch.nn.GRU compute:
r multiplies `W_hn h + b_hn`. With `reset_after=False` it multiplies h itself, as in that paper:

    n  = tanh(gx_n + W_hn (r * h) + b_hn)

With layer norm (Ba et al. 2016, arXiv:1607.06450; the form of haste's LayerNormGRU), each over all 3H rows,

    gx = LayerNorm(x W_ih^T) * g_ih + b_ih            gh = LayerNorm(h W_hh^T) * g_hh + b_hh

    LayerNorm(v) = (v - mean(v)) / sqrt(mean((v - mean(v))^2) + 1e-5)

What enters W_hh is h times the recurrent mask where there is one; zoneout makes of h' what these equations give

    h + m * (h' - h)

with m a mask in training and 1 - p otherwise. Every operation is differentiable, twice as well as once, and in forward
mode. In half precision the products are half; the norms, the gates and the carried state float32.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgru.core.layer import Layer
from fastgru.core.low_precision import LowWeight, is_low, matrices_of
from fastgru.core.noise import real_steps
from fastgru.core.spec import GRUSpec
from fastgru.core.stack import run_layers, stack_of
from fastgru.core.steps import Steps, batch_of
from fastgru.core.torch_internals import is_batchedtensor

EPSILON = 1e-5  # of layer norm, as torch.nn.LayerNorm has it


class _Weights(NamedTuple):
    """One direction's: w_ih [3H, I], w_hh [3H, H], the biases and the gains [3H], None where there are none."""

    w_ih: Tensor | LowWeight
    w_hh: Tensor | LowWeight
    b_ih: Tensor | None = None
    b_hh: Tensor | None = None
    g_ih: Tensor | None = None
    g_hh: Tensor | None = None


def gru_cell(
    x: Tensor,
    h: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
    *,
    reset_after: bool = True,
) -> Tensor:
    """One step: the next state.

    x [B, I]: the input; h [B, H]: the state; w_ih [3H, I], w_hh [3H, H], b_ih and b_hh [3H] or None: the weights.
    Returns h' [B, H] in the dtype of x.
    """
    h = _carried(h)
    gx = _pre_activations(x, w_ih, b_ih)
    return _step(gx, h, h, _Weights(w_ih, w_hh, b_ih, b_hh), reset_after).to(x.dtype)


def gru(
    spec: GRUSpec,
    x: Tensor,
    h0: Tensor,
    weights: Sequence[Tensor],
    lengths: Tensor | None = None,
    resets: Tensor | None = None,
    initial: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """A stack of layers over whole sequences.

    x [T, B, I]: the input, T >= 1.
    h0 [L*D, B, H]: the initial states, layer by layer, forward before reverse; [D, B, sum(H)] where the layers' H
        differ, one layer's after the other's, and initial and h_n likewise.
    weights: per layer and direction `w_ih [3H, I or D*H]`, `w_hh [3H, H]`, with bias `b_ih [3H]`, `b_hh [3H]` and, with
        layer_norm, `g_ih [3H]`, `g_hh [3H]`.
    lengths [B] integer or None: the real steps of each sequence; 0 is allowed. What stands at `t >= lengths[b]`
    changes no result and no gradient, NaN included.
    resets [T, B] bool or None: where it is true a new segment begins: the forward direction's step t, and the reverse
    direction's step t - 1, find `initial` [L*D, H], or zero. No gradient crosses a reset.

    Returns y [T, B, D*H], zero at `t >= lengths[b]`, and h_n [L*D, B, H], the state after each sequence's last real
    step in each direction (h0 where there is none). Between layers, in training, dropout draws its mask from torch's
    generator, for the real steps only, in the order of time: for the same seed these are torch.nn.GRU's masks.
    """
    outputs, h_n = run_layers(layer, stack_of(spec), x, h0, initial, weights, Steps(lengths=lengths, resets=resets))
    return outputs[-1], h_n


def layer(given: Layer) -> tuple[Tensor, Tensor]:
    """One layer: y in the form of x, and h_n [D, B, H]. Rows are padded before and taken out again after."""
    x, steps = given.x, given.steps
    if steps.rows_dim == 1:
        return _padded_layer(given)
    real, places = _places(steps, x)

    def pad(rows: Tensor) -> Tensor:
        return rows.new_zeros(*real.shape, *rows.shape[1:]).index_put(places, rows)

    resets = None if steps.resets is None else pad(steps.resets)
    zoneout = None if given.noise.zoneout is None else pad(given.noise.zoneout)
    padded = given._replace(
        x=pad(x),
        steps=Steps(lengths=real.sum(dim=0), resets=resets),
        noise=given.noise._replace(zoneout=zoneout),
    )
    y, h_n = _padded_layer(padded)
    return y[places], h_n


def _padded_layer(given: Layer) -> tuple[Tensor, Tensor]:
    x, (_, _, lengths, resets) = given.x, given.steps
    if x.size(0) == 0:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
    if lengths is not None and not is_batchedtensor(lengths):
        check_lengths(lengths, x.size(0))
    real = None if lengths is None else real_steps(lengths, x)
    fresh = None if resets is None else _fresh(resets, real)
    results = [_sweep(given, direction, real, fresh) for direction in range(given.variant.directions)]
    outputs, states = zip(*results, strict=True)
    return torch.cat(outputs, dim=-1), torch.stack(states)


def _places(steps: Steps, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The real steps [T, B] of packed or concatenated rows, and where among them each row lies."""
    if steps.offsets is None:
        assert steps.batch_sizes is not None
        sizes = steps.batch_sizes.to(x.device)
        real = torch.arange(int(sizes[0]), device=x.device) < sizes[:, None]
        return real, real.nonzero(as_tuple=True)  # by time: the order of the packed steps
    offsets = check_offsets(steps.offsets, x.size(0)).to(x.device)
    lengths = offsets.diff()
    real = torch.arange(max(int(lengths.max()), 1) if len(lengths) else 1, device=x.device)[:, None] < lengths
    sequences, times = real.T.nonzero(as_tuple=True)
    return real, (times, sequences)


def zero_state(spec: GRUSpec, x: Tensor, steps: Steps) -> Tensor:
    """The h0 of zeros."""
    return x.new_zeros(spec.states_shape(batch_of(steps, x)))


def check_lengths(lengths: Tensor, most: int) -> None:
    """Raise ValueError where lengths [B] are not all from 0 to T = `most`."""
    if not bool(((lengths >= 0) & (lengths <= most)).all()):
        raise ValueError(f"lengths must be from 0 to T={most}, got {lengths.tolist()}")


def check_offsets(offsets: Tensor, rows: int) -> Tensor:
    """Return offsets [B + 1]; raise ValueError where they do not go from 0 to `rows` without falling."""
    given = offsets.tolist()
    if given[0] != 0 or given[-1] != rows or any(later < earlier for earlier, later in pairwise(given)):
        raise ValueError(f"offsets must go from 0 to the {rows} rows of the input and never fall, got {given}")
    return offsets


def check_cell(x: Tensor, h: Tensor, weights: Sequence[Tensor]) -> None:
    """Raise RuntimeError, in torch.gru_cell's words, where x [B, I] and h [B, H] do not fit the weights."""
    input_size, hidden_size = weights[0].size(1), weights[1].size(1)
    if x.size(1) != input_size:
        raise RuntimeError(f"input has inconsistent input_size: got {x.size(1)} expected {input_size}")
    if x.size(0) != h.size(0):
        raise RuntimeError(f"Input batch size {x.size(0)} doesn't match hidden0 batch size {h.size(0)}")
    if h.size(1) != hidden_size:
        raise RuntimeError(f"hidden0 has inconsistent hidden_size: got {h.size(1)}, expected {hidden_size}")
    if h.dim() != 2:
        raise RuntimeError(f"hidden0 must be [B, {hidden_size}], got {[*h.shape]}; give one input [I] a state [H]")


def why_not_packed(x: Tensor, batch_sizes: Tensor) -> str | None:
    """What is wrong with batch_sizes [T] for the packed steps x [sum(batch_sizes), I], in words; None where nothing is.

    They are int64 on the CPU, at least 1, never growing, and together the rows of x.
    """
    if batch_sizes.dtype is not torch.int64 or batch_sizes.dim() != 1 or not batch_sizes.is_cpu:
        return f"batch_sizes must be [T] int64 on the CPU, not {batch_sizes.dim()}-D {batch_sizes.dtype}"
    sizes = batch_sizes.tolist()
    if any(later > earlier for earlier, later in pairwise(sizes)) or sizes[-1] < 1:
        return "batch_sizes must be at least 1 and never grow"
    if sum(sizes) != x.size(0):
        return f"batch_sizes promise {sum(sizes)} rows, and there are {x.size(0)}"
    return None


def _fresh(resets: Tensor, real: Tensor | None) -> list[Tensor]:
    """Which steps [T, B] find a state of zero, forward and in reverse."""
    if real is not None:
        resets = resets & real
    return [resets, torch.cat([resets[1:], torch.zeros_like(resets[:1])])]


def _sweep(given: Layer, direction: int, real: Tensor | None, resets: list[Tensor] | None) -> tuple[Tensor, Tensor]:
    """One direction: y [T, B, H] and the last state [B, H]."""
    variant, x = given.variant, given.x
    reverse = direction == 1 or variant.reverse
    fresh = None if resets is None else resets[reverse]
    own = _own_weights(given, direction)
    recurrent, zoneout = _own_masks(given, direction)
    if real is not None:
        x = torch.where(real[..., None], x, 0)  # a NaN in the padding would reach the weights' gradients as 0 * NaN
    gx = _pre_activations(x, own.w_ih, own.b_ih, own.g_ih)  # [T, B, 3H]
    h = _carried(x.new_zeros(x.size(1), given.hidden_size) if given.h0 is None else given.h0[direction])
    start = 0 if given.initial is None else _carried(given.initial[direction])
    y = {}
    for t in range(x.size(0) - 1, -1, -1) if reverse else range(x.size(0)):
        h = _cut(h, variant.tbptt, t + reverse, x.size(0), real)
        if fresh is not None:
            h = torch.where(fresh[t, :, None], start, h)
        seen = h if recurrent is None else h * recurrent
        following = _step(gx[t], h, seen, own, variant.reset_after)
        if zoneout is not None:
            following = h + zoneout[t] * (following - h)
        elif variant.keep != 1:
            following = h + variant.keep * (following - h)
        if real is None:
            y[t] = h = following
        else:
            h = torch.where(real[t, :, None], following, h)
            y[t] = torch.where(real[t, :, None], h, 0)
    return torch.stack([y[t] for t in range(x.size(0))]).to(x.dtype), h.to(x.dtype)


def _own_weights(given: Layer, direction: int) -> _Weights:
    """One direction's weights."""
    variant, each = given.variant, len(given.weights) // given.variant.directions
    own = given.weights[direction * each : (direction + 1) * each]
    matrices: Sequence[Tensor | LowWeight]
    matrices, others = matrices_of(own) if is_low(own, given.x) else (own[:2], own[2:])
    biases = others[:2] if variant.bias else (None, None)
    gains = others[-2:] if variant.layer_norm else (None, None)
    return _Weights(*matrices, *biases, *gains)


def _own_masks(given: Layer, direction: int) -> tuple[Tensor | None, Tensor | None]:
    """One direction's factors [B, H] of the h that enters W_hh, and zoneout's m [T, B, H]."""
    recurrent, zoneout = given.noise
    units = given.hidden_size
    return (
        None if recurrent is None else recurrent[direction],
        None if zoneout is None else zoneout.narrow(-1, direction * units, units),
    )


def _cut(h: Tensor, tbptt: int, t: int, length: int, real: Tensor | None) -> Tensor:
    """The state between steps t - 1 and t, without its gradient where a stretch of `tbptt` steps begins with t."""
    if not tbptt or not 0 < t < length or t % tbptt:
        return h
    return h.detach() if real is None else torch.where(real[t, :, None], h.detach(), h)


def _step(gx: Tensor, h: Tensor, seen: Tensor, own: _Weights, reset_after: bool) -> Tensor:
    """The equations above: gx [B, 3H] and h [B, H] to h' [B, H], gates and state in the dtype in which h is carried.

    seen [B, H]: the h that enters W_hh.
    """
    gx_r, gx_z, gx_n = gx.chunk(3, dim=-1)
    _, w_hh, _, b_hh, _, g_hh = own
    if reset_after:
        gh_r, gh_z, gh_n = _pre_activations(seen, w_hh, b_hh, g_hh).chunk(3, dim=-1)
        r = torch.sigmoid(gx_r + gh_r)
        n = torch.tanh(gx_n + r * gh_n)
    else:
        units = h.size(-1)
        b_rz, b_n = (None, None) if b_hh is None else (b_hh[: 2 * units], b_hh[2 * units :])
        gh_r, gh_z = _pre_activations(seen, _rows(w_hh, 0, 2 * units), b_rz).chunk(2, dim=-1)
        r = torch.sigmoid(gx_r + gh_r)
        n = torch.tanh(gx_n + _pre_activations(r * seen, _rows(w_hh, 2 * units, None), b_n))
    z = torch.sigmoid(gx_z + gh_z)
    return (1 - z) * n + z * h


def _rows(w: Tensor | LowWeight, begin: int, end: int | None) -> Tensor | LowWeight:
    return w[begin:end] if isinstance(w, Tensor) else w.rows(begin, end)


def _pre_activations(v: Tensor, w: Tensor | LowWeight, b: Tensor | None, gain: Tensor | None = None) -> Tensor:
    """W v + b or, with a gain, LayerNorm(W v) * gain + b: the product in the dtype of w, the result as h is carried."""
    if isinstance(w, LowWeight):
        product = w.product(v)
        if gain is None:
            return product if b is None else product + b
    elif gain is None:
        return _carried(F.linear(v.to(w.dtype), w, b))
    else:
        product = _carried(F.linear(v.to(w.dtype), w))
    centred = product - product.mean(-1, keepdim=True)
    # not torch's layer_norm, whose backward has no forward mode
    normed = centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + EPSILON) * gain
    return normed if b is None else normed + b


def _carried(h: Tensor) -> Tensor:
    """The state in the dtype in which it is carried: at least float32."""
    return h.to(torch.promote_types(h.dtype, torch.float32))
