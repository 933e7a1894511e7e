"""fastgru.accelerate(subclasses=True): a user's subclass of torch.nn.GRU, the same in everything but who computes."""

import copy
import io
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from grid import B, H, I, T
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import fastgru
from fastgru.convert import Swapped
from fastgru.convert.subclasses import ASKED


class Plain(nn.GRU):
    """torch's forward."""

    def output_size(self) -> int:
        return self.hidden_size * (2 if self.bidirectional else 1)


class OutputOnly(nn.GRU):
    """Zero-argument super."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.norm = nn.LayerNorm(self.hidden_size)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return self.norm(super().forward(x)[0])


class Named(nn.GRU):
    """super with the class's name, in a function of its own."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return self._output(x)

    def _output(self, x: Tensor) -> Tensor:
        return super(Named, self).forward(x)[0]  # noqa: UP008


class ByParent(OutputOnly):
    """The parent's forward by the parent's name, and within another function."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return torch.utils.checkpoint.checkpoint(lambda x: OutputOnly.forward(self, x), x, use_reentrant=False)


class Base(ABC, nn.RNNBase):
    """As published: the forward stands in a class beside torch's, which it reaches only from below."""

    @abstractmethod
    def initial(self, x: Tensor) -> Tensor: ...

    def forward(self, x: Tensor, hx: Tensor | None = None, lengths: Tensor | None = None) -> Any:
        if lengths is None:
            return super().forward(x, hx=hx)
        packed = pack_padded_sequence(x, lengths.clamp(min=1), self.batch_first, enforce_sorted=False)
        output, h_n = super().forward(packed, hx=hx)
        return pad_packed_sequence(output)[0], torch.where(lengths[:, None] > 0, h_n, self.initial(x))


class EmptySequences(Base, nn.GRU):
    def initial(self, x: Tensor) -> Tensor:
        return x.new_zeros(self.num_layers, x.size(1), self.hidden_size)


class PlainCell(nn.GRUCell):
    """torch's forward."""


class ResidualCell(nn.GRUCell):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:  # type: ignore[override]
        return h + super().forward(x, h)


GRUS = [Plain, OutputOnly, Named, ByParent, EmptySequences]


def results(module: nn.Module, *given: Tensor) -> list[Tensor]:
    """Outputs and the gradients of all parameters, for one cotangent."""
    outputs = module(*given)
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    generator = torch.Generator().manual_seed(1)
    cotangents = [torch.randn(y.shape, generator=generator, dtype=y.dtype) for y in outputs]
    return [*outputs, *torch.autograd.grad(outputs, list(module.parameters()), cotangents)]


def draw(*shape: int) -> Tensor:
    return torch.randn(*(shape or (T, B, I)), dtype=torch.float64)


def swapped(module: nn.Module) -> nn.Module:
    assert fastgru.accelerate(module, subclasses=True) == Swapped(("",), {})
    return module


@pytest.mark.parametrize("kind", GRUS)
def test_a_subclass_computes_and_learns_the_same_on_our_forward(
    kind: type[nn.GRU], monkeypatch: pytest.MonkeyPatch
) -> None:
    gru, x = kind(I, H, 2, dtype=torch.float64), draw()
    gru.double()
    expected = results(gru, x)
    swapped(gru)
    torch.testing.assert_close(results(gru, x), expected, rtol=1e-12, atol=1e-14)
    entered = []
    forward = fastgru.GRU.forward
    monkeypatch.setattr(fastgru.GRU, "forward", lambda *args, **named: entered.append(1) or forward(*args, **named))
    monkeypatch.setattr(nn.GRU, "forward", None)
    gru(x)
    assert entered == [1]


def test_a_subclass_of_the_cell_computes_and_learns_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    cell, given = ResidualCell(I, H, dtype=torch.float64), (draw(B, I), draw(B, H))
    expected = results(cell, *given)
    swapped(cell)
    monkeypatch.setattr(nn.GRUCell, "forward", None)
    torch.testing.assert_close(results(cell, *given), expected, rtol=1e-12, atol=1e-14)


def test_a_forward_that_packs_its_input_is_served() -> None:
    gru, lengths = EmptySequences(I, H, dtype=torch.float64), torch.tensor([T, 0, 3, 1, 2][:B])
    given = draw(), None, lengths
    expected = results(gru, *given)
    torch.testing.assert_close(results(swapped(gru), *given), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", [*GRUS, ResidualCell])
def test_the_module_stays_what_it_is(kind: type[nn.Module]) -> None:
    module = kind(I, H)
    before, held = copy.deepcopy(module), dict(module.named_parameters())
    swapped(module)
    assert all(isinstance(module, each) for each in kind.__mro__)
    assert (type(module).__module__, type(module).__qualname__) == (kind.__module__, kind.__qualname__)
    assert repr(module) == repr(before)
    assert list(module.state_dict()) == list(before.state_dict())
    assert all(parameter is held[name] for name, parameter in module.named_parameters())
    assert fastgru.accelerate(module, subclasses=True) == Swapped((), {})
    assert fastgru.to_torch(module) == Swapped(("",), {})
    assert type(module) is kind
    assert vars(module).keys() == vars(before).keys()


def test_a_call_leaves_nothing_behind_on_the_way_back() -> None:
    gru = Plain(I, H).eval()
    keys = vars(gru).keys() | set()
    swapped(gru)(torch.randn(T, B, I))
    gru.backend = "reference"
    fastgru.to_torch(gru)
    assert vars(gru).keys() == keys


def test_without_being_asked_for_it_is_left_and_told_how() -> None:
    gru = Plain(I, H)
    reason = f"{__name__}.Plain extends torch.nn.modules.rnn.GRU and may depend on it; subclasses=True swaps it too"
    assert fastgru.accelerate(gru) == Swapped((), {"": reason})
    assert type(gru) is Plain


def test_both_layers_of_one_subclass_have_one_class() -> None:
    model = nn.ModuleList([Plain(I, H), Plain(H, H), nn.GRU(I, H)])
    assert fastgru.accelerate(model, subclasses=True).swapped == ("0", "1", "2")
    assert type(model[0]) is type(model[1])
    assert type(model[2]) is fastgru.GRU


def test_what_it_makes_of_its_own_class_is_served_and_drawn_as_before() -> None:
    gru = swapped(Plain(I, H))
    torch.manual_seed(3)
    made = type(gru)(I, H, num_layers=2, bidirectional=True, batch_first=True)
    torch.manual_seed(3)
    expected = nn.GRU(I, H, num_layers=2, bidirectional=True, batch_first=True)
    assert isinstance(made, fastgru.GRU)
    assert made.output_size() == 2 * H
    assert all(torch.equal(got, w) for got, w in zip(made.parameters(), expected.parameters(), strict=True))
    with pytest.raises(ValueError, match="proj_size argument is only supported for LSTM"):
        type(gru)(I, H, proj_size=2)


def saved_and_loaded(module: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


class OwnState(Plain):
    """With a word of its own."""

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "word": "from its state"}


class OwnReduce(Plain):
    """Made anew, by its constructor."""

    def __reduce__(self) -> Any:
        return type(self), (self.input_size, self.hidden_size), self.state_dict()

    def __setstate__(self, state: Any) -> None:
        self.load_state_dict(state)


COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "pickle 0": lambda module: pickle.loads(pickle.dumps(module, protocol=0)),
    "torch.save": saved_and_loaded,
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("kind", [Plain, EmptySequences, OwnState, OwnReduce])
def test_copies_are_of_the_same_class(kind: type[nn.GRU], how: str) -> None:
    gru, x = swapped(kind(I, H)), torch.randn(T, B, I)
    y = gru(x)[0]
    made = COPIES[how](gru)
    assert type(made) is type(gru)
    assert "_kept" not in vars(made)
    assert getattr(made, "word", "from its state") == "from its state"
    assert torch.equal(made(x)[0], y)
    assert fastgru.to_torch(made).swapped == ("",)
    assert type(made) is kind


def test_an_optimizer_and_hooks_go_on() -> None:
    twins = [OutputOnly(I, H)]
    twins.append(copy.deepcopy(twins[0]))
    x, calls = torch.randn(T, B, I, requires_grad=True), []
    for gru, swap in zip(twins, (False, True), strict=True):
        optimizer = torch.optim.Adam(gru.parameters())
        gru.register_forward_hook(lambda *_: calls.append("forward"))
        gru.register_full_backward_hook(lambda *_: calls.append("backward"))
        for step in range(4):
            if swap and step == 2:
                swapped(gru)
            optimizer.zero_grad()
            gru(x).square().sum().backward()
            optimizer.step()
    assert calls == ["forward", "backward"] * 8
    for expected, got in zip(*(gru.parameters() for gru in twins), strict=True):
        torch.testing.assert_close(got, expected)


def test_parametrizations_stay_and_can_be_removed() -> None:
    gru, x = OutputOnly(I, H, dtype=torch.float64).double(), draw()
    parametrizations.weight_norm(gru, "weight_hh_l0")
    expected = results(gru, x)
    torch.testing.assert_close(results(swapped(gru), x), expected, rtol=1e-12, atol=1e-14)
    fastgru.to_torch(gru)
    assert type(gru).__bases__ == (OutputOnly,)
    swapped(gru)
    parametrize.remove_parametrizations(gru, "weight_hh_l0")
    assert isinstance(gru, fastgru.GRU)
    torch.testing.assert_close(gru(x), expected[0])
    parametrizations.weight_norm(gru, "weight_hh_l0")
    assert fastgru.to_torch(gru).swapped == ("",)
    assert type(gru).__bases__ == (OutputOnly,)


def test_torch_compile_runs_a_subclass_in_python_as_before() -> None:
    gru, x = swapped(OutputOnly(I, H)), torch.randn(T, B, I)
    torch.testing.assert_close(torch.compile(gru, backend="eager")(x), gru(x))
    torch.compiler.reset()


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_torch_jit_script_compiles_the_subclass() -> None:
    cell, x = PlainCell(I, H), torch.randn(B, I)
    scripted = torch.jit.script(swapped(cell))
    assert scripted.original_name == "PlainCell"
    assert "aten::gru_cell" in str(scripted.inlined_graph)
    torch.testing.assert_close(scripted(x), cell(x))


def test_info_tells_of_it() -> None:
    assert fastgru.info(swapped(OutputOnly(I, H))).backend == "cpu"


def test_what_is_its_own_on_the_module_is_not_overwritten() -> None:
    for kind in (nn.GRU, Plain):
        gru = kind(I, H)
        gru.memory = nn.Parameter(torch.zeros(2))
        left = fastgru.accelerate(gru, subclasses=True).left
        assert left == {"": "it has a memory of its own, which in fastgru's layer is something else"}
        assert type(gru) is kind


class ByName(nn.GRU):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return nn.GRU.forward(self, x)[0]


class OfBase(Named):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return self.proj.forward(nn.RNNBase.forward(self, x))


class Alone(nn.GRU):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        assert isinstance(self, nn.GRU)
        self.inner = nn.GRU(*args)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return self.inner.forward(x)[0]


class OfItsType(nn.GRU):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super(type(self), self).forward(x)[0]


class DroppedWeights(nn.GRU):
    def forward(self, *given: Any) -> Any:  # type: ignore[override]
        self._flat_weights = [nn.functional.dropout(weight, 0.5, self.training) for weight in self._flat_weights]
        return super().forward(*given)


class Unchecked(nn.GRU):
    def check_input(self, *given: Any) -> None:
        """Whatever comes."""


class Stepping(nn.GRU):
    def step(self, x: Tensor) -> Tensor:
        return self(x[None])[1]


class Registered(nn.GRU):
    known: ClassVar[list[type]] = []

    def __init_subclass__(cls, *, name: str) -> None:
        super().__init_subclass__()
        Registered.known.append(cls)


class Wrapped(nn.GRU):
    forward = staticmethod(len)  # type: ignore[assignment]


REASONS = {
    ByName: "ByName names torch.nn.modules.rnn.GRU.forward, which is torch's; write super().forward",
    OfBase: "OfBase names torch.nn.modules.rnn.GRU.forward, which is torch's; write super().forward",
    Alone: "Alone has a forward that does not call super().forward, so it would not run fastgru's",
    OfItsType: "OfItsType has a forward that does not call super().forward, so it would not run fastgru's",
    DroppedWeights: "DroppedWeights has to do with _flat_weights, which torch's forward uses and fastgru's does not",
    Unchecked: "Unchecked has to do with check_input, which torch's forward uses and fastgru's does not",
    Stepping: "Stepping has a step of its own, which in fastgru's layer is something else",
    Registered: "Registered has an __init_subclass__, which would take the class made for it for a subclass",
    Wrapped: "Wrapped has a forward that does not call super().forward, so it would not run fastgru's",
}


@pytest.mark.parametrize("kind", REASONS)
def test_a_subclass_that_needs_more_of_torch_is_left_with_the_reason(kind: type[nn.GRU]) -> None:
    gru = kind(I, H)
    assert fastgru.accelerate(gru, subclasses=True).left[""] == f"{__name__}.{REASONS[kind]}"
    assert type(gru) is kind
    assert not fastgru.accelerate(gru).left[""].endswith("subclasses=True swaps it too")


def test_a_subclass_of_ours_is_not_torchs() -> None:
    class Ours(fastgru.GRU):
        """A user's own."""

    gru = Ours(I, H)
    assert fastgru.accelerate(gru, subclasses=True) == Swapped((), {})
    assert "extends fastgru.nn.GRU and may depend on it" in fastgru.to_torch(gru).left[""]


@pytest.mark.parametrize("name", ASKED)
def test_torchs_forward_still_asks_for_what_is_listed(name: str) -> None:
    functions = [nn.GRU.forward, nn.GRU.check_forward_args, nn.GRU.check_hidden_size]
    assert any(name in function.__code__.co_names for function in functions)
