"""A sequence's numbers are the same bits in any company: exact equality, on every instruction set of this machine.

Each sequence alone on one thread, without gradients, is what all else is held to.
"""

from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import fastgru
from fastgru import _native

SETS = _native.instruction_sets()
# I, H: the vectors' edges, panels of which some are left over, units shared out among threads, longer rows than a line.
SIZES = [(1, 1), (5, 7), (33, 40), (70, 96), (130, 9)]
BATCHES = [1, 2, 3, 5, 10, 17]
MOST = max(BATCHES)
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "without biases": {"bias": False},
    "bidirectional": {"bidirectional": True},
    "two layers": {"num_layers": 2},
    "layer_norm": {"layer_norm": True},
    "reset_after=False": {"reset_after": False},
    "zoneout": {"zoneout": 0.25},
}


@pytest.fixture(params=SETS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    _native.force_instruction_set(request.param)
    yield request.param
    _native.force_instruction_set("")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
    assert not _native.is_batch_invariant()


def drawn(gru: fastgru.GRU, steps: int) -> tuple[Tensor, Tensor]:
    """x [T, MOST, I] and h0 of MOST sequences."""
    dtype, hidden = gru.weight_hh_l0.dtype, gru.weight_hh_l0.size(1)
    states = gru.num_layers * (1 + gru.bidirectional)
    x = torch.randn(steps, MOST, gru.input_size, dtype=dtype)
    return x, torch.randn(states, MOST, hidden, dtype=dtype)


def alone(gru: fastgru.GRU, x: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs and final states of each sequence by itself, side by side again."""
    torch.set_num_threads(1)
    with torch.no_grad():
        found = [gru(x[:, b : b + 1], h0[:, b : b + 1]) for b in range(x.size(1))]
    return torch.cat([y for y, _ in found], 1), torch.cat([h_n for _, h_n in found], 1)


def differing(gru: fastgru.GRU, steps: int) -> list[str]:
    """The batches in which a sequence has other bits than alone, by their sizes, places, threads and gradients."""
    x, h0 = drawn(gru, steps)
    expected = alone(gru, x, h0)
    found = []
    for batch in BATCHES:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            first = (MOST - batch) // 2
            own = slice(first, first + batch)
            for grad in (False, True):
                with torch.set_grad_enabled(grad):
                    got = gru(x[:, own], h0[:, own])
                if not all(torch.equal(a, b[:, own]) for a, b in zip(got, expected, strict=True)):
                    found.append(f"{batch} from {first}, {threads} threads, gradients {grad}")
    return found


def made(sizes: tuple[int, int], dtype: torch.dtype, option: str) -> fastgru.GRU:
    return fastgru.GRU(*sizes, dtype=dtype, backend="cpu", **OPTIONS[option]).eval()


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_sequence_has_the_same_bits_in_any_batch(isa: str, dtype: torch.dtype, option: str) -> None:
    for sizes in SIZES:
        assert not differing(made(sizes, dtype, option), steps=3), sizes


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_single_step_has_the_same_bits_in_any_batch_where_that_is_asked_for(
    isa: str, dtype: torch.dtype, option: str
) -> None:
    with fastgru.batch_invariant(True):
        for sizes in SIZES:
            assert not differing(made(sizes, dtype, option), steps=1), sizes


def test_large_layers_and_long_ones_have_the_same_bits_in_any_batch() -> None:
    for sizes, steps in (((64, 64), 100), ((101, 600), 2)):
        assert not differing(made(sizes, torch.float32, "plain"), steps), sizes


@pytest.mark.parametrize("option", [option for option in OPTIONS if option != "bidirectional"])
@pytest.mark.parametrize("grad", [False, True], ids=["without gradients", "with gradients"])
def test_chained_steps_have_the_bits_of_the_whole_pass(isa: str, grad: bool, option: str) -> None:
    for sizes in SIZES:
        gru = made(sizes, torch.float32, option)
        x, h0 = drawn(gru, steps=3)
        expected, last = alone(gru, x, h0)
        with torch.set_grad_enabled(grad), fastgru.batch_invariant(True):
            for batch in (1, 2, 3, 9):
                state: Tensor | None = h0[:, :batch]
                for t in range(3):
                    y, state = gru.step(x[t, :batch], state)
                    assert torch.equal(y, expected[t, :batch]), (sizes, batch, t)
                assert state is not None
                assert torch.equal(state, last[:, :batch])


@pytest.mark.parametrize("grad", [False, True], ids=["without gradients", "with gradients"])
def test_a_loop_over_a_cell_has_the_bits_of_the_whole_pass(isa: str, grad: bool) -> None:
    for sizes in SIZES:
        gru, cell = made(sizes, torch.float32, "plain"), fastgru.GRUCell(*sizes)
        cell.load_state_dict({name.removesuffix("_l0"): weight for name, weight in gru.state_dict().items()})
        x, h0 = drawn(gru, steps=3)
        expected, _ = alone(gru, x, h0)
        with torch.set_grad_enabled(grad), fastgru.batch_invariant(True):
            for batch in (1, 2, 9):
                h = h0[0, :batch]
                for t in range(3):
                    h = cell(x[t, :batch], h)
                    assert torch.equal(h, expected[t, :batch]), (sizes, batch, t)


@pytest.mark.parametrize("option", ["plain", "bidirectional", "layer_norm", "reset_after=False"])
def test_a_sequence_has_the_same_bits_in_every_form(isa: str, option: str) -> None:
    gru = made((33, 40), torch.float32, option)
    lengths = torch.tensor([7, 1, 4, 7, 2])
    x, h0 = torch.randn(7, 5, 33), torch.randn(1 + gru.bidirectional, 5, 40)
    rows = torch.cat([x[:n, b] for b, n in enumerate(lengths)])
    ends = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    with torch.no_grad(), fastgru.batch_invariant(True):
        single = [gru(x[:n, b : b + 1], h0[:, b : b + 1]) for b, n in enumerate(lengths)]
        padded, h_padded = gru(x, h0, lengths=lengths)
        packed, h_packed = gru(pack_padded_sequence(x, lengths, enforce_sorted=False), h0)
        joined, h_joined = gru(rows, h0, cu_seqlens=ends)
        unbatched = [gru(x[:n, b], h0[:, b])[0] for b, n in enumerate(lengths)]
    h_n = torch.cat([h for _, h in single], 1)
    assert all(torch.equal(h, h_n) for h in (h_padded, h_packed, h_joined))
    unpacked = pad_packed_sequence(packed)[0]
    for b, n in enumerate(lengths):
        y = single[b][0][:, 0]
        for got in (padded[:n, b], unpacked[:n, b], joined[ends[b] : ends[b + 1]], unbatched[b]):
            assert torch.equal(got, y), b


def test_calls_on_parts_of_the_time_have_the_bits_of_one_call(isa: str) -> None:
    gru = made((16, 24), torch.float32, "plain")
    x, state = torch.randn(300, 3, 16), torch.randn(1, 3, 24)
    with torch.no_grad(), fastgru.batch_invariant(True):
        expected, h_n = gru(x, state)
        parts = []
        for part in x.split([1, 2, 250, 1, 46]):
            y, state = gru(part, state)
            parts.append(y)
    assert torch.equal(torch.cat(parts), expected)
    assert torch.equal(state, h_n)


def test_half_precision_has_the_same_bits_in_any_batch() -> None:
    gru = made((16, 24), torch.bfloat16, "plain")
    assert not differing(gru, steps=3)


def test_what_is_said_holds_in_all_threads_and_is_taken_back() -> None:
    seen: list[bool] = []
    with fastgru.batch_invariant(True):
        thread = Thread(target=lambda: seen.append(_native.is_batch_invariant()))
        thread.start()
        thread.join()
        with fastgru.batch_invariant(False):
            seen.append(_native.is_batch_invariant())
        seen.append(_native.is_batch_invariant())
        assert fastgru.info().native.endswith("; single steps are batch-invariant")
    assert seen == [True, False, True]
    fastgru.batch_invariant(True)
    assert _native.is_batch_invariant()
    fastgru.batch_invariant(False)
    assert "invariant" not in fastgru.info().native


def test_a_missing_native_module_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastgru.backends.cpu._native", None)
    with pytest.raises(RuntimeError, match="not built"):
        fastgru.batch_invariant(True)
    with fastgru.batch_invariant(False):
        pass
