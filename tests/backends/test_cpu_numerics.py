"""The CPU kernels' numbers on every instruction set of this machine, against torch.nn.GRU in float64.

Bounds, as relative L2 errors: float32 1e-6 for y and h_n and 3e-6 for every gradient, float64 1e-14 and 1e-13.
torch.nn.GRU in float32 itself is at about 2e-7 and 6e-7.
"""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from grid import CASES, Case, pair, relative_error, results
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

import fastgru
from fastgru import _native

SETS = _native.instruction_sets()
BOUNDS = {torch.float32: (1e-6, 3e-6), torch.float64: (1e-14, 1e-13)}


@pytest.fixture(params=SETS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    _native.force_instruction_set(request.param)
    yield request.param
    _native.force_instruction_set("")


@pytest.fixture(params=[1, 2], ids=["1 thread", "2 threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def outcome(gru: torch.nn.Module, x: Tensor, h0: Tensor | None, lengths: Tensor | None) -> dict[str, Tensor]:
    """y, h_n and all gradients; the cotangents are the same at every call."""
    x = x.detach().requires_grad_()
    h0 = None if h0 is None else h0.detach().requires_grad_()
    source = x if lengths is None else pack_padded_sequence(x, lengths, enforce_sorted=False)
    y, h_n = gru(source, h0)
    y = y if lengths is None else y.data
    generator = torch.Generator().manual_seed(1)
    dy, dh_n = (torch.randn(t.shape, generator=generator, dtype=torch.float64).to(t.dtype) for t in (y, h_n))
    leaves = {"x": x, "h0": h0, **dict(gru.named_parameters())}
    leaves = {name: leaf for name, leaf in leaves.items() if leaf is not None}
    gradients = torch.autograd.grad((y, h_n), list(leaves.values()), (dy, dh_n))
    return {"y": y, "h_n": h_n, **{f"d{name}": g for name, g in zip(leaves, gradients, strict=True)}}


def in_torch(gru: fastgru.GRU, dtype: torch.dtype) -> torch.nn.GRU:
    """torch's layer of the same options and weights."""
    options = {"bias": gru.bias, "bidirectional": gru.bidirectional, "num_layers": gru.num_layers}
    theirs = torch.nn.GRU(gru.input_size, gru.hidden_size, **options, dtype=dtype)
    theirs.load_state_dict(gru.state_dict())
    return theirs


def compare(
    gru: fastgru.GRU, x: Tensor, h0: Tensor | None = None, lengths: Tensor | None = None, drawn: bool = False
) -> None:
    """Hold ours to torch's in float64, on the very same float32 or float64 numbers.

    drawn: the shape was drawn at random and may be so small that a state or a gradient is near zero, its terms having
    cancelled; errors are then relative to at least a tenth of a typical state (1), or of the largest among the
    gradients and the cotangents (1 an element). Weights of few units are large (1/sqrt(H)), and so are the terms that
    cancel: below 8 units the bounds grow with 8/H.
    """
    expected = outcome(in_torch(gru, torch.float64), x.double(), None if h0 is None else h0.double(), lengths)
    got = outcome(gru, x, h0, lengths)
    largest = max(value.norm().item() for name, value in expected.items() if name not in ("y", "h_n"))
    largest = max(largest, (expected["y"].numel() + expected["h_n"].numel()) ** 0.5)
    forward, backward = BOUNDS[x.dtype]
    for name, value in expected.items():
        assert got[name].shape == value.shape, name
        bound, typical = (forward, value.numel() ** 0.5) if name in ("y", "h_n") else (backward, largest)
        share = min(1, 10 * value.norm().item() / typical) if drawn else 1
        tiny = max(1, 8 / gru.hidden_size) if drawn else 1
        assert relative_error(got[name], value) * share <= bound * tiny, name


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize(
    "sizes",
    [
        # I, H, B, T, D: the vectors' edges, one of everything, long, wide, more rows than one block, and larger than L2
        (1, 1, 1, 1, 1),
        (3, 17, 2, 5, 2),
        (33, 31, 5, 9, 2),
        (16, 16, 8, 4, 1),
        (40, 48, 1, 200, 1),
        (8, 32, 1, 1000, 2),
        (64, 64, 64, 20, 1),
        (16, 32, 256, 6, 1),
        (100, 130, 7, 30, 2),
        (256, 256, 4, 10, 1),
        (600, 470, 3, 90, 1),
    ],
    ids=str,
)
def test_cpu_numbers_are_within_the_bounds(
    isa: str, threads: int, dtype: torch.dtype, sizes: tuple[int, int, int, int, int]
) -> None:
    features, units, batch, steps, directions = sizes
    gru = fastgru.GRU(features, units, bidirectional=directions == 2, dtype=dtype, backend="cpu")
    compare(gru, torch.randn(steps, batch, features, dtype=dtype), torch.randn(directions, batch, units, dtype=dtype))


@pytest.mark.parametrize("case", [case for case in CASES if case.num_layers == 2], ids=str)
def test_cpu_options_on_every_instruction_set(isa: str, case: Case) -> None:
    theirs, ours = pair(case, torch.float64, "cpu")
    x, h0 = case.inputs(torch.float64)
    expected, got = results(theirs, case, x, h0), results(ours, case, x, h0)
    for name in expected:
        assert relative_error(got[name], expected[name]) <= 1e-14, name


@settings(max_examples=int(os.environ.get("FASTGRU_EXAMPLES", "300")), deadline=None)
@given(
    isa=st.sampled_from(SETS),
    dtype=st.sampled_from(list(BOUNDS)),
    threads=st.sampled_from([1, 2]),
    sizes=st.tuples(st.integers(1, 70), st.integers(1, 70), st.integers(1, 20), st.integers(1, 30)),
    options=st.tuples(st.integers(1, 2), st.booleans(), st.booleans()),
    with_h0=st.booleans(),
    layout=st.sampled_from(["dense", "batch first", "strided", "packed"]),
    seed=st.integers(0, 2**16),
)
def test_cpu_any_shape_is_within_the_bounds(
    isa: str,
    dtype: torch.dtype,
    threads: int,
    sizes: tuple[int, int, int, int],
    options: tuple[int, bool, bool],
    with_h0: bool,
    layout: str,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    features, units, batch, steps = sizes
    layers, bias, bidirectional = options
    gru = fastgru.GRU(features, units, layers, bias, bidirectional=bidirectional, dtype=dtype, backend="cpu")
    x = torch.randn(steps, batch, features, dtype=dtype)
    if layout == "batch first":
        x = x.transpose(0, 1).contiguous().transpose(0, 1)
    elif layout == "strided":
        x = x.repeat(2, 2, 2)[::2, 1::2][:steps, :batch, :features]
    h0 = torch.randn(layers * (1 + bidirectional), batch, units, dtype=dtype) if with_h0 else None
    lengths = torch.randint(1, steps + 1, (batch,)) if layout == "packed" else None
    before = torch.get_num_threads()
    _native.force_instruction_set(isa)
    torch.set_num_threads(threads)
    try:
        compare(gru, x, h0, lengths, drawn=True)
        with torch.no_grad():  # inference takes other paths: packed weights, single steps
            y = gru(x, h0)[0]
        torch.testing.assert_close(y, gru(x, h0)[0].detach(), rtol=1e-5, atol=1e-6)
    finally:
        torch.set_num_threads(before)
        _native.force_instruction_set("")


def test_saturated_gates_stay_as_exact_as_torchs() -> None:
    gru = fastgru.GRU(4, 20, backend="cpu")
    with torch.no_grad():
        for weight in gru.parameters():
            weight.mul_(100)
    x = torch.randn(6, 3, 4) * 10
    expected = outcome(in_torch(gru, torch.float64), x.double(), None, None)
    theirs, ours = outcome(in_torch(gru, torch.float32), x, None, None), outcome(gru, x, None, None)
    for name, value in expected.items():
        assert relative_error(ours[name], value) <= 2 * relative_error(theirs[name], value) + 1e-7, name


def test_force_refuses_what_is_not_there() -> None:
    for name in ("sse9", "neon" if "neon" not in SETS else "avx2"):
        with pytest.raises(ValueError, match=name):
            _native.force_instruction_set(name)
    assert _native.instruction_set() == SETS[-1]


@pytest.mark.parametrize("name", SETS)
def test_the_environment_chooses_the_instruction_set(name: str) -> None:
    ask = [sys.executable, "-c", "from fastgru import _native; print(_native.instruction_set())"]
    done = subprocess.run(ask, env={**os.environ, "FASTGRU_ISA": name}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == name


def test_the_environment_refuses_an_unknown_set() -> None:
    ask = [sys.executable, "-c", "import torch, fastgru; fastgru.GRU(3, 4)(torch.zeros(1, 1, 3))"]
    done = subprocess.run(ask, env={**os.environ, "FASTGRU_ISA": "mmx"}, capture_output=True, text=True)
    assert done.returncode == 1
    assert "ValueError" in done.stderr
    assert "mmx" in done.stderr.splitlines()[-1]
