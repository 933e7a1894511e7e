"""A trained GRU without torch beside its alternatives: `python -m benchmarks.runtime`.

One step of a stream, 100 steps at once, and one step and ten of a frozen torch model, in float32 on one thread: medians
in microseconds of short bursts in turns. Then what each alternative takes on disk, and in CPU time until it has a GRU
loaded, in a process of its own, medians again. A bar is the least that the time of the one named must be over ours.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import distribution, distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy asks

import numpy as np
import torch

import fastgru
from benchmarks import onednn, rivals
from benchmarks.layers import check, medians
from benchmarks.problem import Problem
from benchmarks.rivals import Contender, timed
from fastgru import runtime
from fastgru.cli.benchmark import Shape, machine
from fastgru.runtime import fallback

STEPS = [(1, 64), (1, 128), (1, 256), (4, 256), (32, 128)]  # B, H = I
SEQUENCES = [(1, 64), (1, 128), (1, 256), (32, 64), (32, 128), (32, 256)]
FROZEN = [(1, 512, 1), (4, 256, 10)]  # B, H = I, T
BARS: Mapping[tuple[str, int, int], Mapping[str, float]] = {
    ("step", 1, 64): {"onnxruntime": 2.5},
    ("step", 1, 128): {"onnxruntime": 2.5},
    ("step", 1, 256): {"onnxruntime": 1.4},
    ("step", 4, 256): {"onnxruntime": 1.5},
    **{("sequence", *case): {"onnxruntime": 1.0, "openvino": 1.0} for case in SEQUENCES},
    ("frozen", 1, 512): {"fastgru.GRU": 1.3},
    ("frozen", 4, 256): {"onednn": 1.0},
}


@dataclass(frozen=True)
class Row:
    """What was measured of one case: medians in seconds by contender, ours first."""

    kind: str
    batch: int
    hidden: int
    seconds: Mapping[str, float]

    @property
    def bars(self) -> Mapping[str, float]:
        """Those of the contenders that are here."""
        bars = BARS.get((self.kind, self.batch, self.hidden), {})
        return {name: bar for name, bar in bars.items() if name in self.seconds}

    def over(self, name: str) -> float:
        """How many times another's time is ours."""
        return self.seconds[name] / next(iter(self.seconds.values()))

    def __str__(self) -> str:
        times = [f"{name} {seconds * 1e6:.1f} ({self.over(name):.2f})" for name, seconds in self.seconds.items()]
        short = [f"{name} {self.over(name):.2f} of {bar}" for name, bar in self.bars.items() if self.over(name) < bar]
        verdict = f"SHORT: {', '.join(short)}" if short else "good" if self.bars else ""
        return f"| {self.kind} B={self.batch} H={self.hidden} | {', '.join(times)} | {verdict} |"


class Call:
    """A contender of this page, for `benchmarks.layers.check`."""

    trains = False

    def __init__(self, name: str, call: Callable[[], Any]) -> None:
        self.name, self.call = name, call

    def infer(self, count: int) -> list[float]:
        """Time it."""
        torch.set_num_threads(1)
        with torch.no_grad():
            return timed(self.call, count)

    def train(self, count: int) -> list[float]:
        """It does not."""
        raise NotImplementedError

    def results(self) -> list[np.ndarray]:
        """y [T, B, H]."""
        with torch.no_grad():
            found = self.call()
        y = found[0] if isinstance(found, tuple) else found
        return [y.numpy() if isinstance(y, torch.Tensor) else y]

    def close(self) -> None:
        """Nothing is held."""


class StreamCall(Call):
    """A stream, which begins anew where its numbers are looked at."""

    def __init__(self, name: str, call: Callable[[], Any], begin: Callable[[], None]) -> None:
        super().__init__(name, call)
        self.begin = begin

    def results(self) -> list[np.ndarray]:
        """y [1, B, H] of the first step."""
        self.begin()
        return super().results()


def arrays(layer: torch.nn.Module) -> dict[str, np.ndarray]:
    """Its weights by name."""
    return {name: value.detach().numpy() for name, value in layer.named_parameters()}


def engines(problem: Problem) -> list[Contender]:
    """Those that run an ONNX model."""
    found: list[Contender] = [rivals.onnxruntime(problem)]
    return [*found, rivals.openvino(problem)] if find_spec("openvino") else found


def step_contenders(problem: Problem) -> list[Contender]:
    """One step."""
    x, layer, batch = problem.x[0], problem.layer, problem.shape.batch
    gru = runtime.GRU(arrays(layer))
    stream, out, x_t = gru.stream(batch), np.empty((batch, layer.hidden_size), "f4"), x.numpy()
    numpy_stream = fallback.Stream(_numpy_network(gru, layer), batch)
    ours = fastgru.GRU(layer.input_size, layer.hidden_size)
    ours.load_state_dict(layer.state_dict())
    frozen = fastgru.GRU(layer.input_size, layer.hidden_size)
    frozen.load_state_dict(layer.state_dict())
    fastgru.freeze(frozen)
    cell = torch.nn.GRUCell(layer.input_size, layer.hidden_size)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in layer.state_dict().items()})
    h = torch.zeros(batch, layer.hidden_size)

    def numpy_step() -> np.ndarray:
        numpy_stream.step(x_t, out, 1)
        return out[None]

    return [
        StreamCall("runtime", lambda: stream.step(x_t, out)[None], stream.reset),
        Call("fastgru.freeze", lambda: frozen.step(x, h[None])[0][None]),
        Call("fastgru.GRU", lambda: ours.step(x, h[None])[0][None]),
        *engines(problem),
        Call("torch.nn.GRUCell", lambda: cell(x, h)[None]),
        StreamCall("NumPy", numpy_step, lambda: numpy_stream.reset(None)),
    ]


def _numpy_network(gru: runtime.GRU, layer: torch.nn.GRU) -> fallback.Network:
    sizes = gru.input_size, [layer.hidden_size], 1
    return fallback.Network(*sizes, True, True, False, 0.0, [*arrays(layer).values()], None)


def sequence_contenders(problem: Problem) -> list[Contender]:
    """All steps in one call."""
    gru, x = runtime.GRU(arrays(problem.layer)), problem.x.numpy()
    return [
        Call("runtime", lambda: gru(x)),
        *engines(problem),
        Call("torch.nn.GRU", lambda: problem.layer(problem.x)),
    ]


def frozen_contenders(problem: Problem) -> list[Contender]:
    """A frozen model beside one that is not, and oneDNN."""
    layer, x = problem.layer, problem.x
    ours = fastgru.GRU(layer.input_size, layer.hidden_size)
    ours.load_state_dict(layer.state_dict())
    frozen = fastgru.GRU(layer.input_size, layer.hidden_size)
    frozen.load_state_dict(layer.state_dict())
    fastgru.freeze(frozen)
    found: list[Contender] = [Call("fastgru.freeze", lambda: frozen(x)), Call("fastgru.GRU", lambda: ours(x))]
    if "onednn-cpu-gomp" in {each.name for each in distributions()}:
        found.append(onednn.OneDnn(problem))
    return found


def measure(kind: str, batch: int, hidden: int, steps: int, seconds: float) -> Row:
    """One case, whose contenders all compute the right thing."""
    problem = Problem.draw(Shape(hidden, hidden, batch, steps, 1), 1)
    make = {"step": step_contenders, "sequence": sequence_contenders, "frozen": frozen_contenders}[kind]
    those = make(problem)
    try:
        for contender in those:
            check(contender, problem)
        return Row(kind, batch, hidden, medians({each.name: each.infer for each in those}, seconds))
    finally:
        for contender in those:
            contender.close()


# What a program does until it has a GRU, and whose files it needs.
PROGRAMS = {
    "fastgru.runtime": (
        "from fastgru import runtime; runtime.load('gru.safetensors')",
        ["fastgru", "numpy", "safetensors"],
    ),
    "fastgru.GRU": (
        "import torch, fastgru, safetensors.torch as s; gru = fastgru.GRU(256, 256); "
        "gru.load_state_dict(s.load_file('gru.safetensors'))",
        ["fastgru", "numpy", "safetensors", "torch"],
    ),
    "onnxruntime": (
        "import onnxruntime; onnxruntime.InferenceSession('gru.onnx', providers=['CPUExecutionProvider'])",
        ["onnxruntime", "numpy"],
    ),
    "openvino": (
        "import openvino; openvino.Core().compile_model('gru.onnx', 'CPU')",
        ["openvino", "numpy"],
    ),
}


def start(program: str, folder: Path, rounds: int = 5) -> tuple[float, float]:
    """Medians of a process's CPU seconds and of its resident MB at most, beyond those of an empty one for the first."""

    def once(code: str) -> tuple[float, float]:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        words = [sys.executable, "-c", f"{code}; print(open('/proc/self/status').read().split('VmHWM:')[1])"]
        done = subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return taken, int(done.stdout.split()[0]) / 1024

    pairs = [(once("pass"), once(program)) for _ in range(rounds)]
    own = statistics.median(full[0] - empty[0] for empty, full in pairs)
    return own, statistics.median(full[1] for _, full in pairs)


def megabytes(packages: Iterable[str]) -> float:
    """What packages have on disk; an editable one's own files are those of its source and its native module."""
    total = 0
    for package in packages:
        if package == "fastgru":
            native = Path(fastgru._native.__file__)
            files = {native, *Path(fastgru.__file__).parent.rglob("*.py")}
            total += sum(path.stat().st_size for path in files)
            continue
        for file in distribution(package).files or []:
            path = Path(str(file.locate()))
            total += path.stat().st_size if path.is_file() and path.suffix != ".pyc" else 0
    return total / 1e6


def starts() -> list[str]:
    """A table's rows: disk, start and memory of each alternative that is here."""
    problem = Problem.draw(Shape(256, 256, 1, 1, 1), 1)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fastgru.save(problem.layer, folder / "gru.safetensors")
        (folder / "gru.onnx").write_bytes(rivals.onnx_model(problem))
        for program, (code, packages) in PROGRAMS.items():
            if find_spec(packages[0]):
                seconds, memory = start(code, folder)
                disk = megabytes(packages)
                rows.append(f"| {program} | {disk:.0f} | {seconds * 1e3:.0f} | {memory:.0f} |")
    return rows


def main() -> None:
    """Measure and print tables; exit with 1 where a bar is not reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.5, help="time for each contender and case")
    options = parser.parse_args()
    print(f"{machine()}, one thread, {fastgru.info().native}\n")
    print("| case | us (over ours) | bars |\n|---|---|---|")
    rows = []
    cases = [("step", *case, 1) for case in STEPS] + [("sequence", *case, 100) for case in SEQUENCES]
    for kind, batch, hidden, steps in [*cases, *(("frozen", *case) for case in FROZEN)]:
        rows.append(measure(kind, batch, hidden, steps, options.seconds))
        print(rows[-1], flush=True)
    print("\n| until it has a GRU | MB on disk | CPU ms | MB resident |\n|---|--:|--:|--:|")
    print("\n".join(starts()))
    if any(row.over(name) < bar for row in rows for name, bar in row.bars.items()):
        sys.exit(1)


if __name__ == "__main__":
    main()
