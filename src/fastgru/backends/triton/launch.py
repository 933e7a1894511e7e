"""The kernels around one layer: products of all steps before them and after them, and what they work in."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fastgru.backends.triton.plan import Plan
from fastgru.backends.triton.rows import rows_of
from fastgru.core.layer import Layer
from fastgru.core.reference import EPSILON

Maybe = Tensor | None


class Way(NamedTuple):
    """How a layer is run: its plan, the precision of Triton's products, the CTAs that a device holds at once."""

    plan: Plan
    precision: str
    at_once: int


class Call:
    """What both passes of one layer need of it, in the kernels' forms: contiguous, with zeros for what is not given.

    w_ih [D*3H, I], w_hh [D, 3H, H]; biases and gains [D, 3H]; h0 [D, B, H]; initial [D, H].
    """

    def __init__(self, given: Layer, way: Way) -> None:
        self.given, self.way, self.rows = given, way, rows_of(given)
        variant, x = given.variant, given.x
        self.directions, self.hidden, self.batch = variant.directions, given.hidden_size, self.rows.order.size(0)
        each = variant.weights_per_direction
        columns = [_joined(given.weights[i::each]) for i in range(each)]
        self.x = x.reshape(-1, x.size(-1))
        self.w_ih, self.w_hh = columns[0].flatten(0, 1), columns[1]
        gates = (self.directions, 3 * self.hidden)
        self.b_ih, self.b_hh = columns[2:4] if variant.bias else (x.new_zeros(gates),) * 2
        self.g_ih, self.g_hh = columns[-2:] if variant.layer_norm else (self.b_ih, self.b_hh)
        self.h0 = x.new_zeros(self.directions, self.batch, self.hidden) if given.h0 is None else given.h0.contiguous()
        self.initial = x.new_zeros(gates[0], self.hidden) if given.initial is None else given.initial.contiguous()

    @property
    def form(self) -> int:
        """FORM of tiles.py."""
        return 2 if self.given.variant.layer_norm else 0 if self.given.variant.reset_after else 1

    @property
    def flags(self) -> dict[str, Any]:
        """What a kernel is compiled for, beside the plan."""
        steps, (recurrent, zoneout) = self.given.steps, self.given.noise
        return {
            "HAS_RESETS": steps.resets is not None,
            "HAS_RECURRENT": recurrent is not None,
            "HAS_TIME": self.rows.starts is not None,
        } | {"ZONEOUT": 2 if zoneout is not None else 1 if self.given.variant.keep != 1 else 0, "FORM": self.form}

    @property
    def masks(self) -> tuple[Tensor, Tensor, Tensor]:
        """The recurrent mask, zoneout's and the resets; where there is none, some tensor."""
        (recurrent, zoneout), resets = self.given.noise, self.given.steps.resets
        return (
            self.h0 if recurrent is None else recurrent.contiguous(),
            self.h0 if zoneout is None else zoneout.contiguous(),
            self.rows.order if resets is None else resets.contiguous().view(torch.uint8),
        )

    @property
    def places(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """order, first, lengths, starts."""
        order, first, lengths, starts = self.rows[:4]
        return order, first, lengths, order if starts is None else starts

    def workspace(self, tiles: int) -> tuple[Tensor, Tensor, Tensor]:
        """exchange, sums and arrived."""
        plan, pieces = self.way.plan, self.pieces
        tells = plan.PARTS > 1 or not plan.RESIDENT
        exchange = self.x.new_zeros(pieces if tells else 1, 2, tiles, plan.BB, plan.K)
        sums = self.x.new_zeros(pieces if self.form == 2 else 1, 2, plan.PARTS, 2, plan.BB, dtype=torch.float32)
        return exchange, sums, self.x.new_zeros(pieces, 32, dtype=torch.int32)

    @property
    def pieces(self) -> int:
        """The slices of the batch in each direction."""
        return -(-self.batch // self.way.plan.BB) * self.directions

    def fresh(self, *shape: int, like: Maybe = None) -> Tensor:
        """Memory for what is written at real steps: zeros elsewhere."""
        like = self.x if like is None else like
        return like.new_empty(shape) if self.rows.real is None else like.new_zeros(shape)

    def launch(self, kernel: Any, tensors: Sequence[Tensor], *numbers: float | None) -> None:
        """All CTAs; several launches where the parts of all slices would not fit on the device at once.

        numbers: what comes after B, H and D; among them the first CTA's number is None.
        """
        plan, (at_once, precision) = self.way.plan, (self.way.at_once, self.way.precision)
        options = {"PRECISION": precision, "PEERS": plan.peers, **plan._asdict(), **self.flags}
        warps = options.pop("warps")
        if self.x.is_cuda:
            options |= compile_options(warps) | {"launch_cooperative_grid": plan.PARTS > 1}
        count = self.pieces * plan.PARTS
        group = count if plan.PARTS == 1 else max(at_once // plan.PARTS, 1) * plan.PARTS
        for begin in range(0, count, group):
            own = (begin if number is None else number for number in numbers)
            given = (*tensors, self.batch, self.hidden, self.directions, *own)
            run_ctas(kernel, min(group, count - begin), given, options)


def compile_options(warps: int) -> dict[str, int]:
    """Registers are said to be a thread's own: left alone, ptxas spills a few so that more CTAs would fit."""
    return {"num_warps": warps, "num_stages": 1, "maxnreg": 255}


def run_ctas(kernel: Any, count: int, arguments: Sequence[Any], options: dict[str, Any]) -> None:
    """Launch so many CTAs of a kernel at once."""
    kernel[(count,)](*arguments, **options)


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    """The directions' tensors as one [D, ...]."""
    return tensors[0].contiguous()[None] if len(tensors) == 1 else torch.stack(tuple(tensors))


def input_gates(call: Call) -> tuple[Tensor, Maybe, Maybe, Maybe]:
    """gx [N, D, 3H]; with layer norm what was normed, and its mean and scale [N, D, 1]."""
    form = (-1, call.directions, 3 * call.hidden)
    if call.form != 2:
        return torch.addmm(call.b_ih.flatten(), call.x, call.w_ih.T).view(form), None, None, None
    product = (call.x @ call.w_ih.T).view(form).float()
    normed, mean, scale = torch.native_layer_norm(product, [form[-1]], None, None, EPSILON)
    return normed * call.g_ih + call.b_ih, product, mean, scale


def forward(given: Layer, way: Way) -> tuple[Tensor, Tensor]:
    """y in the form of x, h_n [D, B, H]."""
    from fastgru.backends.triton.forward import gru_forward

    call = Call(given, way)
    variant, rows = given.variant, call.rows
    y, h_n = call.fresh(rows.total, call.directions * call.hidden), torch.empty_like(call.h0)
    y = y.view(*given.x.shape[:-1], -1) if rows.total else y.new_empty(*given.x.shape[:-1], y.size(-1))
    if call.batch == 0:
        return y, h_n
    gx, *_ = input_gates(call)
    recurrent, zoneout, resets = call.masks
    tensors = (gx, call.w_hh, call.b_hh, call.g_hh, call.h0, call.initial, recurrent, zoneout, resets, *call.places)
    tiles = 2 if call.form == 1 else 1
    numbers: tuple[Any, ...] = (rows.step, None, int(variant.reverse), variant.keep)
    call.launch(gru_forward, (*tensors, y, h_n, *call.workspace(tiles)), *numbers)
    return y, h_n


def backward(given: Layer, y: Maybe, dy: Maybe, dh_n: Maybe, wanted: Sequence[bool], way: Way) -> list[Maybe]:
    """The gradients of the layer's leaves, None where not wanted; y None is computed anew."""
    call = Call(given, way)
    if call.batch == 0 or call.rows.total == 0:
        return _without_steps(given, dh_n, wanted)
    y = forward(given, way)[0] if y is None else y
    if call.rows.real is not None:
        call.x = torch.where(call.rows.real[:, None], call.x, 0)  # a NaN in the padding would be 0 * NaN below
    gx, product, mean, scale = input_gates(call)
    before, seen = _states(call, y)
    gh, inverse, left = _state_gates(call, gx, seen)
    dgx, dgh, dq, dh0, dinitial = _sweep(call, gx, gh, inverse, before, dy, dh_n)
    found = _Gradients(call, wanted, dgx, dgh, dq)
    dx = found.of_input(product, mean, scale)
    found.of_state(gh, seen, left)
    initial = dinitial.sum(1) if wanted[2] and given.initial is not None else None
    return [dx, dh0 if wanted[1] and given.h0 is not None else None, initial, *found.weights]


def _without_steps(given: Layer, dh_n: Maybe, wanted: Sequence[bool]) -> list[Maybe]:
    pairs = zip(given.leaves, wanted, strict=True)
    found = [torch.zeros_like(leaf) if want and leaf is not None else None for leaf, want in pairs]
    if found[1] is not None and dh_n is not None:
        found[1] = dh_n.clone()
    return found


def _states(call: Call, y: Tensor) -> tuple[Tensor, Tensor]:
    """before [D, N, H]: the state that each step finds; and what of it enters W_hh."""
    from fastgru.backends.triton.backward import states_before

    rows, flags = call.rows, call.flags
    before = call.fresh(call.directions, rows.total, call.hidden)
    seen = torch.zeros_like(before) if flags["HAS_RECURRENT"] else before
    recurrent, _, resets = call.masks
    tensors = (y.contiguous(), call.h0, call.initial, recurrent, resets, *call.places, before, seen)
    numbers = (call.batch, call.hidden, call.directions, rows.total, rows.step, int(call.given.variant.reverse))
    own = {name: flags[name] for name in ("HAS_RESETS", "HAS_RECURRENT", "HAS_TIME")}
    states_before[(call.batch * call.directions, -(-call.hidden // 64))](*tensors, *numbers, BT=16, BU=64, **own)
    return before, seen


def _state_gates(call: Call, gx: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """gh [D, N, 3H] as gru_backward has it, its scale [D, N], and what enters W_hn [D, N, H]."""
    w, b = call.w_hh.mT, call.b_hh[:, None]
    if call.form == 0:
        return torch.baddbmm(b, seen, w), seen, seen
    if call.form == 2:
        normed, _, inverse = torch.native_layer_norm((seen @ w).float(), [w.size(-1)], None, None, EPSILON)
        return normed, inverse, seen
    units = call.hidden
    rz = torch.baddbmm(b[..., : 2 * units], seen, w[..., : 2 * units])
    r = torch.sigmoid(gx.transpose(0, 1)[..., :units].float() + rz[..., :units])
    left = (r * seen).to(seen.dtype)
    return torch.cat([rz, torch.baddbmm(b[..., 2 * units :], left, w[..., 2 * units :])], dim=-1), seen, left


def _sweep(
    call: Call, gx: Tensor, gh: Tensor, inverse: Tensor, before: Tensor, dy: Maybe, dh_n: Maybe
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """dgx [N, D, 3H], dgh [D, N, 3H], dq [D, N, H], dh0 and dinitial [D, B, H] of gru_backward."""
    from fastgru.backends.triton.backward import gru_backward

    rows, variant, (recurrent, zoneout, resets) = call.rows, call.given.variant, call.masks
    states = (call.directions, rows.total, call.hidden)
    dgx = call.fresh(*gx.shape)
    dgh = dgx if call.form == 1 else call.fresh(*gh.shape)
    dq = call.fresh(*states) if call.form == 2 else dgx
    dh0, dinitial = torch.empty_like(call.h0), torch.empty_like(call.h0)
    dy = call.x.new_zeros(rows.total, states[0] * states[2]) if dy is None else dy.contiguous()
    dh_n = torch.zeros_like(call.h0) if dh_n is None else dh_n.contiguous()
    known = (gx, gh, before, inverse, call.w_hh, call.b_hh, call.g_hh, recurrent, zoneout, resets, *call.places)
    numbers = (rows.total, rows.step, None, int(variant.reverse), variant.tbptt, variant.keep)
    made = (dgx, dgh, dq, dh0, dinitial)
    call.launch(gru_backward, (*known, dy, dh_n, *made, *call.workspace(3)), *numbers)
    return made


class _Gradients:
    """What becomes of the pre-activations' gradients: those of x and of the weights, each where it is wanted."""

    def __init__(self, call: Call, wanted: Sequence[bool], dgx: Tensor, dgh: Tensor, dq: Tensor) -> None:
        self.call, self.dgx, self.dgh, self.dq = call, dgx, dgh, dq
        self.want_x, self.wanted = wanted[0], wanted[3:]
        self.each = call.given.variant.weights_per_direction
        self.weights: list[Maybe] = [None] * len(self.wanted)

    def of_input(self, product: Maybe, mean: Maybe, scale: Maybe) -> Maybe:
        """dx; and the gradients of w_ih, b_ih and g_ih."""
        call, gates = self.call, self.dgx
        if product is not None:
            gates, normed = _through_norm(self.dgx, product, mean, scale, call.g_ih)
            self._keep(-2, lambda: (self.dgx * normed).sum(0))
        gates = gates.flatten(1)
        self._keep(0, lambda: (gates.T @ call.x).view(call.directions, -1, call.x.size(-1)))
        if call.given.variant.bias:
            self._keep(2, lambda: self.dgx.sum(0))
        return (gates @ call.w_ih).view(call.given.x.shape) if self.want_x else None

    def of_state(self, gh: Tensor, seen: Tensor, left: Tensor) -> None:
        """The gradients of w_hh, b_hh and g_hh."""
        call, units = self.call, self.call.hidden
        by_step = self.dgx.transpose(0, 1)  # [D, N, 3H]
        if call.form == 1:
            rz, n = by_step.split([2 * units, units], dim=-1)
            self._keep(1, lambda: torch.cat([rz.mT @ seen, n.mT @ left], dim=1))
            after = by_step
        else:
            self._keep(1, lambda: self.dgh.mT @ seen)
            after = self.dgh
        if call.form == 2:
            after = torch.cat([by_step[..., : 2 * units], self.dq], dim=-1)
            self._keep(-1, lambda: (after * gh).sum(1))
        if call.given.variant.bias:
            self._keep(3, lambda: after.sum(1))

    def _keep(self, which: int, compute: Callable[[], Tensor]) -> None:
        """The gradients [D, ...] of one kind of weight, where any of them is wanted."""
        which %= self.each
        if any(self.wanted[which :: self.each]):
            for direction, gradient in enumerate(compute().to(self.call.x.dtype).unbind()):
                at = direction * self.each + which
                self.weights[at] = gradient if self.wanted[at] else None


def _through_norm(dgx: Tensor, product: Tensor, mean: Maybe, scale: Maybe, gain: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of what was normed without a bias, in the dtype of dgx; and the normed."""
    assert mean is not None
    assert scale is not None
    size = [product.size(-1)]
    found, *_ = torch.ops.aten.native_layer_norm_backward(
        (dgx * gain).float(), product, size, mean, scale, None, None, [True, False, False]
    )
    return found.to(dgx.dtype), F.layer_norm(product, size, eps=EPSILON)
