"""runtime.GRU gives fastgru.GRU's numbers, from the kernels and from NumPy."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_gru import random_gru

import fastgru
from fastgru import runtime
from fastgru.runtime import fallback

ENGINES = ("native", "numpy")
DTYPES = (torch.float32, torch.float64)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "numpy":
        monkeypatch.setattr("fastgru.runtime.gru._engine", lambda: fallback)
    return request.param


def numpy_of(*tensors: torch.Tensor | None) -> list[Any]:
    return [None if tensor is None else tensor.numpy() for tensor in tensors]


@pytest.mark.parametrize("seed", range(60))
def test_sequences_are_those_of_fastgru_gru(seed: int, engine: str, tmp_path: Path) -> None:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    gru = random_gru(rng, DTYPES)
    fastgru.save(torch.nn.ModuleDict({"rnn": gru}), tmp_path / "model.safetensors")
    loaded = runtime.load(tmp_path / "model.safetensors", prefix="rnn.", threads=rng.choice([1, 2]))
    steps, batch = rng.choice([1, 2, 9]), rng.choice([0, 1, 2, 3, 17])
    shape = (batch, steps) if gru.batch_first else (steps, batch)
    x = torch.randn(*shape, gru.input_size, dtype=gru.weights()[0].dtype)
    h0 = rng.choice([None, torch.randn(gru.spec.states_shape(batch), dtype=x.dtype)])
    lengths = rng.choice([None, torch.randint(0, steps + 1, (batch,))])
    resets = rng.choice([None, torch.rand(shape) < 0.3])
    with torch.no_grad():
        expected = gru(x, h0, lengths=lengths, resets=resets)
    found = loaded(*numpy_of(x, h0, lengths, resets))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 if x.dtype == torch.float32 else 1e-12, rtol=1e-5)


@pytest.mark.parametrize("seed", range(20))
def test_a_stream_is_the_sequence_step_by_step(seed: int, engine: str) -> None:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    gru = random_gru(rng, DTYPES)
    while gru.bidirectional:
        gru = random_gru(rng, DTYPES)
    loaded = runtime.GRU(
        {name: value.detach().numpy() for name, value in gru.state_dict().items()},
        **{name: getattr(gru, name) for name in ("reset_after", "layer_norm", "zoneout")},
    )
    batch = rng.choice([1, 2, 5])
    x = torch.randn(7, batch, gru.input_size, dtype=gru.weights()[0].dtype).numpy()
    y, h_n = loaded(x)
    stream = loaded.stream(batch)
    # NumPy's sums of one row are in another order than those of many; its numbers are held to 1e-5 everywhere
    atol = {"native": 1e-6, "numpy": 1e-5}[engine] if x.dtype == np.float32 else 1e-13
    for t in range(3):
        np.testing.assert_allclose(stream.step(x[t]), y[t], atol=atol)
    other, out = loaded.stream(batch), np.empty_like(y[0])
    other.state = stream.state
    for t in range(3, 7):
        assert other.step(x[t], out) is out
        np.testing.assert_allclose(out, y[t], atol=atol)
    np.testing.assert_allclose(other.state, h_n, atol=atol)
    other.reset()
    np.testing.assert_allclose(other.step(x[0]), y[0], atol=atol)


def weights(inputs: int = 3, hidden: int = 4, layers: int = 1, **options: Any) -> dict[str, Any]:
    return {n: p.detach().numpy() for n, p in torch.nn.GRU(inputs, hidden, layers, **options).named_parameters()}


@pytest.mark.parametrize("rows", [1, [1], np.array([False, True, False]), np.array([1], np.int32)])
def test_one_row_of_a_stream_begins_anew(engine: str, rows: Any) -> None:
    initial = torch.randn(1, 4).numpy()
    stream = runtime.GRU({**weights(), "initial_state": initial}).stream(3)
    x = torch.randn(3, 3).numpy()
    stream.step(x)
    before = stream.state
    stream.reset(rows)
    np.testing.assert_array_equal(stream.state[:, [0, 2]], before[:, [0, 2]])
    np.testing.assert_array_equal(stream.state[:, 1], initial)


def test_one_sequence_needs_no_batch(engine: str) -> None:
    gru = runtime.GRU(weights(bidirectional=True), batch_first=True)
    x = torch.randn(5, 3).numpy()
    resets = np.array([False, False, True, False, False])
    y, h_n = gru(x, np.zeros((2, 4), "f4"), resets=resets)
    batched = gru(x[None], resets=resets[None])
    np.testing.assert_array_equal(y, batched[0][0])
    np.testing.assert_array_equal(h_n, batched[1][:, 0])
    stream = runtime.GRU(weights()).stream()
    assert stream.step(x[0]).shape == (4,)
    assert stream.step(x[:1]).shape == (1, 4)


def test_a_cell_is_a_gru_of_one_layer(engine: str, tmp_path: Path) -> None:
    cell = fastgru.GRUCell(3, 4, layer_norm=True)
    fastgru.save(cell, tmp_path / "cell.safetensors")
    x, h = torch.randn(2, 3), torch.randn(2, 4)
    stream = runtime.load(tmp_path / "cell.safetensors").stream(2)
    stream.state = h[None].numpy()
    np.testing.assert_allclose(stream.step(x.numpy()), cell(x, h).detach(), atol=1e-6)


@pytest.mark.parametrize(
    "view", ["reversed", "every other", "features apart", "read only", "fortran", "broadcast", "odd"]
)
def test_arrays_of_any_layout_are_read_as_they_lie(engine: str, view: str) -> None:
    gru = runtime.GRU(weights())
    large = torch.randn(10, 2, 6).numpy()
    views = {
        "reversed": large[::-1, :, :3],
        "every other": large[::2, :, :3],
        "features apart": large[:, :, ::2],
        "read only": np.frombuffer(large.tobytes(), "f4").reshape(10, 4, 3),
        "fortran": np.asfortranarray(large[:, :, :3]),
        "broadcast": np.broadcast_to(large[:1, :, :3], (10, 2, 3)),
        "odd": np.frombuffer(b"_" + large.tobytes(), "f4", offset=1).reshape(10, 4, 3),
    }
    x = views[view]
    found, expected = gru(x), gru(x.copy())
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_row_that_is_nan_touches_no_other(engine: str) -> None:
    gru = runtime.GRU(weights(hidden=33))
    x = torch.randn(4, 5, 3).numpy()
    expected, _ = gru(x)
    x[1, 2] = np.nan
    y, _ = gru(x)
    assert np.isnan(y[1:, 2]).all()
    np.testing.assert_array_equal(np.delete(y, 2, 1), np.delete(expected, 2, 1))


def test_half_precision_is_computed_in_float32(engine: str) -> None:
    half = {name: value.astype(np.float16) for name, value in weights().items()}
    gru = runtime.GRU(half)
    assert gru.dtype == np.float32
    wide = runtime.GRU({name: value.astype(np.float32) for name, value in half.items()})
    x = torch.randn(4, 2, 3).numpy()
    np.testing.assert_array_equal(gru(x)[0], wide(x)[0])


def test_the_gru_keeps_nothing_of_the_arrays_it_was_given(engine: str) -> None:
    own = weights()
    gru, x = runtime.GRU(own), torch.randn(4, 2, 3).numpy()
    y, _ = gru(x)
    for array in own.values():
        array[...] = 0
    np.testing.assert_array_equal(gru(x)[0], y)


def test_what_it_is_can_be_asked() -> None:
    gru = runtime.GRU(weights(3, 4, 2, bidirectional=True), batch_first=True, zoneout=0.1)
    assert (gru.input_size, gru.hidden_size, gru.num_layers, gru.bidirectional, gru.output_size) == (3, 4, 2, True, 8)
    assert repr(gru) == "GRU(3, 4, num_layers=2, batch_first=True, bidirectional=True, zoneout=0.1, dtype=float32)"


def test_where_the_native_module_is_not_built_numpy_computes_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastgru.runtime.gru.find_spec", lambda _: None)
    monkeypatch.setattr("fastgru.runtime.gru._warned", False)
    with pytest.warns(RuntimeWarning, match="native module is not built: NumPy computes"):
        first = runtime.GRU(weights())
    runtime.GRU(weights())  # warnings are errors
    assert type(first._network) is fallback.Network
