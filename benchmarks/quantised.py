"""Layers of few bits beside float32 and what others have: `python -m benchmarks.quantised`.

Whole sequences on one thread: medians of short bursts in turns, in microseconds, how many times fastgru's float32 takes
each one's time, and the root mean square of how far the outputs are from float32's in float64. fastgru's float32 has
packed and trusted weights (`fastgru.runtime`), as those of few bits have. A bar, where there is one for this processor,
is the least that float32's time must be over that of few bits; and no rival may be faster than int8. Where a processor
has no bfloat16, OpenVINO computes in float32, whatever it is asked for.
"""

import argparse
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch

import fastgru
from benchmarks import rivals
from benchmarks.layers import medians
from benchmarks.problem import Problem
from benchmarks.runtime import Call, arrays
from fastgru import _native, runtime
from fastgru.cli.benchmark import Shape, machine

FLOAT, INT8, BF16 = "float32", "int8", "bf16"
# I = H, B, T, D: the first four have bars where there is AVX-512 with VNNI and BF16.
CASES = [
    (256, 1, 100, 1),
    (512, 32, 30, 1),
    (300, 1, 100, 1),
    (128, 4, 100, 2),
    (128, 1, 100, 1),
    (512, 1, 100, 1),
    (256, 4, 100, 1),
    (256, 32, 50, 1),
]
AVX512_BARS: Mapping[tuple[int, int, int, int], Mapping[str, float]] = {
    CASES[0]: {INT8: 2.5, BF16: 1.6},
    CASES[1]: {INT8: 1.9, BF16: 1.6},
    CASES[2]: {INT8: 2.2, BF16: 1.5},
    CASES[3]: {INT8: 1.8, BF16: 1.4},
}
MOST_RMS = {INT8: 6e-3, BF16: 1.5e-3}


def bars_of(case: tuple[int, int, int, int], kernels: str) -> Mapping[str, float]:
    """What the kernels in use must reach."""
    if kernels == "avx512+bf16":
        return AVX512_BARS.get(case, {})
    if kernels == "avx2":
        return {INT8: 1.5 if case[1] == 1 else 1.0}
    return {}


@dataclass(frozen=True)
class Row:
    """One case: medians in seconds and errors by contender."""

    case: tuple[int, int, int, int]
    seconds: Mapping[str, float]
    rms: Mapping[str, float]
    bars: Mapping[str, float]

    def short(self) -> list[str]:
        """The bars that were not reached, in words."""
        over = {name: self.seconds[FLOAT] / self.seconds[name] for name in (INT8, BF16)}
        found = [f"{name} {over[name]:.2f} of {bar}" for name, bar in self.bars.items() if over[name] < bar]
        found += [f"{name} rms {self.rms[name]:.1e}" for name, most in MOST_RMS.items() if not self.rms[name] <= most]
        rivals_of = self.seconds.keys() - {FLOAT, INT8, BF16}
        return found + [f"{name} is faster" for name in rivals_of if self.seconds[name] < self.seconds[INT8]]

    def __str__(self) -> str:
        hidden, batch, steps, directions = self.case
        shape = f"H={hidden} B={batch} T={steps}{' both directions' if directions == 2 else ''}"
        times = [
            f"{name} {seconds * 1e6:.0f} ({self.seconds[FLOAT] / seconds:.2f}, {self.rms[name]:.1e})"
            for name, seconds in self.seconds.items()
        ]
        verdict = f"SHORT: {', '.join(self.short())}" if self.short() else "good" if self.bars else ""
        return f"| {shape} | {', '.join(times)} | {verdict} |"


def contenders(problem: Problem) -> list[Call]:
    """Ours, then torch's and others' that are here."""
    layer, x = problem.layer, problem.x
    found = [ours(FLOAT, runtime.GRU(arrays(layer)), x.numpy())]
    for bits in (INT8, BF16):
        quantized = fastgru.quantize(layer, bits)
        weights = {name: bits_of(value) for name, value in quantized.state_dict().items()}
        found.append(ours(bits, runtime.GRU(weights), x.numpy()))
    found.append(Call("torch.nn.GRU", lambda: layer(x)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and all that torch has
        (dynamic,) = torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(layer), {torch.nn.GRU}, torch.qint8)
    found.append(Call("torch quantize_dynamic", lambda: dynamic(x)))
    if find_spec("onnxruntime"):
        found.append(engine("onnxruntime", rivals.onnxruntime(problem)))
    if find_spec("openvino"):
        found.append(engine("openvino bf16", rivals.openvino(problem, "bf16")))
    return found


def engine(name: str, session: rivals.Inference) -> Call:
    """One that runs an ONNX model."""
    return Call(name, lambda: np.moveaxis(session.run(), 1, 2))


def ours(name: str, gru: runtime.GRU, x: np.ndarray) -> Call:
    """A layer of fastgru.runtime."""
    return Call(name, lambda: gru(x))


def bits_of(value: torch.Tensor) -> np.ndarray:
    """A weight as fastgru.runtime takes it."""
    return (value.view(torch.uint16) if value.dtype is torch.bfloat16 else value).numpy()


def measure(case: tuple[int, int, int, int], seconds: float) -> Row:
    """One case."""
    hidden, batch, steps, directions = case
    problem = Problem.draw(Shape(hidden, hidden, batch, steps, directions), 1)
    torch.set_num_threads(1)
    those, exact = contenders(problem), problem.expected()[0].numpy()
    rms = {}
    for each in those:
        y = np.asarray(each.results()[0]).reshape(exact.shape)
        rms[each.name] = float(np.sqrt(np.mean((y - exact) ** 2)))
    times = medians({each.name: each.infer for each in those}, seconds)
    return Row(case, times, rms, bars_of(case, _native.low_precision_set()))


def main() -> None:
    """Measure and print a table; exit with 1 where a bar is not reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.5, help="time for each contender and case")
    options = parser.parse_args()
    print(f"{machine()}, one thread, kernels of few bits: {_native.low_precision_set()}\n")
    print("| case, I = H | us (float32 over it, rms) | bars |\n|---|---|---|")
    rows = []
    for case in CASES:
        rows.append(measure(case, options.seconds))
        print(rows[-1], flush=True)
    if any(row.short() for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
