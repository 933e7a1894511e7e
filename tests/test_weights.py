"""What torch's tools do to a layer's weights: the layer computes with what is there, as torch.nn's does."""

import copy
import io
import pickle
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.utils import parametrizations, parametrize, prune
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import fastgru

T, B, I, H = 6, 3, 5, 7

Layer = torch.nn.GRU | fastgru.GRU


def twins(**options: bool | int) -> tuple[fastgru.GRU, torch.nn.GRU]:
    """Our layer and torch's, with the same weights."""
    ours, theirs = fastgru.GRU(I, H, **options), torch.nn.GRU(I, H, **options)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def warm(layer: Layer) -> None:
    """Call it where no gradient is wanted, so that packed weights are kept."""
    with torch.no_grad():
        for _ in range(2):
            layer(torch.randn(T, B, layer.input_size).to(layer.weight_ih_l0))


def outcome(layer: Layer, x: Tensor) -> list[Tensor]:
    """y and h_n with and without gradients wanted, and the gradients of all that asks for one."""
    x = x.clone().requires_grad_()
    with torch.no_grad():
        results = [*layer(x)]
    outputs = layer(x)
    leaves = [x, *(p for p in layer.parameters() if p.requires_grad)]
    return [*results, *outputs, *torch.autograd.grad(outputs, leaves, [torch.ones_like(t) for t in outputs])]


def same(ours: Layer, theirs: Layer) -> None:
    x = torch.randn(T, B, I).to(theirs.weight_ih_l0)
    for got, expected in zip(outcome(ours, x), outcome(theirs, x), strict=True):
        torch.testing.assert_close(got, expected)


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
    "parametrize, cached": lambda layer: parametrize.register_parametrization(layer, "bias_hh_l0", Doubled()),
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


COPIES: dict[str, Callable[[fastgru.GRU], fastgru.GRU]] = {
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "pickle": lambda layer: pickle.loads(pickle.dumps(layer)),
    "torch.save of the module": lambda layer: torch.load(saved(layer), weights_only=False),
    "torch.save of the state_dict": lambda layer: loaded(layer, torch.load(saved(layer.state_dict()))),
    "torch.load onto meta, assigned": lambda layer: loaded(
        fastgru.GRU(I, H, 2, device="meta", backend="cpu"), torch.load(saved(layer.state_dict())), assign=True
    ),
}


def saved(what: object) -> io.BytesIO:
    file = io.BytesIO()
    torch.save(what, file)
    file.seek(0)
    return file


def loaded(like: fastgru.GRU, state: dict[str, Tensor], assign: bool = False) -> fastgru.GRU:
    layer = like if assign else fastgru.GRU(I, H, 2, backend=like.backend)
    layer.load_state_dict(state, assign=assign)
    return layer


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_computes_the_same(way: str) -> None:
    layer = fastgru.GRU(I, H, 2, backend="cpu")
    warm(layer)
    twin = COPIES[way](layer)
    assert twin.backend == "cpu"
    x = torch.randn(T, B, I)
    for got, expected in zip(outcome(twin, x), outcome(layer, x), strict=True):
        assert torch.equal(got, expected)
    if way != "copy.copy":  # which shares its parameters, as torch's does
        expected = layer(x)[0]
        torch.nn.init.zeros_(twin.weight_hh_l0)
        assert torch.equal(layer(x)[0], expected)
        assert not torch.equal(twin(x)[0], expected)


def test_weights_mapped_from_a_file_compute_the_same(tmp_path: Path) -> None:
    layer, twin = fastgru.GRU(I, H), fastgru.GRU(I, H, device="meta", backend="cpu")
    torch.save(layer.state_dict(), tmp_path / "weights")
    twin.load_state_dict(torch.load(tmp_path / "weights", mmap=True), assign=True)
    same(twin, layer)


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


def test_default_device_and_dtype_are_torchs() -> None:
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        layers = fastgru.GRU(I, H), fastgru.GRUCell(I, H)
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
    assert {(p.dtype, p.device.type) for layer in layers for p in layer.parameters()} == {(torch.float64, "meta")}


def test_on_meta_only_shapes_are_computed() -> None:
    gru, cell = fastgru.GRU(I, H, 2, bidirectional=True, device="meta"), fastgru.GRUCell(I, H, device="meta")
    y, h_n = gru(torch.empty(T, B, I, device="meta"))
    assert (y.shape, h_n.shape, y.device.type) == ((T, B, 2 * H), (4, B, H), "meta")
    assert cell(torch.empty(B, I, device="meta")).shape == (B, H)


MODES: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "outside": nullcontext,
    "inside": torch.inference_mode,
}


@pytest.mark.parametrize("used", MODES)
@pytest.mark.parametrize("made", MODES)
def test_inference_mode_gives_torchs_numbers(made: str, used: str) -> None:
    with MODES[made]():
        ours, theirs = twins(num_layers=2)
        x = torch.randn(T, B, I)
    with MODES[used]() if used == "inside" else torch.no_grad():
        for _ in range(2):
            for got, expected in zip(ours(x), theirs(x), strict=True):
                torch.testing.assert_close(got, expected)
                assert got.is_inference() == expected.is_inference()
        theirs.weight_hh_l0.mul_(2) if made == used else None
        ours.weight_hh_l0.mul_(2) if made == used else None
        torch.testing.assert_close(ours(x), theirs(x))


def test_weights_of_inference_mode_refuse_autograd_in_torchs_words() -> None:
    with torch.inference_mode():
        layers = twins()
    words = []
    for layer in layers:
        with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward") as caught:
            layer(torch.randn(T, B, I, requires_grad=True))
        words.append(str(caught.value))
    assert words[0] == words[1]


def train_in_child(layer: fastgru.GRU, x: Tensor) -> None:
    torch.set_num_threads(1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer(x)[0].square().sum().backward()
    optimizer.step()


@contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def test_training_in_a_child_process_is_seen_by_the_parent() -> None:
    layer, x = fastgru.GRU(I, H, backend="cpu").share_memory(), torch.randn(T, B, I)
    twin = torch.nn.GRU(I, H)
    twin.load_state_dict(layer.state_dict())
    with one_thread():
        warm(layer)
        before = layer(x)[0].detach()
        child = torch.multiprocessing.get_context("fork").Process(target=train_in_child, args=(layer, x))
        child.start()
        child.join(60)
    assert child.exitcode == 0
    train_in_child(twin, x)
    same(layer, twin)
    assert not torch.equal(layer(x)[0], before)
