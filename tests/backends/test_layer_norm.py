"""GRUs with layer norm: the definition by hand, and whatever torch does to their weights."""

import copy
import pickle

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn.utils import parametrize

import fastgru
from fastgru.core import reference
from fastgru.core.spec import GRUSpec

T, B, I, H = 4, 3, 2, 5
STEPS = {
    "all": {},
    "lengths": {"lengths": torch.tensor([4, 0, 2])},
    "resets": {"resets": torch.tensor([[False, True, False]] * 2 + [[True, False, True]] * 2)},
}


def build(**options: object) -> fastgru.GRU:
    """Two layers of two directions, with gains that are not 1."""
    torch.manual_seed(0)
    gru = fastgru.GRU(I, H, 2, bidirectional=True, dtype=torch.float64, layer_norm=True, **options)
    for name, parameter in gru.named_parameters():
        if name.startswith("gain"):
            torch.nn.init.normal_(parameter, 1)
    return gru


def results(gru: fastgru.GRU, x: Tensor, **steps: Tensor) -> list[Tensor]:
    """Output, h_n and all gradients for random cotangents."""
    torch.manual_seed(7)
    x = x.clone().requires_grad_()
    outputs = gru(x, **steps)
    torch.manual_seed(8)
    return [*outputs, *torch.autograd.grad(outputs, [x, *gru.parameters()], [torch.randn_like(o) for o in outputs])]


@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm_by_hand(bias: bool) -> None:
    gru = fastgru.GRU(I, H, bias=bias, layer_norm=True, dtype=torch.float64).eval()
    torch.nn.init.normal_(gru.gain_ih_l0)
    torch.nn.init.normal_(gru.gain_hh_l0)
    x, h0 = torch.randn(2, B, I, dtype=torch.float64), torch.randn(1, B, H, dtype=torch.float64)
    h, norm = h0[0], torch.nn.functional.layer_norm
    b_ih, b_hh = (gru.bias_ih_l0, gru.bias_hh_l0) if bias else (None, None)
    for x_t in x:
        i_r, i_z, i_n = norm(x_t @ gru.weight_ih_l0.T, (3 * H,), gru.gain_ih_l0, b_ih).chunk(3, 1)
        h_r, h_z, h_n = norm(h @ gru.weight_hh_l0.T, (3 * H,), gru.gain_hh_l0, b_hh).chunk(3, 1)
        r, z = torch.sigmoid(i_r + h_r), torch.sigmoid(i_z + h_z)
        h = (1 - z) * torch.tanh(i_n + r * h_n) + z * h
    torch.testing.assert_close(gru(x, h0)[1][0], h)


@pytest.mark.parametrize("bias", [True, False])
def test_reference_gradients_with_layer_norm(bias: bool) -> None:
    spec = GRUSpec(1, 2, 1, bias, bidirectional=True, training=True, recurrent_dropout=0.3, zoneout=0.3)
    spec = spec._replace(layer_norm=True)
    shapes = [(2, 2, 1), (2, 2, 2), *[(6, 1), (6, 2), *[(6,)] * (4 if bias else 2)] * 2]
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]

    def run(x: Tensor, h0: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        torch.manual_seed(7)
        return reference.gru(spec, x, h0, weights, torch.tensor([2, 1]))

    assert torch.autograd.gradcheck(run, inputs, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)


@pytest.mark.parametrize("noise", [{}, {"recurrent_dropout": 0.4, "zoneout": 0.3, "weight_dropout": 0.5}], ids=str)
@pytest.mark.parametrize("steps", STEPS)
def test_layer_norm_is_the_same_on_every_backend(noise: dict[str, float], steps: str) -> None:
    x = torch.randn(T, B, I, dtype=torch.float64)
    expected = results(build(backend="reference", **noise), x, **STEPS[steps])
    torch.testing.assert_close(results(build(**noise), x, **STEPS[steps]), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_layer_norm_in_half_precision_is_normed_in_float32(dtype: torch.dtype) -> None:
    gru = fastgru.GRU(I, H, layer_norm=True).to(dtype).float()
    x = torch.randn(T, B, I).to(dtype)
    y, _ = copy.deepcopy(gru).to(dtype)(x)
    torch.testing.assert_close(y.float(), gru(x.float())[0], rtol=0, atol=3 * torch.finfo(dtype).eps)
    large = gru.to(dtype)
    large.weight_ih_l0.data.mul_(1000)  # the squares of its products overflow float16
    assert large(x)[0].isfinite().all()


def test_the_other_weights_are_drawn_as_torchs() -> None:
    torch.manual_seed(3)
    theirs, after = torch.nn.GRU(I, H, 2, bidirectional=True), torch.rand(1)
    torch.manual_seed(3)
    ours = fastgru.GRU(I, H, 2, bidirectional=True, layer_norm=True)
    assert torch.rand(1) == after
    for _ in range(2):
        gains = {name: value for name, value in ours.state_dict().items() if name.startswith("gain")}
        assert len(gains) == 8
        assert all(torch.equal(gain, torch.ones(3 * H)) for gain in gains.values())
        for name, value in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[name], value)
        torch.nn.init.zeros_(ours.gain_hh_l1)
        for layer in (theirs, ours):
            torch.manual_seed(4)
            layer.reset_parameters()


def test_gains_stand_after_each_directions_own_weights() -> None:
    gru = build()
    names = [name for name, _ in gru.named_parameters()]
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "gain_ih", "gain_hh")
    wanted = [f"{kind}_l{layer}{reverse}" for layer in (0, 1) for reverse in ("", "_reverse") for kind in kinds]
    assert names == wanted == list(gru.state_dict())
    assert [len(group) for group in gru.all_weights] == [6] * 4
    assert repr(gru) == "GRU(2, 5, num_layers=2, bidirectional=True, layer_norm=True)"


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda gru: pickle.loads(pickle.dumps(gru))])
def test_copies_compute_the_same(copied: object) -> None:
    gru, x = build(), torch.randn(T, B, I, dtype=torch.float64)
    torch.testing.assert_close(results(copied(gru), x), results(gru, x))  # type: ignore[operator]


def test_weights_without_gains_are_no_state_of_it() -> None:
    gru = fastgru.GRU(I, H, layer_norm=True)
    with pytest.raises(RuntimeError, match=r'Missing key.*"gain_ih_l0", "gain_hh_l0"'):
        gru.load_state_dict(torch.nn.GRU(I, H).state_dict())
    with pytest.raises(RuntimeError, match=r'Unexpected key.*"gain_ih_l0", "gain_hh_l0"'):
        fastgru.GRU(I, H).load_state_dict(gru.state_dict())


class Doubled(torch.nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def test_a_parametrized_gain_is_used() -> None:
    gru, x = build(), torch.randn(T, B, I, dtype=torch.float64)
    twin = copy.deepcopy(gru)
    parametrize.register_parametrization(gru, "gain_hh_l1", Doubled())
    assert not torch.equal(gru(x)[0], twin(x)[0])
    twin.gain_hh_l1.data.mul_(2)
    torch.testing.assert_close(gru(x), twin(x))
    gru.reset_parameters()
    assert torch.equal(gru.gain_hh_l1, torch.full_like(gru.gain_hh_l1, 2))


def test_to_another_dtype_and_device() -> None:
    gru = build().float()
    assert {parameter.dtype for parameter in gru.parameters()} == {torch.float32}
    x = torch.randn(T, B, I)
    torch.testing.assert_close(gru(x)[0].double(), build()(x.double())[0], rtol=1e-5, atol=1e-6)
    gru.to("meta").to_empty(device="cpu").reset_parameters()
    assert torch.equal(gru.gain_ih_l0, torch.ones(3 * H))


def test_gradients_of_samples() -> None:
    gru, x = build(), torch.randn(T, B, 3, I, dtype=torch.float64)
    weights = dict(gru.named_parameters())

    def loss(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(gru, weights, (x,))[0].square().sum()

    found = vmap(grad(loss), (None, 2))(weights, x)
    for sample in range(3):
        expected = grad(loss)(weights, x[:, :, sample])
        torch.testing.assert_close({name: value[sample] for name, value in found.items()}, expected)


def test_compiled_and_exported_layers_compute_the_same() -> None:
    gru = fastgru.GRU(I, H, layer_norm=True, dtype=torch.float64)
    x = torch.randn(T, B, I, dtype=torch.float64)
    torch.testing.assert_close(results(torch.compile(gru, fullgraph=True, backend="aot_eager"), x), results(gru, x))
    torch.testing.assert_close(torch.export.export(gru, (x,)).module()(x), gru(x))


def test_with_reset_after_false_it_is_refused() -> None:
    with pytest.raises(ValueError, match="for which r must be known first; leave reset_after=True"):
        fastgru.GRU(I, H, layer_norm=True, reset_after=False)
    gru = fastgru.GRU(I, H, layer_norm=True)
    gru.reset_after = False
    with pytest.raises(RuntimeError, match="for which r must be known first"):
        gru(torch.randn(T, B, I))


def test_torchs_operator_refuses_it() -> None:
    with pytest.raises(RuntimeError, match=r"knows no .*layer_norm"):
        fastgru.GRU(I, H, layer_norm=True, backend="aten")(torch.randn(T, B, I))
