"""The definition itself: derivatives of both orders, lengths and resets."""

import pytest
import torch
from torch import Tensor

from fastgru.core import reference
from fastgru.core.spec import GRUSpec

T, B, I, H = 3, 2, 3, 2


def leaves(spec: GRUSpec) -> list[Tensor]:
    """x, h0 and the weights, in float64, to be differentiated."""
    shapes = [(T, B, I), (spec.num_layers * spec.directions, B, H)]
    for layer in range(spec.num_layers):
        features = I if layer == 0 else spec.directions * H
        weights = [(3 * H, features), (3 * H, H)] + ([(3 * H,)] * 2 if spec.bias else [])
        shapes += weights * spec.directions
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


SPECS = [
    GRUSpec(I, H, num_layers=layers, bias=bias, bidirectional=bidirectional)
    for layers in (1, 2)
    for bias in (False, True)
    for bidirectional in (False, True)
]


@pytest.mark.parametrize("lengths", [None, [3, 1], [0, 2]], ids=str)
@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"L{s.num_layers}-{s.bias}-{s.directions}")
def test_reference_gradients_of_both_orders(spec: GRUSpec, lengths: list[int] | None) -> None:
    steps = None if lengths is None else torch.tensor(lengths)

    def run(x: Tensor, h0: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        return reference.gru(spec, x, h0, weights, steps)

    inputs = leaves(spec)
    assert torch.autograd.gradcheck(run, inputs, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)


def test_reference_gradients_of_both_orders_with_resets() -> None:
    spec = GRUSpec(I, H, num_layers=2, bidirectional=True)
    resets = torch.tensor([[False, True], [True, False], [False, True]])

    def run(x: Tensor, h0: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        return reference.gru(spec, x, h0, weights, torch.tensor([3, 2]), resets)

    assert torch.autograd.gradcheck(run, leaves(spec), check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, leaves(spec), fast_mode=True)


@pytest.mark.parametrize("bias", [False, True])
def test_reference_of_the_original_cell(bias: bool) -> None:
    spec = GRUSpec(I, H, 2, bias=bias, bidirectional=True, reset_after=False)
    inputs = leaves(spec)

    def run(x: Tensor, h0: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        return reference.gru(spec, x, h0, weights)

    assert torch.autograd.gradcheck(run, inputs, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)
    x, h0, w_ih, w_hh, *biases = inputs
    b_ih, b_hh = biases[:2] if bias else (torch.zeros(3 * H), torch.zeros(3 * H))
    (w_ir, w_iz, w_in), (w_hr, w_hz, w_hn) = w_ih.chunk(3), w_hh.chunk(3)
    (b_ir, b_iz, b_in), (b_hr, b_hz, b_hn) = b_ih.chunk(3), b_hh.chunk(3)
    x, h = x[0, 0], h0[0, 0]
    r = torch.sigmoid(w_ir @ x + b_ir + w_hr @ h + b_hr)
    z = torch.sigmoid(w_iz @ x + b_iz + w_hz @ h + b_hz)
    n = torch.tanh(w_in @ x + b_in + w_hn @ (r * h) + b_hn)
    y, _ = reference.gru(spec._replace(num_layers=1, bidirectional=False), x[None, None], h[None, None], inputs[2:])
    torch.testing.assert_close(y[0, 0], (1 - z) * n + z * h)


def test_reference_cell_gradients_of_both_orders() -> None:
    shapes = [(B, I), (B, H), (3 * H, I), (3 * H, H), (3 * H,), (3 * H,)]
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(reference.gru_cell, inputs, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(reference.gru_cell, inputs)


def test_reference_step_follows_the_equations() -> None:
    x, h = torch.randn(I, dtype=torch.float64), torch.randn(H, dtype=torch.float64)
    w_ir, w_iz, w_in = torch.randn(3, H, I, dtype=torch.float64)
    w_hr, w_hz, w_hn = torch.randn(3, H, H, dtype=torch.float64)
    b_ir, b_iz, b_in = torch.randn(3, H, dtype=torch.float64)
    b_hr, b_hz, b_hn = torch.randn(3, H, dtype=torch.float64)
    r = torch.sigmoid(w_ir @ x + b_ir + w_hr @ h + b_hr)
    z = torch.sigmoid(w_iz @ x + b_iz + w_hz @ h + b_hz)
    n = torch.tanh(w_in @ x + b_in + r * (w_hn @ h + b_hn))
    expected = (1 - z) * n + z * h
    weights = [torch.cat(parts) for parts in ([w_ir, w_iz, w_in], [w_hr, w_hz, w_hn])]
    biases = [torch.cat(parts) for parts in ([b_ir, b_iz, b_in], [b_hr, b_hz, b_hn])]
    torch.testing.assert_close(reference.gru_cell(x[None], h[None], *weights, *biases)[0], expected)


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"L{s.num_layers}-{s.bias}-{s.directions}")
def test_reference_lengths_run_each_sequence_on_its_own(spec: GRUSpec) -> None:
    x, h0, *weights = leaves(spec)
    lengths = torch.tensor([2, 0])
    y, h_n = reference.gru(spec, x, h0, weights, lengths)
    alone_y, alone_h_n = reference.gru(spec, x[:2, :1], h0[:, :1], weights)
    torch.testing.assert_close(y[:2, :1], alone_y)
    torch.testing.assert_close(h_n[:, :1], alone_h_n)
    assert torch.equal(h_n[:, 1], h0[:, 1])
    assert not y[2:, 0].any()
    assert not y[:, 1].any()


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"L{s.num_layers}-{s.bias}-{s.directions}")
def test_reference_resets_run_each_segment_on_its_own(spec: GRUSpec) -> None:
    x, h0, *weights = leaves(spec)
    resets = torch.zeros(T, B, dtype=torch.bool)
    resets[2, 0] = resets[0, 1] = True
    y, _ = reference.gru(spec, x, h0, weights, resets=resets)
    first, _ = reference.gru(spec, x[:2, :1], h0[:, :1] * forward_only(spec), weights)
    second, _ = reference.gru(spec, x[2:, :1], h0[:, :1] * (1 - forward_only(spec)), weights)
    torch.testing.assert_close(y[:, :1], torch.cat([first, second]))
    whole, _ = reference.gru(spec, x[:, 1:], h0[:, 1:] * (1 - forward_only(spec)), weights)
    torch.testing.assert_close(y[:, 1:], whole)
    dx, dh0 = torch.autograd.grad(y[2:, 0].sum(), [x, h0])
    assert not dx[:2, 0].any()
    assert not (dh0 * forward_only(spec)).any()


def forward_only(spec: GRUSpec) -> Tensor:
    """[L*D, 1, 1]: 1 for the forward directions, 0 for the reverse ones."""
    return (torch.arange(spec.num_layers * spec.directions) % spec.directions == 0).to(torch.float64)[:, None, None]


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_reference_padding_changes_nothing(poison: float) -> None:
    spec = GRUSpec(I, H, num_layers=2, bidirectional=True)
    x, h0, *weights = leaves(spec)
    lengths = torch.tensor([2, 1])
    padding = torch.arange(T)[:, None] >= lengths
    poisoned = x.detach().masked_fill(padding[..., None], poison).requires_grad_()
    outcomes = []
    for source in (x, poisoned):
        outputs = reference.gru(spec, source, h0, weights, lengths)
        gradients = torch.autograd.grad(sum(o.square().sum() for o in outputs), [source, h0, *weights])
        outcomes.append([*outputs, *gradients])
    for clean, dirty in zip(*outcomes, strict=True):
        torch.testing.assert_close(dirty, clean, rtol=0, atol=0)
    assert not outcomes[1][2][padding].any()


def test_reference_runs_on_meta_and_complex() -> None:
    spec = GRUSpec(I, H)
    for options in ({"device": "meta"}, {"dtype": torch.complex128}):
        shapes = [(T, B, I), (1, B, H), (3 * H, I), (3 * H, H), (3 * H,), (3 * H,)]
        x, h0, *weights = (torch.ones(shape, **options) for shape in shapes)
        y, _ = reference.gru(spec, x, h0, weights)
        assert y.shape == (T, B, H)
        assert (y.dtype, y.device) == (x.dtype, x.device)
