"""A wheel in an environment of NumPy and pytest alone: the numbers, streams and threads, on any Python, without torch.

`make wheels` and .github/workflows/wheels.yml run it beside each wheel; the gate runs it beside the checkout.
"""

import importlib.machinery
import os
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastgru
from fastgru import _native, runtime

HAS_LOCK = not sysconfig.get_config_var("Py_GIL_DISABLED")
SETS = _native.instruction_sets()


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def weights_of(rng: np.random.Generator, inputs: int, hidden: int, dtype: str = "f4") -> dict[str, Any]:
    shapes = {"weight_ih_l0": (3 * hidden, inputs), "weight_hh_l0": (3 * hidden, hidden)}
    shapes |= {"bias_ih_l0": (3 * hidden,), "bias_hh_l0": (3 * hidden,)}
    return {name: rng.uniform(-0.3, 0.3, shape).astype(dtype) for name, shape in shapes.items()}


def gru_in_float64(weights: dict[str, Any], x: Any) -> Any:
    """r, z = s(W x + U h), n = tanh(W x + r U h), h' = (1 - z) n + z h: torch's, step by step."""
    w_ih, w_hh, b_ih, b_hh = (array.astype("f8") for array in weights.values())
    h, outputs = np.zeros((x.shape[1], w_hh.shape[1])), []
    for x_t in x.astype("f8"):
        gx, gh = np.split(x_t @ w_ih.T + b_ih, 3, axis=1), np.split(h @ w_hh.T + b_hh, 3, axis=1)
        r, z = sigmoid(gx[0] + gh[0]), sigmoid(gx[1] + gh[1])
        h = (1 - z) * np.tanh(gx[2] + r * gh[2]) + z * h
        outputs.append(h)
    return np.stack(outputs)


def test_the_native_module_is_there_and_of_the_stable_abi_where_there_is_one() -> None:
    name = Path(_native.__file__).name
    assert name.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES))
    if sys.version_info < (3, 12) or not HAS_LOCK:
        assert "abi3" not in name


@pytest.mark.skipif(HAS_LOCK, reason="this Python has the interpreter's lock")
def test_the_import_leaves_a_python_without_lock_as_it_is() -> None:
    ask = "import sys; from fastgru import _native; print(sys._is_gil_enabled())"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHON_GIL"}
    done = subprocess.run([sys.executable, "-W", "error", "-c", ask], capture_output=True, text=True, env=environment)
    assert (done.stdout, done.stderr) == ("False\n", "")


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize(("dtype", "bound"), [("f4", 2e-6), ("f8", 1e-14)])
def test_numbers_are_those_of_the_equations(instruction_set: str, dtype: str, bound: float) -> None:
    rng = np.random.default_rng(0)
    weights = weights_of(rng, 37, 53, dtype)
    x = rng.standard_normal((19, 5, 37)).astype(dtype)
    _native.force_instruction_set(instruction_set)
    try:
        y, h_n = runtime.GRU(weights)(x)
    finally:
        _native.force_instruction_set("")
    np.testing.assert_allclose(y, gru_in_float64(weights, x), rtol=0, atol=bound)
    np.testing.assert_array_equal(h_n[0], y[-1])


def test_a_file_is_loaded_and_streamed(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    weights, x = weights_of(rng, 16, 32), rng.standard_normal((40, 3, 16)).astype("f4")
    np.savez(tmp_path / "gru.npz", **weights)
    gru = runtime.load(tmp_path / "gru.npz", batch_first=False)
    stream = gru.stream(3)
    np.testing.assert_allclose(np.stack([stream.step(x_t) for x_t in x]), gru(x)[0], rtol=0, atol=2e-6)


def test_the_pronunciation_model_is_in_it_and_speaks() -> None:
    folder = Path(fastgru.__file__).parent / "pretrained" / "pronunciation"
    files = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert {"LICENSE", "README.md", "config.json", "model.safetensors", "train.json"} <= set(files)
    assert sum(files.values()) <= 3_000_000
    found = runtime.load("pronunciation").predict(["cat", "world"])
    assert [several[0].text for several in found] == ["K AE T", "W ER L D"]


def test_its_command_needs_no_other_package() -> None:
    command = [sys.executable, "-W", "error", "-m", "fastgru", "predict", "pronunciation", "cat", "world"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "K AE T\nW ER L D\n", "")


def test_threads_share_a_gru_and_have_streams_of_their_own() -> None:
    rng = np.random.default_rng(2)
    weights = weights_of(rng, 24, 48)
    shared = runtime.GRU(weights, threads=2)
    inputs = rng.standard_normal((8, 60, 4, 24)).astype("f4")
    expected = [shared(x)[0] for x in inputs]

    def run(number: int) -> None:
        x, y = inputs[number], expected[number]
        for _ in range(20):
            np.testing.assert_array_equal(shared(x)[0], y)
            stream = shared.stream(4)
            np.testing.assert_allclose(np.stack([stream.step(x_t) for x_t in x]), y, rtol=0, atol=2e-6)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(8)))


def test_threads_make_drop_and_clear_at_once() -> None:
    rng = np.random.default_rng(3)
    weights, x = weights_of(rng, 8, 16), rng.standard_normal((5, 2, 8)).astype("f4")
    expected = runtime.GRU(weights)(x)[0]

    def run(number: int) -> None:
        for turn in range(100):
            np.testing.assert_array_equal(runtime.GRU(weights, threads=1 + number % 2)(x)[0], expected)
            if turn % 10 == number:
                _native.clear_caches()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(run, range(6)))


def test_one_stream_in_many_threads_computes_or_refuses() -> None:
    rng = np.random.default_rng(4)
    weights, x = weights_of(rng, 64, 256), np.zeros((16, 64), "f4")
    stream = runtime.GRU(weights).stream(16)

    def run(_: int) -> set[str]:
        said = set()
        for _ in range(50):
            try:
                stream.step(x)
            except RuntimeError as error:
                said.add(str(error))
        return said

    with ThreadPoolExecutor(4) as pool:
        said = set().union(*pool.map(run, range(4)))
    assert said <= {"a stream is for one thread at a time, and another is in it: give each its own"}
    stream.reset()
    steps = np.stack([stream.step(x) for _ in range(3)])
    np.testing.assert_allclose(steps, gru_in_float64(weights, np.zeros((3, 16, 64))), rtol=0, atol=2e-6)


def test_torch_is_not_imported() -> None:
    ask = "import sys, fastgru; from fastgru import runtime, _native; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
