"""Packed weights kept from call to call: they must never be seen, only felt."""

import threading
import time

import pytest
import torch
from torch import Tensor

import fastgru


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
