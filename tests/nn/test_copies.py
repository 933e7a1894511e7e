"""Layers copied, stored, shared and made elsewhere compute what torch.nn's do."""

import copy
import io
import pickle
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor
from twins import B, H, I, T, outcome, same, twins, warm

import fastgru

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


def test_its_methods_work_in_a_class_that_copies_them_from_it() -> None:
    """As torchrl's GRU in Python has all that torch.nn.GRU defines; a program may have put ours in its place."""

    class Copied(torch.nn.RNNBase):
        def __init__(self, *sizes: int) -> None:
            super().__init__("GRU", *sizes)

    for name in vars(fastgru.GRU).keys() - {"__init__"}:
        setattr(Copied, name, getattr(fastgru.GRU, name))
    torch.manual_seed(1)
    copied = Copied(I, H)
    torch.manual_seed(1)
    expected = torch.nn.GRU(I, H).state_dict()
    assert all(torch.equal(copied.state_dict()[name], weight) for name, weight in expected.items())
    copied.load_state_dict({name: 2 * weight for name, weight in expected.items()})
    copied.flatten_parameters()
    assert torch.equal(copied.weight_hh_l0, 2 * expected["weight_hh_l0"])
