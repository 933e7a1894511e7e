"""A size for each layer: the same numbers as layers of torch.nn's one after the other, in every form of input."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import fastgru
from fastgru import convert
from fastgru.common.errors import InputError
from fastgru.convert.weights import weights_of
from fastgru.core import reference
from fastgru.core.spec import GRUSpec

T, B, I = 5, 3, 2
SIZES = (4, 3, 6)
LENGTHS = torch.tensor([3, 5, 1])


def build(**options: object) -> fastgru.GRU:
    torch.manual_seed(0)
    return fastgru.GRU(I, SIZES, bidirectional=True, dtype=torch.float64, **options)


def chain(gru: fastgru.GRU) -> list[torch.nn.GRU]:
    """The same layers as torch.nn's, one for each."""
    features = (I, *(2 * size for size in SIZES))
    layers = []
    for number, (inputs, size) in enumerate(zip(features, SIZES, strict=False)):
        layer = torch.nn.GRU(inputs, size, bidirectional=True, dtype=torch.float64)
        own = {name: getattr(gru, name.replace("l0", f"l{number}")) for name in layer.state_dict()}
        layer.load_state_dict(own)
        layers.append(layer)
    return layers


def run(layers: list[torch.nn.GRU], x: Tensor | PackedSequence, h0: Tensor | None) -> tuple[list[object], Tensor]:
    """Each layer's output, and h_n [2, B, sum(H)]."""
    outputs: list[object] = []
    states = []
    starts = [None] * len(layers) if h0 is None else [part.contiguous() for part in h0.split(SIZES, -1)]
    for layer, start in zip(layers, starts, strict=True):
        x, h_n = layer(x, start)
        outputs.append(x)
        states.append(h_n)
    return outputs, torch.cat(states, -1)


def inputs(*batch: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(T, *batch, I, dtype=torch.float64, requires_grad=True)
    return x, torch.randn(2, *batch, sum(SIZES), dtype=torch.float64, requires_grad=True)


def gradients(y: Tensor, h_n: Tensor, leaves: list[Tensor]) -> tuple[Tensor, ...]:
    torch.manual_seed(3)
    return torch.autograd.grad((y, h_n), leaves, [torch.randn_like(y), torch.randn_like(h_n)])


@pytest.mark.parametrize("backend", ["cpu", "aten", "reference"])
@pytest.mark.parametrize("with_h0", [False, True])
def test_it_is_layers_one_after_the_other(backend: str, with_h0: bool) -> None:
    gru, (x, h0) = build(backend=backend), inputs(B)
    layers, leaves = chain(gru), [x, h0] if with_h0 else [x]
    (*_, y), h_n = run(layers, x, h0 if with_h0 else None)
    found = gru(x, h0 if with_h0 else None)
    torch.testing.assert_close(found, (y, h_n))
    theirs = [parameter for layer in layers for parameter in layer.parameters()]
    torch.testing.assert_close(
        gradients(*found, [*leaves, *gru.parameters()]),
        gradients(y, h_n, [*leaves, *theirs]),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("backend", ["cpu", "aten", "reference"])
def test_one_sequence_batch_first_and_all_layers(backend: str) -> None:
    gru, (x, h0) = build(backend=backend, batch_first=True, return_all_layers=True), inputs()
    wanted, states = run(chain(gru), x, h0)
    outputs, h_n = gru(x, h0)
    torch.testing.assert_close(outputs, wanted)
    torch.testing.assert_close(h_n, states)
    batch, _ = gru(x[None], h0[:, None])
    torch.testing.assert_close([y[0] for y in batch], wanted)


@pytest.mark.parametrize("backend", ["cpu", "aten", "reference"])
def test_packed_sequences(backend: str) -> None:
    gru, (x, h0) = build(backend=backend), inputs(B)
    packed = pack_padded_sequence(x, LENGTHS, enforce_sorted=False)
    (*_, y), h_n = run(chain(gru), packed, h0)
    found = gru(packed, h0)
    assert isinstance(found[0], PackedSequence)
    torch.testing.assert_close((found[0].data, found[1]), (y.data, h_n))  # type: ignore[attr-defined]


def test_lengths_nested_and_concatenated_sequences() -> None:
    gru, (x, h0) = build(), inputs(B)
    y, h_n = gru(pack_padded_sequence(x, LENGTHS, enforce_sorted=False), h0)
    padded, _ = pad_packed_sequence(y)
    torch.testing.assert_close(gru(x, h0, lengths=LENGTHS), (padded, h_n))
    parts = [x[:length, b] for b, length in enumerate(LENGTHS.tolist())]
    ends = torch.cat([torch.zeros(1, dtype=torch.int64), LENGTHS.cumsum(0)])
    rows = torch.cat([padded[:length, b] for b, length in enumerate(LENGTHS.tolist())])
    torch.testing.assert_close(gru(torch.cat(parts), h0, cu_seqlens=ends), (rows, h_n))
    nested = torch.nested.nested_tensor([part.detach() for part in parts], layout=torch.jagged)
    found, states = gru(nested, h0)
    torch.testing.assert_close((found.values(), states), (rows, h_n))


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_a_learned_initial_state(backend: str) -> None:
    gru, (x, _) = build(learn_initial_state=True, backend=backend), inputs(B)
    assert gru.initial_state.shape == (2, sum(SIZES))
    torch.nn.init.normal_(gru.initial_state)
    torch.testing.assert_close(gru(x), gru(x, gru.initial_state[:, None].expand(-1, B, -1)))
    resets = torch.zeros(T, B, dtype=torch.bool)
    resets[2] = True
    two = fastgru.GRU(I, [3, 4], dtype=torch.float64, learn_initial_state=True, backend=backend)
    torch.nn.init.normal_(two.initial_state)
    torch.testing.assert_close(two(x, resets=resets)[0], torch.cat([two(x[:2])[0], two(x[2:])[0]]))


@pytest.mark.parametrize(
    "options",
    [{"layer_norm": True}, {"reset_after": False}, {"dropout": 0.5}, {"memory": "recompute"}, {"tbptt": 2}],
    ids=str,
)
def test_options_are_the_same_on_every_backend(options: dict[str, object]) -> None:
    noise = {"recurrent_dropout": 0.3, "zoneout": 0.2, "weight_dropout": 0.3, "variational": True}
    results = []
    for backend in ("auto", "reference"):
        gru, (x, h0) = build(backend=backend, **noise, **options), inputs(B)
        torch.manual_seed(5)
        y, h_n = gru(x, h0, lengths=LENGTHS)
        results.append([y, h_n, *gradients(y, h_n, [x, h0, *gru.parameters()])])
        torch.manual_seed(0)
    torch.testing.assert_close(*results)


def test_reference_gradients() -> None:
    spec = GRUSpec(1, (2, 1), 2, bidirectional=True)
    shapes = [(2, 2, 1), (2, 2, 3), (2, 3), *spec.weight_shapes]
    given = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    resets = torch.tensor([[False, False], [True, False]])

    def call(x: Tensor, h0: Tensor, initial: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        return reference.gru(spec, x, h0, weights, None, resets, initial)

    assert torch.autograd.gradcheck(call, given, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, given, fast_mode=True)


def test_weights_are_drawn_by_each_layers_size() -> None:
    torch.manual_seed(0)
    gru = fastgru.GRU(I, [400, 25], device="cpu", layer_norm=True)
    for _ in range(2):
        for name, weight in gru.named_parameters():
            bound = 0.05 if "l0" in name else 0.2
            if not name.startswith("gain"):
                assert 0.9 * bound < weight.abs().max() <= bound
        torch.manual_seed(1)
        gru.reset_parameters()
    first = gru.state_dict()["weight_ih_l0"].clone()
    torch.manual_seed(1)
    assert torch.equal(first, torch.nn.GRU(I, 400).weight_ih_l0)


@torch.no_grad()
def test_steps_of_a_stream() -> None:
    gru = fastgru.GRU(I, SIZES)
    x, state, outputs = torch.randn(T, B, I), None, []
    for x_t in x:
        y_t, state = gru.step(x_t, state)
        outputs.append(y_t)
    torch.testing.assert_close((torch.stack(outputs), state), gru(x))
    one, state = gru.step(x[0, 1])
    assert state.shape == (1, sum(SIZES))
    torch.testing.assert_close(one, outputs[0][1])


def test_what_it_says_of_itself() -> None:
    gru = build()
    assert gru.hidden_size == SIZES
    assert gru.num_layers == 3
    assert repr(gru) == "GRU(2, (4, 3, 6), num_layers=3, bidirectional=True)"
    assert hash(gru.spec) == hash(build().spec)
    assert "cpu" in str(fastgru.info(gru))


def test_equal_sizes_are_one_size() -> None:
    torch.manual_seed(0)
    gru = fastgru.GRU(I, [4, 4])
    torch.manual_seed(0)
    plain = fastgru.GRU(I, 4, 2)
    assert gru.spec == plain.spec
    torch.testing.assert_close(gru.state_dict(), plain.state_dict(), rtol=0, atol=0)
    assert fastgru.to_torch(gru).swapped == ("",)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda gru: pickle.loads(pickle.dumps(gru))])
def test_copies_compute_the_same(copied: Callable[[fastgru.GRU], fastgru.GRU]) -> None:
    gru, (x, h0) = build(), inputs(B)
    torch.testing.assert_close(copied(gru)(x, h0), gru(x, h0))
    torch.testing.assert_close(copied(gru).float().double()(x)[0], gru(x)[0], rtol=1e-5, atol=1e-6)


def test_modes_of_torch() -> None:
    gru, (x, h0) = build(), inputs(B)
    expected = gru(x, h0)
    torch.testing.assert_close(torch.compile(gru, fullgraph=True, backend="aot_eager")(x, h0), expected)
    torch.testing.assert_close(torch.export.export(gru, (x, h0)).module()(x, h0), expected)
    stacked = torch.stack([x, x + 1], 1)
    torch.testing.assert_close(vmap(gru, (1, None), (1, 1))(stacked, h0)[0][:, 1], gru(x + 1, h0)[0])
    weights = dict(gru.named_parameters())

    def loss(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(gru, weights, (x,))[0].square().sum()

    found = vmap(grad(loss), (None, 1))(weights, stacked.detach())
    torch.testing.assert_close({n: value[1] for n, value in found.items()}, grad(loss)(weights, x.detach() + 1))


def test_it_is_exported_to_onnx(tmp_path: Path) -> None:
    gru = build().float()
    fastgru.export_onnx(gru, tmp_path / "gru.onnx", (torch.randn(T, B, I), torch.randn(2, B, sum(SIZES))))


@pytest.mark.parametrize("framework", ["keras", "flax", "mlx", "equinox"])
def test_weights_go_to_other_frameworks_and_back(framework: str) -> None:
    gru = fastgru.GRU(I, SIZES)
    items = getattr(convert, f"to_{framework}")(gru)
    back = getattr(convert, f"from_{framework}")(*items)
    assert back.hidden_size == SIZES
    x = torch.randn(T, B, I)
    torch.testing.assert_close(back(x.transpose(0, 1) if back.batch_first else x)[1], gru(x)[1])
    weights = weights_of(gru)
    with pytest.raises(InputError, match=r"as the H of each layer are \[4, 6\]"):
        convert.weights.build([weights[0], weights[2]], bidirectional=False, batch_first=False)


def test_torch_has_no_such_layer() -> None:
    assert fastgru.to_torch(build()).left == {
        "": "it has hidden_size=(4, 3, 6), one for each layer, which torch.nn does not have"
    }


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([4, 3], 3), ValueError, r"one size for each layer, got \[4, 3\] and num_layers=3; leave num_layers out"),
        (([4, 3], 1), ValueError, "and num_layers=1; leave num_layers out"),
        (([],), ValueError, r"one size for each layer, got \[\]; leave"),
        (([4, 0],), ValueError, r"must be greater than zero for each layer, got \[4, 0\]"),
        (([4, 2.5],), TypeError, "hidden_size should be of type int for each layer, got: float"),
        (("43",), TypeError, "hidden_size should be of type int, got: str"),
    ],
)
def test_sizes_that_are_none(arguments: tuple[object, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fastgru.GRU(I, *arguments)
    with pytest.raises(error, match=message):
        fastgru.GRU(input_size=I, **dict(zip(("hidden_size", "num_layers"), arguments, strict=False)))


def test_the_arguments_of_torch_in_their_places() -> None:
    gru = fastgru.GRU(I, [4, 3], 2, False, True, 0.5, True)
    assert (gru.num_layers, gru.bias, gru.batch_first, gru.dropout, gru.bidirectional) == (2, False, True, 0.5, True)


@pytest.mark.parametrize("shape", [(6, B, 4), (2, B, 12), (2, B + 1, 13), (1, B, 13)])
def test_states_of_other_shapes_are_refused_in_torchs_words(shape: tuple[int, ...]) -> None:
    with pytest.raises(RuntimeError, match=r"Expected hidden size \(2, 3, 13\), got \["):
        build()(inputs(B)[0], torch.zeros(shape, dtype=torch.float64))
