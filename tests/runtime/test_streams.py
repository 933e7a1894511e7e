"""Streams in threads, and what a step costs in memory."""

import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from fastgru import _native, runtime


def gru(inputs: int = 8, hidden: int = 16, layers: int = 1) -> runtime.GRU:
    own = torch.nn.GRU(inputs, hidden, layers)
    return runtime.GRU({name: value.detach().numpy() for name, value in own.named_parameters()})


def test_streams_run_beside_each_other() -> None:
    shared = gru(32, 64, 2)
    inputs = torch.randn(4, 200, 3, 32).numpy()
    expected = [shared(x)[0] for x in inputs]

    def run(x: Any) -> Any:
        stream = shared.stream(3)
        return np.stack([stream.step(x_t) for x_t in x])

    with ThreadPoolExecutor(4) as pool:
        for found, theirs in zip(pool.map(run, inputs), expected, strict=True):
            np.testing.assert_allclose(found, theirs, atol=1e-6)


def test_long_calls_let_other_threads_run() -> None:
    stream = gru(512, 512).stream(64)
    x, out = np.zeros((64, 512), "f4"), np.empty((64, 512), "f4")
    counted, done = 0, threading.Event()

    def count() -> None:
        nonlocal counted
        while not done.is_set():
            counted += 1

    thread = threading.Thread(target=count)
    thread.start()
    for _ in range(20):
        stream.step(x, out)
    done.set()
    thread.join()
    assert counted > 100


def test_a_stream_in_two_threads_at_once_is_refused() -> None:
    stream = gru(1024, 1024).stream(128)
    x = np.zeros((128, 1024), "f4")
    refusals: list[str] = []

    def run() -> None:
        for _ in range(10):
            try:
                stream.step(x)
            except RuntimeError as error:
                refusals.append(str(error))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refusals
    assert {*refusals} == {"a stream is for one thread at a time, and another is in it: give each its own"}
    assert stream.step(x).shape == (128, 1024)  # and is free afterwards


def test_a_step_into_an_array_allocates_nothing() -> None:
    stream, x, out = gru().stream(), np.zeros(8, "f4"), np.empty(16, "f4")
    stream.step(x, out)
    tracemalloc.start()
    try:
        stream.step(x, out)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(1000):
            stream.step(x, out)
        assert tracemalloc.get_traced_memory()[0] - before < 200  # the loop's own number
    finally:
        tracemalloc.stop()


def test_a_stream_outlives_its_gru() -> None:
    stream = gru().stream(2)
    own = stream.gru
    x = torch.randn(2, 8).numpy()
    expected = own.stream(2).step(x)
    bare = _native.Stream(own._network, 2)
    del stream, own
    out = np.empty((2, 16), "f4")
    bare.step(x, out, 1)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("batch", [0, -1, 1.5, True, "2", None])
def test_a_batch_that_is_no_number_of_sequences_is_refused(batch: Any) -> None:
    with pytest.raises(ValueError, match="batch must be a number of sequences of at least 1"):
        gru().stream(batch)


def test_a_bidirectional_gru_has_no_stream() -> None:
    own = torch.nn.GRU(3, 4, bidirectional=True)
    both = runtime.GRU({name: value.detach().numpy() for name, value in own.named_parameters()})
    with pytest.raises(ValueError, match="no stream: its second direction begins at the sequence's end"):
        both.stream()
    with pytest.raises(ValueError, match="no stream"):
        _native.Stream(both._network, 1)
