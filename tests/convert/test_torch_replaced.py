"""fastgru.install: torch.nn.GRU and GRUCell become fastgru's for code that knows only torch's names."""

import copy
import io
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence

import fastgru

ORIGINAL = torch.nn.GRU, torch.nn.GRUCell


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    fastgru.install()
    yield
    fastgru.uninstall()


def twin_of(layer: torch.nn.Module) -> torch.nn.Module:
    """torch's own layer with the same weights, by way of a file."""
    stream = io.BytesIO()
    torch.save(layer, stream)
    fastgru.uninstall()
    stream.seek(0)
    twin: torch.nn.Module = torch.load(stream, weights_only=False)
    fastgru.install()
    assert type(twin) in ORIGINAL
    return twin


class Encoder(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = torch.nn.GRU(4, 6, num_layers=2, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(x)
        return y


def test_every_name_of_torch_gives_the_same_class() -> None:
    from torch.nn import GRU, modules
    from torch.nn.modules import rnn

    assert GRU is torch.nn.GRU is modules.GRU is rnn.GRU
    assert issubclass(GRU, fastgru.GRU)
    assert issubclass(torch.nn.GRUCell, fastgru.GRUCell)
    assert (GRU.__module__, GRU.__qualname__) == ("torch.nn.modules.rnn", "GRU")
    fastgru.uninstall()
    assert (torch.nn.GRU, rnn.GRUCell) == ORIGINAL


def test_a_layer_has_torchs_numbers_and_gradients() -> None:
    x = torch.randn(5, 3, 4)
    ours, cell = torch.nn.GRU(4, 6), torch.nn.GRUCell(4, 6)
    theirs, their_cell = twin_of(ours), twin_of(cell)
    for layer, twin, given in ((ours, theirs, x), (ours, theirs, pack_sequence([*x])), (cell, their_cell, x[0])):
        found, expected = layer(given), twin(given)
        for y, wanted in zip(flat(found), flat(expected), strict=True):
            torch.testing.assert_close(y, wanted)
        sum(y.sum() for y in flat(found)).backward()
        sum(y.sum() for y in flat(expected)).backward()
        for weight, wanted in zip(layer.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(weight.grad, wanted.grad)
            weight.grad = wanted.grad = None


def flat(results: Any) -> list[Tensor]:
    leaves: list[Any] = torch.utils._pytree.tree_leaves(results)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def test_code_that_looks_at_classes_meets_ours() -> None:
    class Named(torch.nn.GRU):
        def __init__(self) -> None:
            super().__init__(4, 6)

        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(x)[0]

    model = torch.nn.ModuleList([torch.nn.GRU(4, 6), Named(), torch.nn.GRUCell(4, 6)])
    assert [isinstance(layer, torch.nn.GRU) for layer in model] == [True, True, False]
    assert type(model[0]) is torch.nn.GRU
    assert all(isinstance(layer, fastgru.GRU | fastgru.GRUCell) for layer in model)
    assert model[1](torch.randn(5, 3, 4)).shape == (5, 3, 6)
    traced = torch.fx.symbolic_trace(torch.nn.Sequential(torch.nn.GRU(4, 6)))  # a leaf, by the module of its class
    assert [node.op for node in traced.graph.nodes] == ["placeholder", "call_module", "output"]


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated", "ignore:torch.quantize_per_tensor")
def test_quantize_dynamic_takes_them_for_torchs() -> None:
    model = torch.nn.Sequential(torch.nn.GRU(4, 6), torch.nn.GRUCell(4, 6))
    quantized = torch.ao.quantization.quantize_dynamic(model)
    assert [*map(repr, quantized)] == ["DynamicQuantizedGRU(4, 6)", "DynamicQuantizedGRUCell(4, 6)"]


@pytest.mark.parametrize("kind", ["GRU", "GRUCell"])
def test_arguments_are_torchs_alone(kind: str) -> None:
    with pytest.raises(TypeError, match=rf"torch.nn.{kind} has no argument 'zoneout'.*fastgru.{kind} has"):
        getattr(torch.nn, kind)(4, 6, zoneout=0.1)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'hidden_size'"):
        getattr(torch.nn, kind)(4)


def test_a_pickle_holds_torchs_class_and_nothing_of_ours() -> None:
    for layer in (torch.nn.GRU(4, 6), torch.nn.GRUCell(4, 6)):
        layer(torch.randn(2, 4))
        text = pickle.dumps(layer)
        assert b"torch.nn.modules.rnn" in text
        assert b"fastgru" not in text
        assert vars(twin_of(layer)).keys() == vars(ORIGINAL[isinstance(layer, torch.nn.GRUCell)](4, 6)).keys()


def test_a_pickle_of_torchs_becomes_ours() -> None:
    fastgru.uninstall()
    texts = [pickle.dumps(kind(4, 6)) for kind in ORIGINAL]
    fastgru.install()
    for text, kind in zip(texts, (fastgru.GRU, fastgru.GRUCell), strict=True):
        layer = pickle.loads(text)
        assert isinstance(layer, kind)
        layer(torch.randn(2, 4))
    assert fastgru.uninstall().calls == {"cpu": 2}


def test_layers_live_on_when_torchs_classes_are_back() -> None:
    layer, x = torch.nn.GRU(4, 6), torch.randn(5, 3, 4)
    fastgru.uninstall()
    for again in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert type(again) is fastgru.GRU
        assert torch.equal(again(x)[0], layer(x)[0])
    assert type(copy.deepcopy(torch.nn.GRU(4, 6))) is ORIGINAL[0]


def test_accelerate_leaves_them_and_to_torch_gives_torchs_own() -> None:
    model = torch.nn.ModuleDict({"layer": torch.nn.GRU(4, 6), "cell": torch.nn.GRUCell(4, 6)})
    x = torch.randn(5, 4)
    expected = model["layer"](x)[0]
    assert fastgru.accelerate(model).swapped == ()
    assert fastgru.to_torch(model).swapped == ("layer", "cell")
    assert {*map(type, model.values())} == {*ORIGINAL}
    torch.testing.assert_close(model["layer"](x)[0], expected)


def test_it_is_compiled_whole() -> None:
    fastgru.uninstall()
    import torch._dynamo.config as config

    assert not config.allow_rnn
    fastgru.install()
    model, x = Encoder(), torch.randn(5, 3, 4)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), model(x))
    fastgru.uninstall()
    assert not config.allow_rnn


def test_it_is_scripted_as_torchs() -> None:
    model, x = Encoder(), torch.randn(5, 3, 4)
    expected = model(x)
    torch.testing.assert_close(torch.jit.script(copy.deepcopy(model))(x), expected)


def test_what_was_served_is_told() -> None:
    fastgru.uninstall()
    assert fastgru.uninstall() == fastgru.uninstall()
    fastgru.install()
    fastgru.install()
    model, cell = Encoder(), torch.nn.GRUCell(4, 6)
    torch.nn.GRU(4, 6)
    for _ in range(3):
        model(torch.randn(5, 3, 4))
    cell(torch.randn(2, 4))
    with torch.autograd.forward_ad.dual_level():
        cell(torch.autograd.forward_ad.make_dual(torch.randn(2, 4), torch.randn(2, 4)))
    found = fastgru.uninstall()
    assert (found.made, found.called, found.calls) == (3, 2, {"cpu": 4, "aten": 1})
    assert str(found) == (
        "torch.nn.GRU and GRUCell: 3 layers, 5 calls: 4 by cpu, 1 by aten (cpu: forward-mode differentiation is on); "
        "1 layer never called outside of compiled code"
    )
    fastgru.install()
    assert str(fastgru.uninstall()) == "no torch.nn.GRU or torch.nn.GRUCell was made in this process"
