"""Packed weights kept from call to call: they must never be seen, only felt."""

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
    _native.clear_packed()
    check(gru, x)
