"""The contenders: fastgru.GRU and everything that a user could run a GRU on instead, each behind the same two calls."""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

import fastgru
from fastgru import _native
from fastgru.bench import Shape


@dataclass(frozen=True)
class Problem:
    """A shape, an input x [T, B, I] in time-major order, and the layer with the weights that every contender gets."""

    shape: Shape
    x: Tensor
    layer: torch.nn.GRU
    threads: int

    @classmethod
    def draw(cls, shape: Shape, threads: int, seed: int = 0) -> "Problem":
        """Seeded weights and input."""
        torch.manual_seed(seed)
        layer = torch.nn.GRU(shape.input_size, shape.hidden_size, bidirectional=shape.directions == 2)
        return cls(shape, torch.randn(shape.steps, shape.batch, shape.input_size), layer, threads)

    def expected(self) -> tuple[Tensor, Tensor]:
        """y and the gradient of x for a cotangent of ones, in float64."""
        exact = torch.nn.GRU(self.shape.input_size, self.shape.hidden_size, bidirectional=self.shape.directions == 2)
        exact.load_state_dict(self.layer.state_dict())
        x = self.x.double().requires_grad_()
        y, _ = exact.double()(x)
        (dx,) = torch.autograd.grad(y.sum(), x)
        return y.detach(), dx


class Contender(Protocol):
    """One way of running the problem. Times are in seconds, one a run."""

    name: str
    trains: bool

    def infer(self, count: int) -> list[float]:
        """Run the forward pass for inference."""

    def train(self, count: int) -> list[float]:
        """Run the forward and the backward pass, with every gradient."""

    def results(self) -> list[np.ndarray]:
        """y [T, B, D*H] and, where it trains, the gradient of x for a cotangent of ones: what was really computed."""

    def close(self) -> None:
        """Give back what it holds."""


def timed(call: Callable[[], object], count: int) -> list[float]:
    """The seconds of each of `count` calls."""
    taken = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return taken


class TorchModule:
    """A recurrent module of torch's interface."""

    trains = True

    def __init__(self, name: str, module: torch.nn.RNNBase, problem: Problem) -> None:
        self.name, self.module, self.threads = name, module, problem.threads
        self.x = problem.x.clone().requires_grad_()
        self.leaves = [self.x, *module.parameters()]
        self.dy = torch.ones(problem.shape.steps, problem.shape.batch, problem.shape.directions * module.hidden_size)

    def infer(self, count: int) -> list[float]:
        """Run without gradients."""
        torch.set_num_threads(self.threads)
        with torch.no_grad():
            return timed(lambda: self.module(self.x), count)

    def train(self, count: int) -> list[float]:
        """Run forward and backward."""
        torch.set_num_threads(self.threads)
        return timed(self._gradients, count)

    def _gradients(self) -> tuple[Tensor, ...]:
        y, _ = self.module(self.x)
        return torch.autograd.grad(y, self.leaves, self.dy)

    def results(self) -> list[np.ndarray]:
        """As the protocol says; the numbers of another cell than a GRU are compared with nothing."""
        with torch.no_grad():
            y, _ = self.module(self.x)
        return [y.numpy(), self._gradients()[0].numpy()] if self.module.mode == "GRU" else []

    def close(self) -> None:
        """Nothing is held."""


class Ours(TorchModule):
    """fastgru.GRU on one instruction set."""

    def __init__(self, problem: Problem, isa: str) -> None:
        shape = problem.shape
        gru = fastgru.GRU(shape.input_size, shape.hidden_size, bidirectional=shape.directions == 2, backend="cpu")
        gru.load_state_dict(problem.layer.state_dict())
        super().__init__(f"fastgru.GRU {isa}", gru, problem)
        self.isa = isa

    def infer(self, count: int) -> list[float]:
        """Run without gradients."""
        _native.force_instruction_set(self.isa)
        return super().infer(count)

    def train(self, count: int) -> list[float]:
        """Run forward and backward."""
        _native.force_instruction_set(self.isa)
        return super().train(count)


class Cell:
    """A cell on the first step of the problem, without gradients."""

    trains = False

    def __init__(self, name: str, cell: torch.nn.RNNCellBase, problem: Problem) -> None:
        self.name, self.cell, self.threads = name, cell, problem.threads
        cell.load_state_dict({key.removesuffix("_l0"): value for key, value in problem.layer.state_dict().items()})
        self.x, self.h = problem.x[0], torch.zeros(problem.shape.batch, problem.shape.hidden_size)

    def infer(self, count: int) -> list[float]:
        """Run without gradients."""
        torch.set_num_threads(self.threads)
        with torch.no_grad():
            return timed(lambda: self.cell(self.x, self.h), count)

    def train(self, count: int) -> list[float]:
        """It is not asked to."""
        raise NotImplementedError(f"{self.name} is timed in inference only")

    def results(self) -> list[np.ndarray]:
        """As the protocol says."""
        with torch.no_grad():
            return [self.cell(self.x, self.h)[None].numpy()]

    def close(self) -> None:
        """Nothing is held."""


def onnx_model(problem: Problem) -> bytes:
    """The problem as an ONNX GRU node: gates in the order z, r, n, `linear_before_reset`, Y [T, D, B, H]."""
    from onnx import TensorProto, helper, numpy_helper

    shape, layer = problem.shape, problem.layer
    suffixes = ["", "_reverse"][: shape.directions]
    stacked = {
        "W": [_zrn(getattr(layer, f"weight_ih_l0{suffix}")) for suffix in suffixes],
        "R": [_zrn(getattr(layer, f"weight_hh_l0{suffix}")) for suffix in suffixes],
        "B": [
            np.concatenate([_zrn(getattr(layer, f"bias_{side}_l0{suffix}")) for side in ("ih", "hh")])
            for suffix in suffixes
        ],
    }
    node = helper.make_node(
        "GRU",
        ["x", "W", "R", "B"],
        ["y"],
        hidden_size=shape.hidden_size,
        linear_before_reset=1,
        direction="bidirectional" if shape.directions == 2 else "forward",
    )
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, list(problem.x.shape))
    form = [shape.steps, shape.directions, shape.batch, shape.hidden_size]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, form)
    weights = [numpy_helper.from_array(np.stack(parts), name) for name, parts in stacked.items()]
    graph = helper.make_graph([node], "gru", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def _zrn(weight: Tensor) -> np.ndarray:
    """Rows r, z, n to rows z, r, n."""
    r, z, n = weight.detach().chunk(3)
    return torch.cat([z, r, n]).numpy()


class Inference:
    """An engine that runs the ONNX model, forward only."""

    trains = False

    def __init__(self, name: str, run: Callable[[], np.ndarray]) -> None:
        self.name, self.run = name, run

    def infer(self, count: int) -> list[float]:
        """Run the model."""
        return timed(self.run, count)

    def train(self, count: int) -> list[float]:
        """It cannot."""
        raise NotImplementedError(f"{self.name} does not train")

    def results(self) -> list[np.ndarray]:
        """As the protocol says: [T, D, B, H] to [T, B, D*H]."""
        y = np.moveaxis(self.run(), 1, 2)
        return [y.reshape(*y.shape[:2], -1)]

    def close(self) -> None:
        """Drop the session and its threads."""
        del self.run


def onnxruntime(problem: Problem) -> Inference:
    """onnxruntime's CPU provider."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = problem.threads
    session = ort.InferenceSession(onnx_model(problem), options, providers=["CPUExecutionProvider"])
    feed = {"x": problem.x.numpy()}
    return Inference("onnxruntime", lambda: session.run(None, feed)[0])


def openvino(problem: Problem) -> Inference:
    """OpenVINO's CPU plugin, in float32 as everybody else here."""
    import openvino as ov

    core = ov.Core()
    options = {
        "INFERENCE_NUM_THREADS": problem.threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = core.compile_model(core.read_model(onnx_model(problem)), "CPU", options).create_infer_request()
    x = problem.x.numpy()
    return Inference("openvino", lambda: request.infer([x], share_inputs=True, share_outputs=True)[0])


class OneDnn:
    """oneDNN's lbr_gru, in a process of its own: torch holds another version, and two must not share one process."""

    name = "onednn"
    trains = True

    def __init__(self, problem: Problem) -> None:
        self.shape, self.folder = problem.shape, tempfile.TemporaryDirectory(prefix="fastgru-onednn-")
        self._write_weights(problem)
        s = problem.shape
        sizes = [s.input_size, s.hidden_size, s.batch, s.steps, s.directions]
        self.process = subprocess.Popen(
            [_onednn_server(), *map(str, sizes), self.folder.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"OMP_NUM_THREADS": str(problem.threads)},
        )

    def _write_weights(self, problem: Problem) -> None:
        for side, name in (("ih", "weights_layer"), ("hh", "weights_iter")):
            weights = [_zrn(getattr(problem.layer, f"weight_{side}_l0{suffix}")) for suffix in self._suffixes]
            self._file(name).write_bytes(np.stack([np.ascontiguousarray(w.T) for w in weights]).tobytes())
        biases = []
        for suffix in self._suffixes:
            z, r, n = np.split(_zrn(getattr(problem.layer, f"bias_ih_l0{suffix}")), 3)
            hz, hr, hn = np.split(_zrn(getattr(problem.layer, f"bias_hh_l0{suffix}")), 3)
            biases.append(np.stack([z + hz, r + hr, n, hn]))
        self._file("bias").write_bytes(np.stack(biases).tobytes())
        self._file("x").write_bytes(problem.x.numpy().tobytes())

    @property
    def _suffixes(self) -> list[str]:
        return ["", "_reverse"][: self.shape.directions]

    def _file(self, name: str) -> Path:
        return Path(self.folder.name) / name

    def _ask(self, command: str) -> str:
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the oneDNN process ended at {command!r} with exit code {self.process.wait()}")
        return answer

    def infer(self, count: int) -> list[float]:
        """Run forward_inference."""
        return [int(nanoseconds) / 1e9 for nanoseconds in self._ask(f"infer {count}").split()]

    def train(self, count: int) -> list[float]:
        """Run forward_training and backward."""
        return [int(nanoseconds) / 1e9 for nanoseconds in self._ask(f"train {count}").split()]

    def results(self) -> list[np.ndarray]:
        """As the protocol says."""
        self._ask("dump")
        s = self.shape
        forms = {"y": (s.steps, s.batch, s.directions * s.hidden_size), "dx": (s.steps, s.batch, s.input_size)}
        return [np.fromfile(self._file(name), np.float32).reshape(form) for name, form in forms.items()]

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()
        self.folder.cleanup()


def _onednn_server() -> Path:
    """The program, built beside the wheels' library where it is older than its source."""
    source = Path(__file__).with_name("onednn_server.cpp")
    library = _onednn_root()
    program = Path(tempfile.gettempdir()) / f"fastgru-onednn-server-{source.stat().st_mtime_ns}"
    if not program.exists():
        compiler = shutil.which("c++") or shutil.which("g++")
        if compiler is None:
            raise RuntimeError("oneDNN's driver needs a C++ compiler on the PATH")
        flags = [
            "-O2",
            "-std=c++17",
            f"-I{library / 'include'}",
            f"-L{library / 'lib'}",
            f"-Wl,-rpath,{library / 'lib'}",
        ]
        subprocess.run([compiler, *flags, source, "-ldnnl", "-o", program], check=True)
    return program


def _onednn_root() -> Path:
    """Where the wheels onednn-cpu-gomp and onednn-devel-cpu-gomp put `include` and `lib`."""
    roots = [Path(sys.prefix), *(Path(entry).parents[2] for entry in sys.path if entry.endswith("site-packages"))]
    for root in roots:
        if (root / "include" / "oneapi" / "dnnl" / "dnnl.hpp").is_file() and (root / "lib" / "libdnnl.so").exists():
            return root
    raise RuntimeError("oneDNN was not found; install onednn-cpu-gomp and onednn-devel-cpu-gomp (the extra `rivals`)")


def contenders(problem: Problem) -> list[Contender]:
    """All of them, ours first: the fastest instruction set, then, on a machine with AVX-512, AVX2."""
    shape = problem.shape
    lstm = torch.nn.LSTM(shape.input_size, shape.hidden_size, bidirectional=shape.directions == 2)
    fastest, *others = reversed(_native.instruction_sets())
    return [
        Ours(problem, fastest),
        *(Ours(problem, isa) for isa in others if isa == "avx2"),
        TorchModule("torch.nn.GRU", problem.layer, problem),
        TorchModule("torch.nn.LSTM", lstm, problem),
        onnxruntime(problem),
        openvino(problem),
        OneDnn(problem),
    ]


def steps(problem: Problem) -> list[Contender]:
    """One step, as in streaming: the layers, and the cells beside them."""
    shape = problem.shape
    cell = fastgru.GRUCell(shape.input_size, shape.hidden_size, backend="cpu")
    rival = torch.nn.GRUCell(shape.input_size, shape.hidden_size)
    return [
        Ours(problem, _native.instruction_sets()[-1]),
        TorchModule("torch.nn.GRU", problem.layer, problem),
        Cell("fastgru.GRUCell", cell, problem),
        Cell("torch.nn.GRUCell", rival, problem),
    ]
