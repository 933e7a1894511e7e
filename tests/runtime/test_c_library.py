"""The C library: built, installed, and called from C, Rust and ctypes."""

import ctypes
import os
import random
import shutil
import subprocess
import sys
from ctypes import POINTER, byref, c_char, c_char_p, c_float, c_int32, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_gru import random_gru
from safetensors.numpy import save_file

import fastgru
from fastgru import runtime

pytestmark = pytest.mark.timeout(900)  # it compiles
ROOT = Path(__file__).parents[2]
OK, INVALID_ARGUMENT, OUT_OF_MEMORY, CANNOT_READ, BAD_FILE = range(5)
LINES = "\n".join(f"{i} {0.5 * i} {-i}" for i in range(5))


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("c")
    cmake = Path(sys.executable).with_name("cmake")
    for command in (
        [cmake, "-S", ROOT / "csrc" / "c", "-B", folder / "build", "-DFASTGRU_WERROR=ON"],
        [cmake, "--build", folder / "build", "--parallel", "2"],
        [cmake, "--install", folder / "build", "--prefix", folder / "installed"],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "installed"


class Config(ctypes.Structure):
    _fields_ = [
        *(("size", c_size_t), ("input_size", c_int64), ("num_layers", c_int64), ("hidden_sizes", POINTER(c_int64))),
        *((name, c_int32) for name in ("bidirectional", "bias", "reset_after", "layer_norm")),
        ("zoneout", c_float),
    ]


class Library:
    """fastgru.h by ctypes, with NumPy arrays."""

    def __init__(self, path: Path) -> None:
        self.c = ctypes.CDLL(str(path))
        for name in ("version", "instruction_set"):
            getattr(self.c, f"fastgru_{name}").restype = c_char_p
        for name in ("input_size", "output_size", "num_layers", "num_directions", "state_size"):
            function = getattr(self.c, f"fastgru_{name}")
            function.restype, function.argtypes = c_int64, [c_void_p]
        self.c.fastgru_hidden_size.restype, self.c.fastgru_hidden_size.argtypes = c_int64, [c_void_p, c_int64]
        self.error = (c_char * 512)()

    def call(self, name: str, *arguments: Any) -> int:
        given = [a.ctypes.data_as(c_void_p) if isinstance(a, np.ndarray) else a for a in arguments]
        return int(getattr(self.c, f"fastgru_{name}")(*given, self.error))

    @property
    def words(self) -> str:
        return self.error.value.decode()

    def load(self, path: Path, prefix: str | None = None) -> c_void_p:
        model = c_void_p()
        code = self.call("load", str(path).encode(), None if prefix is None else prefix.encode(), byref(model))
        assert code == OK, self.words
        return model

    def forward(self, model: c_void_p, x: Any, h0: Any, lengths: Any, resets: Any, batch_first: bool) -> list[Any]:
        steps, batch = (x.shape[1], x.shape[0]) if batch_first else x.shape[:2]
        y = np.full((*x.shape[:2], self.c.fastgru_output_size(model)), np.nan, "f4")
        h_n = np.full(batch * self.c.fastgru_state_size(model), np.nan, "f4")
        sizes = (c_int64(steps), c_int64(batch))
        flags = (c_int32(batch_first), c_int32(2))
        assert self.call("forward", model, *sizes, x, h0, lengths, resets, y, h_n, *flags) == OK, self.words
        return [y, h_n]


@pytest.fixture(scope="session")
def library(installed: Path) -> Library:
    return Library(installed / "lib" / "libfastgru.so")


@pytest.mark.parametrize("seed", range(20))
def test_a_loaded_model_and_a_made_one_give_the_numbers_of_python(library: Library, seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    gru = random_gru(rng)
    fastgru.save(torch.nn.ModuleDict({"rnn": gru}), tmp_path / "model.safetensors")
    steps, batch, batch_first = rng.choice([1, 7]), rng.choice([1, 3, 9]), gru.batch_first
    shape = (batch, steps) if batch_first else (steps, batch)
    x = torch.randn(*shape, gru.input_size).numpy()
    h0 = rng.choice([None, torch.randn(gru.spec.states_shape(batch)).numpy()])
    lengths = rng.choice([None, torch.randint(0, steps + 1, (batch,)).numpy()])
    resets = rng.choice([None, (torch.rand(shape) < 0.3).numpy()])
    y, h_n = runtime.load(tmp_path / "model.safetensors", prefix="rnn.")(x, h0, lengths, resets)

    weights = [weight.detach().numpy() for weight in gru.weights()]
    pointers = (c_void_p * len(weights))(*(weight.ctypes.data for weight in weights))
    sizes = gru.spec.hidden_sizes
    config = Config(ctypes.sizeof(Config), gru.input_size, len(sizes), (c_int64 * len(sizes))(*sizes))
    for name in ("bidirectional", "bias", "reset_after", "layer_norm", "zoneout"):
        setattr(config, name, getattr(gru, name))
    initial = gru.initial_state.detach().numpy() if gru.learn_initial_state else None
    made = c_void_p()
    code = library.call("create", byref(config), pointers, c_size_t(len(weights)), initial, byref(made))
    assert code == OK, library.words
    for model in (made, library.load(tmp_path / "model.safetensors", "rnn.")):
        assert library.c.fastgru_num_layers(model) == gru.num_layers
        assert library.c.fastgru_num_directions(model) == gru.spec.directions
        assert [library.c.fastgru_hidden_size(model, layer) for layer in range(-1, gru.num_layers + 1)] == [
            0,
            *sizes,
            0,
        ]
        found = library.forward(model, x, h0, lengths, resets, batch_first)
        np.testing.assert_array_equal(found[0], y)
        np.testing.assert_array_equal(found[1], h_n.ravel())
        library.c.fastgru_free(model)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_every_floating_dtype_is_loaded(library: Library, dtype: torch.dtype, tmp_path: Path) -> None:
    gru = fastgru.GRU(3, 4).to(dtype)
    with torch.no_grad():  # subnormal numbers of half precision, and zeros of both signs
        gru.bias_hh_l0[:3] = torch.tensor([3e-7, -0.0, 0.0])
    fastgru.save(gru, tmp_path / "gru.safetensors")
    x = torch.randn(5, 2, 3)
    model = library.load(tmp_path / "gru.safetensors")
    y, _ = library.forward(model, x.numpy(), None, None, None, False)
    np.testing.assert_allclose(y, gru.float()(x)[0].detach().numpy(), atol=1e-6)
    library.c.fastgru_free(model)


def test_a_stream_outlives_its_model_and_begins_anew_row_by_row(library: Library, tmp_path: Path) -> None:
    gru = fastgru.GRU(3, [4, 5], learn_initial_state=True).eval()
    torch.nn.init.normal_(gru.initial_state)
    fastgru.save(gru, tmp_path / "gru.safetensors")
    expected = runtime.load(tmp_path / "gru.safetensors").stream(2)
    model, stream = library.load(tmp_path / "gru.safetensors"), c_void_p()
    assert library.call("stream_create", model, c_int64(2), byref(stream)) == OK
    library.c.fastgru_free(model)
    y, state = np.empty((2, 5), "f4"), np.empty((1, 2, 9), "f4")
    for t in range(6):
        x = torch.randn(2, 3).numpy()
        assert library.call("stream_step", stream, x, y) == OK
        np.testing.assert_array_equal(y, expected.step(x))
        if t == 2:
            assert library.call("stream_reset_row", stream, c_int64(1)) == OK
            expected.reset(1)
        if t == 3:
            other = torch.randn(1, 2, 9).numpy()
            assert library.call("stream_set_state", stream, other) == OK
            expected.state = other
        assert library.call("stream_get_state", stream, state) == OK
        np.testing.assert_array_equal(state, expected.state)
    assert library.call("stream_reset", stream) == OK
    expected.reset()
    assert library.call("stream_get_state", stream, state) == OK
    np.testing.assert_array_equal(state, expected.state)
    library.c.fastgru_stream_free(stream)


def test_arguments_that_are_none_are_refused_in_words(library: Library, tmp_path: Path) -> None:
    fastgru.save(fastgru.GRU(3, 4, bidirectional=True), tmp_path / "both.safetensors")
    fastgru.save(fastgru.GRU(3, 4), tmp_path / "gru.safetensors")
    both, model, made, stream = (*map(library.load, tmp_path.glob("*.safetensors")), c_void_p(), c_void_p())
    if library.c.fastgru_num_directions(both) == 1:
        both, model = model, both
    x, y, h_n, lengths = np.zeros((5, 2, 3), "f4"), np.zeros((5, 2, 4), "f4"), np.zeros((2, 4), "f4"), np.array([6, 0])
    one, two, five = c_int64(1), c_int64(2), c_int64(5)
    no = c_int32(0)
    threads = c_int32(1)
    refused = [
        ("load", (None, None, byref(made)), "path or model is NULL"),
        ("load", (b"x", None, None), "path or model is NULL"),
        ("create", (None, None, c_size_t(0), None, byref(made)), "config is NULL"),
        ("create", (byref(Config(3)), None, c_size_t(0), None, byref(made)), "begin with FASTGRU_CONFIG_INIT"),
        ("create", (byref(Config(ctypes.sizeof(Config))), None, c_size_t(0), None, byref(made)), "at least 1"),
        ("forward", (None, five, two, x, None, None, None, y, h_n, no, threads), "is NULL"),
        ("forward", (model, five, two, None, None, None, None, y, h_n, no, threads), "is NULL"),
        ("forward", (model, c_int64(0), two, x, None, None, None, y, h_n, no, threads), "steps must be at least 1"),
        (
            "forward",
            (model, five, two, x, None, lengths, None, y, h_n, no, threads),
            "lengths must be from 0 to 5, got 6",
        ),
        ("forward", (model, five, two, x, None, None, None, y, h_n, no, no), "threads must be at least 1"),
        ("stream_create", (both, one, byref(stream)), "a bidirectional GRU has no stream"),
        ("stream_create", (model, c_int64(0), byref(stream)), "batch must be at least 1"),
        ("stream_step", (None, x, y), "is NULL"),
        ("stream_reset", (None,), "stream is NULL"),
    ]
    for name, arguments, words in refused:
        assert library.call(name, *arguments) == INVALID_ARGUMENT
        assert words in library.words
    assert library.call("forward", model, five, c_int64(0), None, None, None, None, None, None, no, threads) == OK
    sizes = (c_int64 * 1)(1 << 24)
    config = Config(ctypes.sizeof(Config), 1 << 24, 1, sizes, 0, 1, 1, 0, 0.0)
    assert library.call("create", byref(config), (c_void_p * 4)(), c_size_t(4), None, byref(made)) == INVALID_ARGUMENT
    assert (made.value, stream.value) == (None, None)
    assert library.c.fastgru_version().decode() == fastgru.__version__


def test_files_that_are_none_are_refused_in_words(library: Library, tmp_path: Path) -> None:
    own = {name: value.detach().numpy() for name, value in torch.nn.GRU(3, 4).named_parameters()}
    path, made = tmp_path / "gru.safetensors", c_void_p()
    assert library.call("load", str(path).encode(), None, byref(made)) == CANNOT_READ
    assert library.words == f"{path}: it cannot be opened"
    cases = [
        ({**own, "linear.weight": np.zeros((2, 2), "f4")}, {}, "no part of a GRU: linear.weight"),
        ({**own, "bias_hh_l0": np.zeros(11, "f4")}, {}, "bias_hh_l0 must be [12], got [11]"),
        ({**own, "bias_hh_l0": np.zeros(12, "i4")}, {}, "bias_hh_l0 must be F32, F64, F16 or BF16, got I32"),
        ({**own, "bias_hh_l0": np.full(12, np.nan, "f4")}, {}, "bias_hh_l0 holds numbers that are not finite"),
        ({f"a.{name}": value for name, value in own.items()}, {}, "no weight_hh_l0; give prefix, of 'a.'"),
        (own, {"fastgru.zoneout": "2"}, "its metadata says fastgru.zoneout='2', which is none"),
        (own, {"fastgru.reset_after": "False"}, "its metadata says fastgru.reset_after='False', which is none"),
        (own, {"fastgru.reset_after": "false", "fastgru.layer_norm": "true"}, "there is no such GRU"),
    ]
    for tensors, metadata, words in cases:
        save_file(tensors, path, metadata)
        assert library.call("load", str(path).encode(), None, byref(made)) == BAD_FILE
        assert words in library.words
    assert made.value is None


def test_no_file_can_crash_it(library: Library, tmp_path: Path) -> None:
    """Bytes of a good file changed, cut out and doubled: most are refused, none is read beyond its end."""
    path, rng, made = tmp_path / "gru.safetensors", random.Random(0), c_void_p()
    fastgru.save(fastgru.GRU(2, 3, 2), path)
    good = path.read_bytes()
    header = 8 + int.from_bytes(good[:8], "little")
    codes = []
    for _ in range(3000):
        data = bytearray(good)
        for _ in range(rng.choice([1, 1, 2, 5])):
            at, size = rng.randrange(header), rng.choice([0, 1, 3])
            data[at : at + size] = rng.choice([b"9", b"0", b'"', b"{", b"]", b"\\u", bytes([rng.randrange(256)])])
        if rng.random() < 0.5:
            data[:8] = (len(data) - len(good) + header - 8).to_bytes(8, "little", signed=True)
        path.write_bytes(data[: rng.choice([len(data), rng.randrange(len(data))])])
        codes.append(library.call("load", str(path).encode(), None, byref(made)))
        if codes[-1] == OK:
            library.c.fastgru_free(made)
        else:
            assert codes[-1] in (BAD_FILE, OUT_OF_MEMORY)
    assert codes.count(BAD_FILE) > 2000


def compile_c(installed: Path, folder: Path) -> Path:
    flags = ["-I", installed / "include", "-L", installed / "lib", "-lfastgru", f"-Wl,-rpath,{installed / 'lib'}"]
    compiler = os.environ.get("CC", "cc")
    source = ROOT / "examples" / "c" / "stream.c"
    warnings = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    subprocess.run([compiler, *warnings, source, *flags, "-o", folder / "stream"], check=True)
    return folder / "stream"


def compile_rust(installed: Path, folder: Path) -> Path:
    if shutil.which("rustc") is None:
        pytest.skip("there is no rustc here")
    source, lib = ROOT / "examples" / "rust" / "stream.rs", installed / "lib"
    flags = ["-D", "warnings", "-L", f"native={lib}", "-C", f"link-arg=-Wl,-rpath,{lib}"]
    subprocess.run(["rustc", *flags, source, "-o", folder / "stream"], check=True)
    return folder / "stream"


@pytest.mark.parametrize("compiled", [compile_c, compile_rust])
def test_the_examples_give_the_numbers_of_python(compiled: Any, installed: Path, tmp_path: Path) -> None:
    program = compiled(installed, tmp_path)
    fastgru.save(torch.nn.ModuleDict({"rnn": fastgru.GRU(3, 5, 2)}), tmp_path / "model.safetensors")
    words = [str(program), str(tmp_path / "model.safetensors"), "rnn."]
    done = subprocess.run(words, input=LINES, capture_output=True, text=True, check=True)
    stream = runtime.load(tmp_path / "model.safetensors", prefix="rnn.").stream()
    expected = [stream.step(np.array(line.split(), "f4")) for line in LINES.splitlines()]
    found = [[float(word) for word in line.split()] for line in done.stdout.splitlines()]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    for arguments, reason in ((words[1:2], "no weight_hh_l0; give prefix, of 'rnn.'"), ([], "usage: stream FILE")):
        done = subprocess.run([words[0], *arguments], input=LINES, capture_output=True, text=True)
        assert done.returncode in (1, 2)
        assert reason in done.stderr
    done = subprocess.run(words, input="1 2 x", capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("stream: ")


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="there is no valgrind here")
def test_valgrind_finds_nothing(installed: Path, tmp_path: Path) -> None:
    program = compile_c(installed, tmp_path)
    fastgru.save(fastgru.GRU(3, 5, 2, layer_norm=True), tmp_path / "gru.safetensors")
    valgrind = ["valgrind", "--quiet", "--leak-check=full", "--error-exitcode=9"]
    supported = "avx2" if "avx2" in fastgru._native.instruction_sets() else ""  # valgrind knows no AVX-512
    for name in ("gru.safetensors", "none"):
        words = [*valgrind, program, tmp_path / name]
        environment = {**os.environ, "FASTGRU_ISA": supported} if supported else {**os.environ}
        done = subprocess.run(words, input=LINES, capture_output=True, text=True, env=environment)
        assert done.returncode == (0 if name == "gru.safetensors" else 1), done.stderr


def test_it_exports_its_interface_alone_and_is_small(installed: Path, tmp_path: Path) -> None:
    shared = shutil.copy((installed / "lib" / "libfastgru.so").resolve(), tmp_path)
    subprocess.run(["strip", shared], check=True)
    assert Path(shared).stat().st_size < 700_000
    symbols = subprocess.run(["nm", "-D", "--defined-only", shared], capture_output=True, text=True, check=True).stdout
    header = (installed / "include" / "fastgru.h").read_text().splitlines()
    names = {line.split()[-1].split("@")[0] for line in symbols.splitlines()}
    assert {name for name in names if not name.startswith("fastgru_")} <= {"_init", "_fini"}
    assert len([name for name in names if name.startswith("fastgru_")]) == sum(
        line.startswith("FASTGRU_API ") for line in header
    )
    assert (installed / "lib" / "pkgconfig" / "fastgru.pc").read_text().count("-lfastgru") == 1
