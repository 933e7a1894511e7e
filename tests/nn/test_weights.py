"""What torch's tools do to a layer's weights: the layer computes with what is there, as torch.nn's does."""

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor
from torch.nn.utils import parametrizations, parametrize, prune
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from twins import B, H, I, Layer, T, same, twins, warm

import fastgru


def norm_hooks(layer: Layer) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the old weight_norm is deprecated, and in use
        torch.nn.utils.weight_norm(layer, "weight_hh_l0")


class Doubled(torch.nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def only_one_trains(layer: Layer) -> None:
    layer.requires_grad_(False).weight_hh_l0.requires_grad_(True)


def all_but_one_train(layer: Layer) -> None:
    layer.bias_ih_l0.requires_grad_(False)


def tie(layer: Layer) -> None:
    layer.weight_hh_l0_reverse = layer.weight_hh_l0


def tie_to_another(layer: Layer) -> None:
    torch.manual_seed(3)
    layer.weight_hh_l0 = torch.nn.Linear(H, 3 * H).weight


def from_vector(layer: Layer) -> None:
    vector = torch.nn.utils.parameters_to_vector(layer.parameters())
    torch.nn.utils.vector_to_parameters(vector.detach() * 2 + 0.1, layer.parameters())


def halve_all(module: torch.nn.Module) -> None:
    for parameter in module.parameters(recurse=False):
        parameter.data.mul_(0.5)


def through_hooks(layer: Layer) -> None:
    def add_one(module: torch.nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
        state[f"{prefix}bias_ih_l0"].add_(1)

    layer.register_state_dict_post_hook(add_one)
    layer.register_load_state_dict_pre_hook(lambda module, *rest: add_one(module, *rest))
    layer.load_state_dict({name: value.clone() for name, value in layer.state_dict().items()})


def through_meta(layer: Layer) -> None:
    layer.to("meta").to_empty(device="cpu")
    torch.manual_seed(4)
    layer.reset_parameters()


@contextmanager
def swapping() -> Iterator[None]:
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        yield
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


def swapped(layer: Layer) -> None:
    with swapping():
        halve_all(layer.double().float())


def step(optimizer: Callable[..., torch.optim.Optimizer], **options: float | bool) -> Callable[[Layer], None]:
    def run(layer: Layer) -> None:
        run = optimizer(layer.parameters(), **options)
        x = torch.linspace(-1, 1, T * B * I).view(T, B, I)
        for _ in range(3):
            run.zero_grad()
            layer(x)[0].square().sum().backward()
            run.step()
            warm(layer)

    return run


CHANGES: dict[str, Callable[[Layer], object]] = {
    "double": lambda layer: layer.double(),
    "to a dtype and back": lambda layer: layer.to(torch.bfloat16).float(),
    "half and back": lambda layer: layer.half().float(),
    "to meta, to_empty, reset_parameters": through_meta,
    "apply": lambda layer: layer.apply(halve_all),
    "swapped parameters": swapped,
    "parameters_to_vector": from_vector,
    "state_dict hooks": through_hooks,
    "requires_grad on one weight only": only_one_trains,
    "requires_grad on all but one": all_but_one_train,
    "a weight tied to another direction's": tie,
    "a weight tied to another module's": tie_to_another,
    "parametrize": lambda layer: parametrize.register_parametrization(layer, "weight_ih_l0", Doubled()),
    "parametrize a bias": lambda layer: parametrize.register_parametrization(layer, "bias_hh_l0", Doubled()),
    "parametrize, removed": lambda layer: parametrize.remove_parametrizations(
        parametrize.register_parametrization(layer, "weight_ih_l0", Doubled()), "weight_ih_l0"
    ),
    "parametrizations.weight_norm": lambda layer: parametrizations.weight_norm(layer, "weight_hh_l0"),
    "parametrizations.orthogonal": lambda layer: parametrizations.orthogonal(layer, "weight_hh_l0"),
    "parametrizations.spectral_norm": lambda layer: parametrizations.spectral_norm(layer.eval(), "weight_hh_l0"),
    "the old weight_norm": norm_hooks,
    "the old spectral_norm": lambda layer: torch.nn.utils.spectral_norm(layer.eval(), "weight_hh_l0"),
    "prune": lambda layer: prune.l1_unstructured(layer, "weight_hh_l0", amount=0.5),
    "prune, made permanent": lambda layer: prune.remove(
        prune.l1_unstructured(layer, "weight_hh_l0", amount=0.5), "weight_hh_l0"
    ),
    "SGD": step(torch.optim.SGD, lr=0.1),
    "SGD foreach": step(torch.optim.SGD, lr=0.1, momentum=0.9, foreach=True),
    "SGD fused": step(torch.optim.SGD, lr=0.1, fused=True),
    "Adam": step(torch.optim.Adam, lr=0.1),
    "Adam foreach": step(torch.optim.Adam, lr=0.1, foreach=True),
    "Adam fused": step(torch.optim.Adam, lr=0.1, fused=True),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_layer_computes_what_torchs_does(change: str) -> None:
    ours, theirs = twins(bidirectional=True)
    before = copy.deepcopy(ours)
    for layer in (ours, theirs):
        warm(layer)
        torch.manual_seed(1)
        CHANGES[change](layer)
    warm(ours)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    same(ours, theirs)
    if not change.startswith(
        ("double", "requires_grad", "parametrize, removed", "the old weight", "parametrizations.w")
    ):
        x = torch.randn(T, B, I)
        assert not torch.equal(ours(x)[0], before(x)[0]), "the change changes nothing"


@pytest.mark.parametrize(
    "change", ["parametrizations.weight_norm", "parametrizations.orthogonal", "the old weight_norm"]
)
def test_a_changed_layer_trains_as_torchs_does(change: str) -> None:
    layers = twins()
    for layer in layers:
        torch.manual_seed(1)
        CHANGES[change](layer)
        step(torch.optim.SGD, lr=0.01)(layer)
    same(*layers)


def test_cached_parametrizations_are_used() -> None:
    ours, theirs = twins()
    for layer in (ours, theirs):
        parametrize.register_parametrization(layer, "weight_hh_l0", Doubled())
    x = torch.randn(T, B, I)
    with parametrize.cached():
        for got, expected in zip(ours(x), theirs(x), strict=True):
            torch.testing.assert_close(got, expected)


def test_swapped_parameters_are_loaded_where_torchs_layer_refuses() -> None:
    ours, theirs = twins()
    doubled = {name: value * 2 for name, value in theirs.state_dict().items()}
    weight = ours.weight_ih_l0
    with swapping():
        ours.load_state_dict(doubled)
        with pytest.raises(RuntimeError, match="Cannot swap t1 because it has weakref"):
            theirs.load_state_dict(doubled)
    theirs.load_state_dict(doubled)
    assert ours.weight_ih_l0 is weight
    same(ours, theirs)


def test_one_module_used_twice_gets_both_gradients() -> None:
    models = []
    for kind in (fastgru.GRU, torch.nn.GRU):
        torch.manual_seed(2)
        layer = kind(I, I)
        models.append(torch.nn.ModuleList([layer, layer]))
    x = torch.randn(T, B, I)
    for first, second in models:
        second(first(x)[0])[0].square().sum().backward()
    for got, expected in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(got.grad, expected.grad)


def test_an_average_of_models_is_torchs() -> None:
    averages = []
    for layer in twins():
        average = AveragedModel(layer, multi_avg_fn=get_ema_multi_avg_fn(0.5))
        for _ in range(3):
            warm(average.module)
            step(torch.optim.SGD, lr=0.1)(layer)
            average.update_parameters(layer)
        averages.append(average.module)
    same(*averages)
