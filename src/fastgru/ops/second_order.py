"""The gradients of a plain layer's gradients in closed form, of torch's operators: they can be differentiated again.

The gradients that a backward pass gives are J^T c: J the Jacobian of the layer's outputs by its leaves, c the
cotangents dy and dh_n. Each has a cotangent in turn, together v, and S = <v, J^T c> = <J v, c> is to be differentiated:

    dS/dc = J v, the tangents of the outputs
    dS/dleaves: back through the tangents, and through the states that they go with

With the gates of all steps at once, which follow from y, what is left to do step by step is linear. From one step to
the next go the tangent d of the state forwards, and backwards its cotangent and that of the state, by the same map:

    d' = z d  + sum over gates of k (W_hh d)   + what depends on no state's tangent
    c  = z c' + W_hh^T (k c' for each gate)    + what depends on no later cotangent

where k [T, B, 3H] are the derivatives of the next state by W_hh h, and k_x those by W_ih x.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from fastgru.core.layer import Layer

Maybe = Tensor | None


def is_plain_layer(given: Layer) -> bool:
    """Whether the closed form is of such a layer: every step of every sequence, and no option that changes numbers."""
    variant = given.variant
    return (
        all(tensor is None for tensor in (*given.steps, *given.noise, given.initial))
        and variant.reset_after
        and variant.keep == 1
        and not (variant.tbptt or variant.layer_norm)
    )


def plain_second_gradients(
    given: Layer, y: Tensor, dy: Maybe, dh_n: Maybe, cotangents: Sequence[Maybe]
) -> tuple[Maybe, ...]:
    """The gradients of the gradients of a layer that `is_plain_layer`: by dy, dh_n, x, h0, initial (None), weights.

    y [T, B, D*H]: its output; dy, dh_n [D, B, H]: the cotangents of its outputs; cotangents: those of the gradients of
    its leaves. None stands for zeros, and for what is to be had of None.
    """
    variant, hidden, count = given.variant, given.hidden_size, given.variant.weights_per_direction
    vx, vh0, _, *v = cotangents
    found = []
    for number in range(variant.directions):
        is_reverse = variant.reverse or number == 1
        columns, own = (slice(number * size, (number + 1) * size) for size in (hidden, count))
        x, d_x = (_in_own_time(series, is_reverse) for series in (given.x, vx))
        states, c = (_in_own_time(None if t is None else t[..., columns], is_reverse) for t in (y, dy))
        h0, d_h0, c_last = (None if tensor is None else tensor[number] for tensor in (given.h0, vh0, dh_n))
        leaves = _leaves(x, torch.zeros_like(states[0]) if h0 is None else h0, given.weights[own])
        d_after, d_last, by = _of_direction(leaves, _leaves(d_x, d_h0, v[own]), states, c, c_last)
        found.append((_in_own_time(d_after, is_reverse), d_last, by._replace(x=_in_own_time(by.x, is_reverse))))
    ddys, ddh_ns, each = zip(*found, strict=True)
    dx = each[0].x if len(each) == 1 else each[0].x + each[1].x
    dh0 = None if given.h0 is None else torch.stack([leaves.h0 for leaves in each])
    weights = [weight for leaves in each for weight in leaves[2 : 2 + count]]
    ddy = None if dy is None else torch.cat(ddys, -1)
    ddh_n = None if dh_n is None else torch.stack(ddh_ns)
    return ddy, ddh_n, dx, dh0, None, *weights


class _Leaves(NamedTuple):
    """What one direction is differentiated by, in the order of its own time; or a tensor or None for each of it."""

    x: Any
    h0: Any
    w_ih: Any
    w_hh: Any
    b_ih: Any
    b_hh: Any


def _leaves(x: Maybe, h0: Maybe, weights: Sequence[Maybe]) -> _Leaves:
    return _Leaves(x, h0, *weights, *(None,) * (4 - len(weights)))


def _in_own_time(series: Maybe, is_reverse: bool) -> Any:
    return series.flip(0) if is_reverse and series is not None else series


class _Gates(NamedTuple):
    """Of all steps: r, z, n and q = W_hn h + b_hn [T, B, H]; rz [T, B, 2, H] and the slopes of sigmoid and tanh there.

    by_r_and_z [T, B, 2, H]: the derivatives of the next state by r and z; k, k_x [T, B, 3, H].
    """

    r: Tensor
    n: Tensor
    q: Tensor
    rz: Tensor
    slope_rz: Tensor
    slope_n: Tensor
    by_r_and_z: Tensor
    k: Tensor
    k_x: Tensor


def _gates(leaves: _Leaves, before: Tensor) -> _Gates:
    gx, gh = _three(linear(leaves.x, leaves.w_ih, leaves.b_ih)), _three(linear(before, leaves.w_hh, leaves.b_hh))
    rz, q = torch.sigmoid(gx[..., :2, :] + gh[..., :2, :]), gh[..., 2, :]
    r, z = rz.unbind(-2)
    n = torch.tanh(torch.addcmul(gx[..., 2, :], r, q))
    slope_rz, slope_n = torch.addcmul(rz, rz, rz, value=-1), 1 - n * n
    k_n = torch.addcmul(slope_n, z, slope_n, value=-1)
    by_r_and_z = torch.stack([k_n * q, before - n], -2)
    k_rz = slope_rz * by_r_and_z
    k, k_x = (torch.cat([k_rz, last.unsqueeze(-2)], -2) for last in (k_n * r, k_n))
    return _Gates(r, n, q, rz, slope_rz, slope_n, by_r_and_z, k, k_x)


def _of_direction(
    leaves: _Leaves, tangents: _Leaves, y: Tensor, dy: Maybe, dh_n: Maybe
) -> tuple[Tensor, Tensor, _Leaves]:
    """Of one direction: by dy and dh_n, and by its leaves. `d` is for tangents, `by` for cotangents."""
    x, h0, w_ih, w_hh, _, _ = leaves
    before = h0[None] if len(y) == 1 else torch.cat([h0[None], y[:-1]])
    gates = _gates(leaves, before)
    z, k, k_x = gates.rz[..., 1, :], gates.k, gates.k_x

    # Forwards: the tangents of W_ih x and W_hh h, and of the state before each step and after it.
    dgx = _tangent(x, w_ih, tangents.x, tangents.w_ih, tangents.b_ih)
    dgh = _tangent(before, w_hh, None, tangents.w_hh, tangents.b_hh)
    source = _sum(None if dgx is None else (dgx * k_x).sum(-2), None if dgh is None else (dgh * k).sum(-2))
    d_before, d_after = _forwards(z, k, w_hh, torch.zeros_like(y) if source is None else source, tangents.h0)
    if d_before is not None:
        dgh = _sum(dgh, _three(linear(d_before, w_hh)))

    # Backwards: the cotangents of the tangents, and what these leave with the gates and with the state before.
    by_d = _backwards(z, k, w_hh, dy, dh_n)
    by_gx, by_gh, dz = _by_gates(gates, before, d_before, dgx, dgh, by_d)
    by_dgx, by_dgh = (factors * by_d.unsqueeze(-2) for factors in (k_x, k))
    by_before = torch.addcmul(by_gh.flatten(-2) @ w_hh, dz, by_d)
    if tangents.w_hh is not None:
        by_before = by_before + by_dgh.flatten(-2) @ tangents.w_hh

    # Backwards once more: the cotangents of the state itself; that of the last has nothing of this.
    by_h0 = by_before[0]
    if len(y) > 1:
        by_h = _backwards(z, k, w_hh, torch.cat([by_before[1:], torch.zeros_like(y[:1])]), None)
        by_gx, by_gh = (torch.addcmul(by, factors, by_h.unsqueeze(-2)) for by, factors in ((by_gx, k_x), (by_gh, k)))
        by_h0 = by_h0 + _back(z[0], k[0], w_hh, by_h[0])
    by_x = by_gx.flatten(-2) @ w_ih
    return (
        d_after,
        d_after[-1],
        _Leaves(
            by_x if tangents.w_ih is None else by_x + by_dgx.flatten(-2) @ tangents.w_ih,
            by_h0,
            _sum(_outer(by_gx, x), None if tangents.x is None else _outer(by_dgx, tangents.x)),
            _sum(_outer(by_gh, before), None if d_before is None else _outer(by_dgh, d_before)),
            by_gx.sum((0, 1)).flatten(),
            by_gh.sum((0, 1)).flatten(),
        ),
    )


def _by_gates(
    gates: _Gates, before: Tensor, d_before: Maybe, dgx: Maybe, dgh: Maybe, by_d: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The cotangents of W_ih x and W_hh h [T, B, 3, H] that those of the tangents leave, and the tangent of z."""
    dg = _sum(dgx, dgh)
    d_rz = torch.zeros_like(gates.rz) if dg is None else gates.slope_rz * dg[..., :2, :]
    dr, dz = d_rz.unbind(-2)
    in_tanh = dr * gates.q if dgx is None else torch.addcmul(dgx[..., 2, :], dr, gates.q)
    if dgh is not None:
        in_tanh = torch.addcmul(in_tanh, gates.r, dgh[..., 2, :])
    k_n = gates.k_x[..., 2, :]
    by_tanh = k_n * by_d
    by_n = -by_d * torch.addcmul(2 * k_n * gates.n * in_tanh, gates.slope_n, dz)
    by_r = gates.q * by_n if dgh is None else torch.addcmul(gates.q * by_n, dgh[..., 2, :], by_tanh)
    of_z = -gates.slope_n * in_tanh
    by_z = by_d * (of_z if d_before is None else of_z + d_before)
    curved = (1 - 2 * gates.rz) * d_rz * gates.by_r_and_z * by_d.unsqueeze(-2)
    by_rz = torch.addcmul(curved, gates.slope_rz, torch.stack([by_r, by_z], -2))
    by_q = torch.addcmul(dr * by_tanh, gates.r, by_n)
    by_gx, by_gh = (torch.cat([by_rz, last.unsqueeze(-2)], -2) for last in (by_n, by_q))
    return by_gx, by_gh, dz


def _three(values: Tensor) -> Any:
    """[..., 3H] as [..., 3, H]."""
    return values.unflatten(-1, (3, -1))


def _tangent(value: Tensor, weight: Tensor, d_value: Maybe, d_weight: Maybe, d_bias: Maybe) -> Maybe:
    """That of `linear(value, weight, bias)`, [T, B, 3, H]; None where it is zero."""
    found = None if d_value is None else linear(d_value, weight)
    if d_weight is not None:
        found = _sum(found, linear(value, d_weight))
    if d_bias is not None:
        found = d_bias.expand(*value.shape[:-1], -1) if found is None else found + d_bias
    return None if found is None else _three(found)


def _sum(one: Maybe, other: Maybe) -> Any:
    return other if one is None else one if other is None else one + other


def _outer(by: Tensor, value: Tensor) -> Tensor:
    """The sum over all steps of by^T value, [3H, ...]."""
    return by.flatten(0, 1).flatten(1).T @ value.flatten(0, 1)


def _forwards(z: Tensor, k: Tensor, w_hh: Tensor, source: Tensor, d: Maybe) -> tuple[Maybe, Tensor]:
    """The state's tangent before each step (None: zero) and after it, [T, B, H] each."""
    if len(z) == 1 and d is None:
        return None, source
    d = torch.zeros_like(source[0]) if d is None else d
    found = [d]
    for z_t, k_t, source_t in zip(z.unbind(), k.unbind(), source.unbind(), strict=True):
        d = torch.addcmul(source_t + (_three(linear(d, w_hh)) * k_t).sum(-2), z_t, d)
        found.append(d)
    return torch.stack(found[:-1]), torch.stack(found[1:])


def _backwards(z: Tensor, k: Tensor, w_hh: Tensor, given: Maybe, last: Maybe) -> Tensor:
    """The cotangents of the state, or of its tangent, after each step [T, B, H].

    given: what these have from elsewhere than the next step; last: what the last has besides. One of them is there.
    """
    each: Sequence[Any] = [None] * len(z) if given is None else given.unbind()
    c = _sum(each[-1], last)
    found = [c]
    for z_t, k_t, other in zip(
        *(reversed(steps) for steps in (z.unbind()[1:], k.unbind()[1:], each[:-1])), strict=True
    ):
        c = _sum(_back(z_t, k_t, w_hh, c), other)
        found.append(c)
    return torch.stack(found[::-1])


def _back(z: Tensor, k: Tensor, w_hh: Tensor, c: Any) -> Tensor:
    """From after one step to before it."""
    found: Tensor = torch.addcmul((k * c.unsqueeze(-2)).flatten(-2) @ w_hh, z, c)
    return found
