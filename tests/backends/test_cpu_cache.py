"""Packed weights kept from call to call: they must never be seen, only felt."""

import copy
import gc
import itertools
import threading
import time

import pytest
import torch
from torch import Tensor

import fastgru
from fastgru import _native


def layer(features: int, units: int, **options: bool) -> tuple[fastgru.GRU, Tensor]:
    """A layer of the kernels', and an input of so few rows that its packed weights are kept."""
    return fastgru.GRU(features, units, backend="cpu", **options), torch.randn(7, 5, features)


def expected(gru: fastgru.GRU, x: Tensor) -> Tensor:
    """torch's own y, from the weights as they are now."""
    theirs = torch.nn.GRU(gru.input_size, gru.hidden_size, bidirectional=gru.bidirectional)
    theirs.load_state_dict(gru.state_dict())
    with torch.no_grad():
        return theirs(x)[0]


def check(gru: fastgru.GRU, x: Tensor) -> None:
    with torch.no_grad():
        for _ in range(2):  # packs, and uses what it packed
            torch.testing.assert_close(gru(x)[0], expected(gru, x), rtol=1e-4, atol=1e-5)


def test_weights_written_during_a_call_are_seen_by_the_next() -> None:
    gru, x = layer(8, 512)
    long = torch.randn(2000, 1, 8)

    def call() -> None:
        with torch.no_grad():
            gru(long)

    for trial in range(3):
        new = torch.randn_like(gru.weight_hh_l0) / 30
        running = threading.Thread(target=call)
        running.start()
        time.sleep(0.01 * (1 + trial))
        with torch.no_grad():
            gru.weight_hh_l0.copy_(new)
        assert running.is_alive()
        running.join()
        check(gru, x)


def test_a_call_that_failed_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    gru, x = layer(64, 128)
    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr(torch, "get_num_threads", lambda: 2**31 - 1)  # scratch for so many cannot be had
        with pytest.raises(MemoryError):
            gru(x)
    check(gru, x)


def outcome(gru: torch.nn.Module, x: Tensor, h0: Tensor | None) -> dict[str, Tensor]:
    """y and h_n with and without gradients wanted, and all gradients."""
    with torch.no_grad():
        y, h_n = gru(x, h0)
    leaves = {"x": x.clone().requires_grad_(), **dict(gru.named_parameters())}
    if h0 is not None:
        leaves["h0"] = h0.clone().requires_grad_()
    outputs = gru(leaves["x"], leaves.get("h0"))
    gradients = torch.autograd.grad(outputs, list(leaves.values()), [torch.ones_like(t) for t in outputs])
    return {"y": y, "h_n": h_n, "saving y": outputs[0], **dict(zip(leaves, gradients, strict=True))}


@pytest.mark.parametrize("isa", _native.instruction_sets())
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("poisoned", ["x", "h0", "weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"])
def test_one_poisoned_number_shows_where_torch_shows_it(isa: str, value: float, poisoned: str) -> None:
    _native.force_instruction_set(isa)
    try:
        for steps, batch, with_h0 in itertools.product((1, 3), (1, 4), (poisoned == "h0", True)):
            theirs, x = torch.nn.GRU(5, 20), torch.randn(steps, batch, 5)
            h0 = torch.randn(1, batch, 20) if with_h0 else None
            tensors = {"x": x, "h0": h0, **dict(theirs.named_parameters())}
            target = tensors[poisoned]
            assert target is not None
            with torch.no_grad():
                target.view(-1)[-1] = value
            ours = fastgru.GRU(5, 20, backend="cpu")
            ours.load_state_dict(theirs.state_dict())
            wanted, got = outcome(theirs, x, h0), outcome(ours, x, h0)
            for name, tensor in wanted.items():
                assert torch.equal(got[name].isnan(), tensor.isnan()), (name, steps, batch, with_h0)
    finally:
        _native.force_instruction_set("")


def test_cleared_weights_are_packed_anew() -> None:
    gru, x = layer(20, 40, bidirectional=True)
    check(gru, x)
    fastgru.clear_caches()
    check(gru, x)


def kept() -> int:
    """Bytes of packed weights."""
    return int(_native.packed_bytes())


def test_packed_weights_go_with_their_module() -> None:
    fastgru.clear_caches()
    gru, x = layer(20, 40, bidirectional=True)
    check(gru, x)
    of_one = kept()
    assert of_one > 0
    other = copy.deepcopy(gru)
    check(other, x)
    assert kept() == 2 * of_one
    del gru
    gc.collect()
    assert kept() == of_one
    del other
    gc.collect()
    assert kept() == 0


def test_a_cell_keeps_its_packed_weights_while_it_lives() -> None:
    fastgru.clear_caches()
    cell, x = fastgru.GRUCell(20, 40), torch.randn(5, 20)
    with torch.no_grad():
        first = cell(x)
        assert torch.equal(cell(x), first)
    assert kept() > 0
    del cell
    gc.collect()
    assert kept() == 0


@pytest.mark.parametrize("how", ["half", "autocast"])
def test_copies_made_for_one_call_leave_one_packing(how: str) -> None:
    fastgru.clear_caches()
    gru = fastgru.GRU(64, 128)
    x = torch.randn(9, 4, 64)
    if how == "half":
        gru, x = gru.bfloat16(), x.bfloat16()
    sizes = set()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        for i in range(30):
            held = [torch.empty(64 * i + 1) for _ in range(4)]  # so that copies lie elsewhere each time
            gru(x[: 1 + i % 9])
            sizes.add(kept())
            del held
    assert len(sizes - {0}) == 1
    with torch.no_grad():
        gru.weight_hh_l0.mul_(2)
        exact = fastgru.GRU(64, 128)
        exact.load_state_dict({name: tensor.float() for name, tensor in gru.state_dict().items()})
        torch.testing.assert_close(gru.float()(x.float())[0], exact(x.float())[0])


def test_a_layer_called_with_many_weights_keeps_a_few() -> None:
    fastgru.clear_caches()
    gru, x = layer(8, 16)
    check(gru, x)
    of_one = kept()
    many = [{name: torch.randn_like(p) for name, p in gru.named_parameters()} for _ in range(40)]
    with torch.no_grad():
        for weights in many:
            torch.func.functional_call(gru, weights, x)
    assert of_one < kept() <= 16 * of_one


def test_programs_without_a_module_keep_a_bounded_number() -> None:
    fastgru.clear_caches()
    gru, x = layer(8, 16)
    none, variant = (None,) * 6, gru.spec.variant
    with torch.no_grad():
        for _ in range(200):
            weights = [torch.randn_like(p) for p in gru.parameters()]
            torch.ops.fastgru.layer("cpu", x, None, None, weights, *none, *variant, 5, False)
        del weights
    check(gru, x)
    total = kept()
    del gru
    gc.collect()
    of_one = total - kept()
    assert kept() <= 64 * of_one
    fastgru.clear_caches()
    assert kept() == 0


def test_all_together_keep_a_bounded_number_of_bytes() -> None:
    fastgru.clear_caches()
    layers = [fastgru.GRU(1024, 1024) for _ in range(12)]  # 25 MB each
    x = torch.randn(2, 3, 1024)
    with torch.no_grad():
        for gru in layers:
            gru(x)
            assert kept() <= 256 << 20
    assert kept() > 200 << 20
    del layers, gru
    gc.collect()
    assert kept() == 0


def test_a_call_takes_as_long_beside_many_layers_as_alone() -> None:
    x = torch.randn(5, 2, 4)

    def seconds(nets: list[fastgru.GRU]) -> float:
        """The fastest of some rounds over the first hundred, each after all the others were called."""
        best = float("inf")
        for _ in range(5):
            for gru in nets[100:]:
                gru(x)
            start = time.perf_counter()
            for gru in nets[:100]:
                gru(x)
            best = min(best, time.perf_counter() - start)
        return best

    few, many = ([fastgru.GRU(4, 8) for _ in range(count)] for count in (100, 4000))
    with torch.no_grad():
        alone, beside = seconds(few), seconds(many)
    assert beside < 3 * alone  # a list that was walked made it 10 times


def test_threads_use_and_clear_caches_at_once() -> None:
    gru, x = layer(16, 32)
    wanted = expected(gru, x)
    wrong: list[Tensor] = []

    def run() -> None:
        with torch.no_grad():
            for i in range(200):
                y = gru(x)[0]
                if not torch.allclose(y, wanted, rtol=1e-4, atol=1e-5):
                    wrong.append(y)
                if i % 20 == 0:
                    fastgru.clear_caches()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
