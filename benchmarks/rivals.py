"""The contenders: fastgru.GRU and everything that a user could run a GRU on instead, each behind the same two calls."""

import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

import fastgru
from benchmarks import onednn
from benchmarks.problem import Problem, zrn
from fastgru import _native


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
        "W": [zrn(getattr(layer, f"weight_ih_l0{suffix}")) for suffix in suffixes],
        "R": [zrn(getattr(layer, f"weight_hh_l0{suffix}")) for suffix in suffixes],
        "B": [
            np.concatenate([zrn(getattr(layer, f"bias_{side}_l0{suffix}")) for side in ("ih", "hh")])
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


def openvino(problem: Problem, precision: str = "f32") -> Inference:
    """OpenVINO's CPU plugin, in float32 as everybody else here, or in another of its precisions."""
    import openvino as ov

    core = ov.Core()
    options = {
        "INFERENCE_NUM_THREADS": problem.threads,
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = core.compile_model(core.read_model(onnx_model(problem)), "CPU", options).create_infer_request()
    x = problem.x.numpy()
    return Inference("openvino", lambda: request.infer([x], share_inputs=True, share_outputs=True)[0])


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
        onednn.OneDnn(problem),
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
