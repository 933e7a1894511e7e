"""GRU's own options: regularisers, truncated gradients, learned initial states, the outputs of all layers."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import fastgru
from fastgru.common.errors import InputError
from fastgru.convert import to_equinox, to_flax, to_keras, to_mlx, to_onnx_weights
from fastgru.core import noise, reference
from fastgru.core.spec import GRUSpec
from fastgru.core.steps import PLAIN

T, B, I, H = 6, 4, 3, 5
LENGTHS = torch.tensor([6, 2, 0, 4])
RESETS = torch.rand(T, B, generator=torch.Generator().manual_seed(3)) < 0.3
NOISES = [
    {"recurrent_dropout": 0.4},
    {"zoneout": 0.3},
    {"weight_dropout": 0.5},
    {"dropout": 0.5, "variational": True},
    {"recurrent_dropout": 0.4, "zoneout": 0.3, "weight_dropout": 0.5, "dropout": 0.5, "variational": True},
]


def build(**options: object) -> fastgru.GRU:
    torch.manual_seed(0)
    return fastgru.GRU(I, H, num_layers=2, bidirectional=True, dtype=torch.float64, **options)


def seeded(gru: fastgru.GRU, x: Tensor, **steps: Tensor) -> tuple[Tensor, Tensor]:
    torch.manual_seed(7)
    y, h_n = gru(x, **steps)
    return y, h_n


@pytest.mark.parametrize("noise", NOISES, ids=str)
def test_noise_in_training_and_none_in_eval(noise: dict[str, object]) -> None:
    gru, x = build(**noise), torch.randn(T, B, I, dtype=torch.float64)
    first, again, other = seeded(gru, x)[0], seeded(gru, x)[0], gru(x)[0]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    gru.eval()
    assert torch.equal(gru(x)[0], gru(x)[0])
    if "zoneout" not in noise:
        torch.testing.assert_close(gru(x), build().eval()(x))


@pytest.mark.parametrize("noise", NOISES, ids=str)
@pytest.mark.parametrize("steps", [{}, {"lengths": LENGTHS}, {"resets": RESETS}], ids=["all", "lengths", "resets"])
def test_noise_is_the_same_on_every_backend(noise: dict[str, object], steps: dict[str, Tensor]) -> None:
    x = torch.randn(T, B, I, dtype=torch.float64)
    torch.testing.assert_close(
        seeded(build(**noise), x, **steps), seeded(build(**noise, backend="reference"), x, **steps)
    )


def test_recurrent_dropout_by_hand() -> None:
    torch.manual_seed(0)
    gru = fastgru.GRU(I, H, recurrent_dropout=0.5, dtype=torch.float64)
    x, h0 = torch.randn(1, B, I, dtype=torch.float64), torch.randn(1, B, H, dtype=torch.float64)
    torch.manual_seed(7)
    y, _ = gru(x, h0)
    torch.manual_seed(7)
    mask = noise.draw(gru.spec, H, x, PLAIN).recurrent
    assert mask is not None
    assert set(mask.unique().tolist()) == {0, 2}
    seen = h0[0] * mask[0]
    w_ih, w_hh, b_ih, b_hh = gru.weights()
    i_r, i_z, i_n = (x[0] @ w_ih.T + b_ih).chunk(3, 1)
    h_r, h_z, h_n = (seen @ w_hh.T + b_hh).chunk(3, 1)
    r, z = torch.sigmoid(i_r + h_r), torch.sigmoid(i_z + h_z)
    torch.testing.assert_close(y[0], (1 - z) * torch.tanh(i_n + r * h_n) + z * h0[0])


def test_zoneout_keeps_units_in_training_and_their_mean_in_eval() -> None:
    torch.manual_seed(0)
    gru, plain = fastgru.GRU(I, 400, zoneout=0.25), fastgru.GRU(I, 400)
    plain.load_state_dict(gru.state_dict())
    x, h0 = torch.randn(1, 1, I), torch.randn(1, 1, 400)
    y, new = gru(x, h0)[0], plain(x, h0)[0]
    kept = y == h0
    assert 60 <= int(kept.sum()) <= 140  # of 400 units a quarter, within 4.6 deviations
    torch.testing.assert_close(y[~kept], new[~kept])
    torch.testing.assert_close(gru.eval()(x, h0)[0], 0.25 * h0 + 0.75 * new)


@pytest.mark.parametrize("rows", ["packed", "cu_seqlens"])
def test_variational_dropout_has_one_mask_a_sequence(rows: str) -> None:
    torch.manual_seed(0)
    gru = fastgru.GRU(I, H, num_layers=2, dropout=0.5, variational=True)
    lengths = torch.tensor([5, 3, 3, 1])
    x = torch.randn(int(lengths.sum()), I)
    first = fastgru.GRU(I, H)
    first.load_state_dict({name: value for name, value in gru.state_dict().items() if name.endswith("l0")})
    second = fastgru.GRU(H, H)
    second.load_state_dict({n[:-1] + "0": value for n, value in gru.state_dict().items() if n.endswith("l1")})
    ends = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    torch.manual_seed(7)
    if rows == "packed":
        sequences = torch.nn.utils.rnn.pad_sequence(x.split(lengths.tolist()))
        packed = torch.nn.utils.rnn.pack_padded_sequence(sequences, lengths)
        y = torch.nn.utils.rnn.pad_packed_sequence(gru(packed)[0])[0]
        y = torch.cat([y[:n, b] for b, n in enumerate(lengths.tolist())])
    else:
        y = gru(x, cu_seqlens=ends)[0]
    torch.manual_seed(7)
    factors = noise.between_layers(gru.spec, torch.ones(1, B, H), PLAIN)[0]
    assert set(factors.unique().tolist()) == {0, 2}
    middle = first(x, cu_seqlens=ends)[0] * factors.repeat_interleave(lengths, 0)
    torch.testing.assert_close(y, second(middle, cu_seqlens=ends)[0])


def test_reference_gradients_with_noise_and_learned_initial_state() -> None:
    spec = GRUSpec(3, 2, 2, bidirectional=True, training=True, recurrent_dropout=0.3, zoneout=0.3, weight_dropout=0.3)
    shapes = [(3, 2, 3), (4, 2, 2), (4, 2)]
    for features in (3, 4):
        shapes += [(6, features), (6, 2), (6,), (6,)] * 2
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    resets = torch.tensor([[False, True], [True, False], [False, True]])

    def run(x: Tensor, h0: Tensor, initial: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        torch.manual_seed(7)
        return reference.gru(spec, x, h0, weights, torch.tensor([3, 2]), resets, initial)

    assert torch.autograd.gradcheck(run, inputs, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)


@pytest.mark.parametrize("k", [1, 2, 4, 6])
def test_tbptt_is_a_detached_state_every_k_steps(k: int) -> None:
    torch.manual_seed(0)
    gru = fastgru.GRU(I, H, dtype=torch.float64, tbptt=k)
    plain = fastgru.GRU(I, H, dtype=torch.float64)
    plain.load_state_dict(gru.state_dict())
    x, h0 = torch.randn(T, B, I, dtype=torch.float64), torch.randn(1, B, H, dtype=torch.float64, requires_grad=True)
    weights, cotangent = torch.randn(T, B, H, dtype=torch.float64), torch.randn(1, B, H, dtype=torch.float64)
    y, h_n = gru(x, h0)
    h, parts = h0, []
    for number, stretch in enumerate(x.split(k)):
        part, h = plain(stretch, h.detach() if number else h)
        parts.append(part)
    torch.testing.assert_close((y, h_n), (torch.cat(parts), h))
    expected = (torch.cat(parts) * weights).sum() + (h * cotangent).sum()
    wanted = torch.autograd.grad(expected, [h0, *plain.weights()])
    found = torch.autograd.grad((y * weights).sum() + (h_n * cotangent).sum(), [h0, *gru.weights()])
    torch.testing.assert_close(found, wanted)


def test_tbptt_of_the_reverse_direction_cuts_at_the_same_places() -> None:
    torch.manual_seed(0)
    gru = fastgru.GRU(I, H, bidirectional=True, dtype=torch.float64, tbptt=2)
    x = torch.randn(T, B, I, dtype=torch.float64, requires_grad=True)
    y, _ = gru(x)
    (reach,) = torch.autograd.grad(y[2, :, H:].sum(), x)
    assert [bool(step.any()) for step in reach] == [False, False, True, True, False, False]


CALLS: dict[str, Callable[[fastgru.GRU, Tensor], tuple[Tensor, Tensor]]] = {
    "all": lambda gru, x: gru(x),
    "lengths": lambda gru, x: gru(x, lengths=LENGTHS),
    "resets": lambda gru, x: gru(x, resets=RESETS),
    "lengths and resets": lambda gru, x: gru(x, lengths=LENGTHS, resets=RESETS),
    "packed": lambda gru, x: unpack(gru(pack_padded_sequence(x, LENGTHS.clamp(1), enforce_sorted=False))),
    "cu_seqlens": lambda gru, x: gru(x.flatten(0, 1), cu_seqlens=torch.tensor([0, 7, 7, 9, 24])),
    "cu_seqlens and resets": lambda gru, x: gru(
        x.flatten(0, 1), cu_seqlens=torch.tensor([0, 7, 7, 9, 24]), resets=RESETS.flatten()
    ),
}


def unpack(results: tuple[PackedSequence, Tensor]) -> tuple[Tensor, Tensor]:
    return results[0].data, results[1]


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("call", CALLS)
def test_tbptt_on_the_kernels_is_the_references(call: str, k: int) -> None:
    found = []
    for backend in ("cpu", "reference"):
        gru = build(tbptt=k, learn_initial_state=True, backend=backend)
        torch.nn.init.normal_(gru.initial_state)
        x = torch.randn(T, B, I, dtype=torch.float64, requires_grad=True)
        outputs = CALLS[call](gru, x)
        cotangents = [torch.randn(o.shape, dtype=o.dtype) for o in outputs]
        found.append([*outputs, *torch.autograd.grad(outputs, [x, *gru.parameters()], cotangents)])
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-12)


def test_tbptt_lets_the_last_state_of_an_ended_sequence_through() -> None:
    for backend in ("cpu", "reference"):
        torch.manual_seed(0)
        gru = fastgru.GRU(I, H, dtype=torch.float64, tbptt=2, backend=backend)
        x = torch.randn(T, B, I, dtype=torch.float64, requires_grad=True)
        (reach,) = torch.autograd.grad(gru(x, lengths=torch.tensor([6, 1, 3, 2]))[1].sum(), x)
        expected = torch.tensor([[0, 1, 0, 1], [0, 0, 0, 1], [0, 0, 1, 0], [0] * 4, [1, 0, 0, 0], [1, 0, 0, 0]])
        assert torch.equal((reach != 0).any(-1), expected.bool())


def test_learned_initial_state_stands_for_hx_and_after_resets() -> None:
    gru = build(learn_initial_state=True)
    assert gru.initial_state.shape == (4, H)
    assert not gru.initial_state.any()
    torch.nn.init.normal_(gru.initial_state)
    x, h0 = torch.randn(T, B, I, dtype=torch.float64), gru.initial_state[:, None].expand(-1, B, -1)
    torch.testing.assert_close(gru(x), gru(x, h0))
    resets = torch.zeros(T, B, dtype=torch.bool)
    resets[2] = True
    one = fastgru.GRU(I, H, dtype=torch.float64, learn_initial_state=True)
    torch.nn.init.normal_(one.initial_state)
    y, _ = one(x, resets=resets)
    torch.testing.assert_close(y, torch.cat([one(x[:2])[0], one(x[2:])[0]]))
    y.sum().backward()
    assert one.initial_state.grad is not None
    assert one.initial_state.grad.any()


@pytest.mark.parametrize("backend", ["cpu", "aten", "reference"])
def test_all_layers_are_returned(backend: str) -> None:
    gru = build(return_all_layers=True, batch_first=True, backend=backend).eval()
    x = torch.randn(B, T, I, dtype=torch.float64)
    outputs, h_n = gru(x)
    assert [y.shape for y in outputs] == [(B, T, 2 * H)] * 2
    torch.testing.assert_close(outputs[0][:, -1, :H], h_n[0])
    torch.testing.assert_close((outputs[1], h_n), build(batch_first=True).eval()(x))


@pytest.mark.parametrize("option", ["recurrent_dropout", "zoneout", "weight_dropout"])
@pytest.mark.parametrize("value", [-0.1, 1.5, "0.3", True])
def test_what_is_no_probability_is_refused(option: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{option} must be a probability from 0 to 1, got"):
        fastgru.GRU(I, H, **{option: value})


@pytest.mark.parametrize("value", [-1, 2.5])
def test_tbptt_of_no_number_of_steps_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="tbptt must be a number of steps"):
        fastgru.GRU(I, H, tbptt=value)


@pytest.mark.parametrize("option", [{"zoneout": 0.1}, {"learn_initial_state": True}, {"layer_norm": True}], ids=str)
def test_what_other_frameworks_do_not_have_is_not_converted(option: dict[str, object]) -> None:
    gru = fastgru.GRU(I, H, **option)
    for convert in (to_equinox, to_flax, to_keras, to_mlx, to_onnx_weights):
        with pytest.raises(InputError, match=f"{next(iter(option))}=.*, which the framework does not have"):
            convert(gru)
    done = fastgru.to_torch(gru)
    assert "a form that torch.nn does not have" in done.left[""]
