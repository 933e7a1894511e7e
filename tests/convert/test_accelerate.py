"""fastgru.accelerate and fastgru.to_torch: the same model, numbers and objects, on other classes."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from grid import B, H, I, T
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import fastgru
from fastgru.common.errors import InputError
from fastgru.convert import Swapped, to_flax


class Model(nn.Module):
    """A layer, a cell, one of them on two paths, and others around them."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(I, I), nn.GRU(I, H, 2, batch_first=True, dropout=0.3, bidirectional=True)
        )
        self.cell = nn.GRUCell(2 * H, H, bias=False)
        self.again = self.cell

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.encoder(x)
        h = self.cell(y[:, -1])
        return self.again(y[:, 0], h)


class OwnGRU(nn.GRU):
    """A user's own layer."""


def gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Output and all gradients, with the dropout masks of one seed."""
    torch.manual_seed(1)
    y = model(x)
    return [y, *torch.autograd.grad(y.square().sum(), list(model.parameters()))]


def test_accelerate_keeps_numbers_and_gradients() -> None:
    model, x = Model().double(), torch.randn(B, T, I, dtype=torch.float64)
    expected = gradients(model, x)
    assert fastgru.accelerate(model) == Swapped(("encoder.1", "cell"), {})
    assert [type(module) for module in (model.encoder[1], model.cell)] == [fastgru.GRU, fastgru.GRUCell]
    torch.testing.assert_close(gradients(model, x), expected, rtol=1e-12, atol=1e-14)


def test_to_torch_goes_all_the_way_back() -> None:
    model = Model()
    before = copy.deepcopy(model)
    fastgru.accelerate(model)
    model.cell.backend = "reference"
    assert fastgru.to_torch(model) == Swapped(("encoder.1", "cell"), {})
    assert [type(module) for module in model.modules()] == [type(module) for module in before.modules()]
    assert vars(model.cell).keys() == vars(before.cell).keys()
    x = torch.randn(B, T, I)
    assert torch.equal(model.eval()(x), before.eval()(x))


def test_accelerate_keeps_objects_tied_modules_and_mode() -> None:
    model = Model()
    model.encoder.eval()
    model.encoder[1].register_buffer("extra", torch.ones(1))
    modules, parameters = list(model.modules()), dict(model.named_parameters())
    state = model.state_dict()
    fastgru.accelerate(model)
    assert all(now is then for now, then in zip(model.modules(), modules, strict=True))
    assert dict(model.named_parameters()).keys() == parameters.keys()
    assert all(now is parameters[name] for name, now in model.named_parameters())
    assert model.again is model.cell
    assert [module.training for module in (model, model.encoder[1], model.cell)] == [True, False, True]
    assert list(model.state_dict()) == list(state)


def test_an_optimizer_made_before_goes_on() -> None:
    twins = [Model().eval()]
    twins.append(copy.deepcopy(twins[0]))
    x = torch.randn(B, T, I)
    for model, swap in zip(twins, (False, True), strict=True):
        optimizer = torch.optim.Adam(model.parameters())
        for step in range(4):
            if swap and step == 2:
                fastgru.accelerate(model)
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
    for expected, got in zip(*(model.parameters() for model in twins), strict=True):
        torch.testing.assert_close(got, expected)


def test_hooks_of_every_kind_go_on() -> None:
    gru, calls = nn.GRU(I, H), []
    gru.register_forward_pre_hook(lambda *_: calls.append("before"))
    gru.register_forward_hook(lambda *_: calls.append("after"))
    gru.register_full_backward_hook(lambda *_: calls.append("backward"))
    gru.register_state_dict_post_hook(lambda *_: calls.append("state_dict"))
    gru.weight_hh_l0.register_hook(lambda _: calls.append("gradient"))
    fastgru.accelerate(gru)
    gru(torch.randn(T, B, I, requires_grad=True))[0].sum().backward()
    gru.state_dict()
    assert sorted(calls) == ["after", "backward", "before", "gradient", "state_dict"]


@pytest.mark.parametrize("make", [lambda: nn.GRU(I, H), lambda: nn.GRUCell(I, H)], ids=["GRU", "GRUCell"])
def test_a_model_that_is_a_gru_itself_is_swapped_in_place(make: Callable[[], nn.Module]) -> None:
    gru = make()
    kind, x = type(gru), torch.randn(B, I)
    expected = gru(x)
    assert str(fastgru.accelerate(gru)) == "swapped 1: (the model itself)"
    assert type(gru) is getattr(fastgru, kind.__name__)
    torch.testing.assert_close(gru(x), expected)
    assert fastgru.to_torch(gru).swapped == ("",)
    assert type(gru) is kind
    assert torch.equal(gru(x)[0], expected[0])


def test_what_is_left_is_told_with_the_reason() -> None:
    model = nn.ModuleDict({"own": OwnGRU(I, H), "patched": nn.GRU(I, H), "lstm": nn.LSTM(I, H), "gru": nn.GRU(I, H)})
    model["patched"].forward = lambda x: x
    done = fastgru.accelerate(model)
    assert done.swapped == ("gru",)
    assert [type(module) for module in model.values()] == [OwnGRU, nn.GRU, nn.LSTM, fastgru.GRU]
    assert str(done).splitlines() == [
        "swapped 1: gru",
        f"left own: {__name__}.OwnGRU extends torch.nn.modules.rnn.GRU and may depend on it; "
        "subclasses=True swaps it too",
        "left patched: its forward was replaced on the module itself",
    ]


def test_modules_in_a_plain_list_are_not_part_of_the_model() -> None:
    model = nn.Module()
    model.layers = [nn.GRU(I, H)]
    assert str(fastgru.accelerate(model)) == "swapped 0"
    assert type(model.layers[0]) is nn.GRU


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_scripted_gru_is_left() -> None:
    model = torch.jit.script(nn.Sequential(nn.GRU(I, H)))
    done = fastgru.accelerate(model)
    assert done.swapped == ()
    assert "swap before torch.jit.script" in done.left["0"]


def test_a_second_swap_finds_nothing() -> None:
    model = Model()
    fastgru.accelerate(model)
    assert fastgru.accelerate(model) == Swapped((), {})


@pytest.mark.parametrize("swap", [fastgru.accelerate, fastgru.to_torch])
def test_what_is_no_module_is_refused(swap: Callable[[object], object]) -> None:
    with pytest.raises(TypeError, match=r"expected a torch\.nn\.Module, got OrderedDict"):
        swap(Model().state_dict())


def test_an_accelerated_model_survives_pickle_and_deepcopy() -> None:
    model, x = Model().eval(), torch.randn(B, T, I)
    fastgru.accelerate(model)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(twin.encoder[1]) is fastgru.GRU
        assert twin.again is twin.cell
        assert torch.equal(twin(x), model(x))


def test_defaults_of_our_own_attributes_stand_on_the_class() -> None:
    for ours, theirs in ((fastgru.GRU(I, H), nn.GRU(I, H)), (fastgru.GRUCell(I, H), nn.GRUCell(I, H))):
        for name in vars(ours).keys() - vars(theirs).keys():
            assert getattr(type(ours), name) == getattr(ours, name), name


def test_parametrizations_stay_and_can_be_removed() -> None:
    gru, x = nn.GRU(I, H, 2).eval(), torch.randn(T, B, I)
    parametrizations.weight_norm(gru, "weight_hh_l0")
    parametrizations.spectral_norm(gru, "weight_ih_l1")
    expected = gradients(First(gru), x)
    assert fastgru.accelerate(gru).swapped == ("",)
    assert isinstance(gru, fastgru.GRU)
    torch.testing.assert_close(gradients(First(gru), x), expected)
    for name in ("weight_hh_l0", "weight_ih_l1"):
        parametrize.remove_parametrizations(gru, name)
    assert type(gru) is fastgru.GRU
    torch.testing.assert_close(gru(x)[0], expected[0])


def test_a_parametrized_subclass_is_left() -> None:
    gru = OwnGRU(I, H)
    parametrizations.weight_norm(gru, "weight_hh_l0")
    assert list(fastgru.accelerate(gru).left) == [""]


def test_a_pruned_layer_keeps_its_mask() -> None:
    gru, x = nn.GRU(I, H), torch.randn(T, B, I)
    prune.l1_unstructured(gru, "weight_hh_l0", 0.5)
    expected = gru(x)
    fastgru.accelerate(gru)
    torch.testing.assert_close(gru(x), expected)
    assert (gru.weight_hh_l0 == 0).sum() == gru.weight_hh_l0.numel() // 2


@pytest.mark.parametrize("wrapped", [True, False], ids=["torch.compile", "Module.compile"])
def test_a_compiled_model_runs_the_swapped_modules(wrapped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = First(nn.GRU(I, H)), torch.randn(T, B, I)
    if wrapped:
        compiled = torch.compile(model, backend="eager")
    else:
        model.compile(backend="eager")
        compiled = model
    expected = compiled(x)
    fastgru.accelerate(compiled)
    torch.testing.assert_close(compiled(x), expected)
    served = []
    forward = fastgru.GRU.forward
    monkeypatch.setattr(fastgru.GRU, "forward", lambda *a: served.append(1) or forward(*a))
    compiled(x)
    assert served
    torch.compiler.reset()


class Segments(nn.Module):
    """As torchrl's GRUModule: it packs for an nn.GRU, and gives a mask to whatever else stands there."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(I, H, 2, batch_first=True, dtype=torch.float64)

    def forward(self, x: Tensor, h0: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(self.gru, nn.GRU):
            packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            y, h_n = self.gru(packed, h0)
            return pad_packed_sequence(y, batch_first=True, total_length=x.size(1))[0], h_n
        return self.gru(x, h0, mask=torch.arange(x.size(1)) < lengths[:, None])


def test_a_caller_that_packs_for_torch_and_masks_for_others_gets_the_same() -> None:
    model, lengths = Segments(), torch.tensor([1, T, 2, T - 1])
    given = torch.randn(4, T, I, dtype=torch.float64), torch.randn(2, 4, H, dtype=torch.float64)
    leaves = [tensor.requires_grad_() for tensor in (*given, *model.parameters())]
    cotangents = [torch.randn(4, T, H, dtype=torch.float64), torch.randn(2, 4, H, dtype=torch.float64)]

    def results() -> list[Tensor]:
        outputs = model(*given, lengths)
        return [*outputs, *torch.autograd.grad(outputs, leaves, cotangents)]

    expected = results()
    fastgru.accelerate(model)
    torch.testing.assert_close(results(), expected, rtol=1e-12, atol=1e-14)


class First(nn.Module):
    """A layer's output alone."""

    def __init__(self, gru: nn.Module) -> None:
        super().__init__()
        self.gru = gru

    def forward(self, x: Tensor) -> Tensor:
        return self.gru(x)[0]


def test_the_original_cell_is_left_as_torch_has_none() -> None:
    gru = fastgru.GRU(I, H, reset_after=False)
    done = fastgru.to_torch(gru)
    assert done.swapped == ()
    assert done.left == {"": "it has reset_after=False, a form that torch.nn does not have"}
    assert type(gru) is fastgru.GRU
    with pytest.raises(InputError, match="reset_after=False, a form that the framework does not have"):
        to_flax(gru)
