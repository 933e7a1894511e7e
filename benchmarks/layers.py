"""One layer against every rival: `python -m benchmarks.layers`, also `make bench`.

Forward for inference, and forward with backward, at ten shapes, with 1 and 2 threads. In each round every contender
runs a short burst, so that a busy machine hits all alike; the figures are medians over all rounds. A contender whose
numbers are wrong is not timed, and nothing is timed while the numerics tests are red. Every contender gets its input
time-major and its weights in its own layout; fastgru.GRU and torch's modules are timed with their Python overhead.
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from benchmarks import pictures
from benchmarks.measurement import Measurement, write_csv
from benchmarks.problem import Problem
from benchmarks.rivals import Contender, contenders, steps
from fastgru import _native
from fastgru.cli.benchmark import Shape, machine

ROOT = Path(__file__).parents[1]
NUMERICS = ["tests/nn/test_gru.py", "tests/core/test_reference.py", "tests/backends/test_cpu_numerics.py"]
STEP = Shape(128, 128, 1, 1, 1)
SHAPES = [
    Shape(*sizes)
    for sizes in [
        (256, 256, 32, 100, 1),
        (256, 256, 4, 10, 1),
        (128, 128, 8, 50, 2),
        (384, 256, 1, 128, 2),
        (64, 64, 64, 200, 1),
        (512, 512, 64, 100, 1),
        (32, 32, 1, 1000, 1),
        (1024, 1024, 32, 50, 1),
        (128, 128, 64, 400, 1),
        (16, 32, 256, 50, 1),
    ]
]


def measure(shape: Shape, threads: int, seconds: float) -> Iterable[Measurement]:
    """Both modes at one shape; each contender runs for about `seconds` a mode."""
    with _checked(contenders, shape, threads) as those:
        yield Measurement.of(shape, threads, "inference", bursts({c.name: c.infer for c in those}, seconds))
        trainers = {c.name: c.train for c in those if c.trains}
        yield Measurement.of(shape, threads, "training", bursts(trainers, seconds))


def measure_step(threads: int, seconds: float) -> Measurement:
    """One step without gradients, layers and cells."""
    with _checked(steps, STEP, threads) as those:
        return Measurement.of(STEP, threads, "one step", bursts({c.name: c.infer for c in those}, seconds))


@contextmanager
def _checked(make: Callable[[Problem], list[Contender]], shape: Shape, threads: int) -> Iterator[list[Contender]]:
    """The contenders, each of which computes the right thing."""
    problem = Problem.draw(shape, threads)
    those = make(problem)
    try:
        for contender in those:
            check(contender, problem)
        yield those
    finally:
        for contender in those:
            contender.close()


def check(contender: Contender, problem: Problem, bound: float = 1e-5) -> None:
    """Raise RuntimeError where a contender computes something else: relative L2 error of y and dx in float64."""
    for name, got, expected in zip(("y", "dx"), contender.results(), problem.expected(), strict=False):
        error = ((torch.from_numpy(got).double() - expected).norm() / expected.norm()).item()
        if not error <= bound:
            raise RuntimeError(
                f"{contender.name} computes a wrong {name} at {problem.shape}: relative error {error:.1e}"
            )


def bursts(runs: dict[str, Callable[[int], list[float]]], seconds: float, rounds: int = 7) -> dict[str, list[float]]:
    """The seconds of every call of each one, in short bursts in turns; runs: how to run each, as `Contender.infer`."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    first = {name: min(run(3)) for name, run in runs.items()}
    burst = {name: max(1, min(1000, int(seconds / rounds / once))) for name, once in first.items()}
    for _ in range(rounds):
        for name, run in runs.items():
            taken[name] += run(1 + burst[name])[1:]  # the first of a burst finds its data out of the cache
            time.sleep(0.002)  # idle threads of one contender spin on for a while, which must not cost the next
    return taken


def medians(runs: dict[str, Callable[[int], list[float]]], seconds: float, rounds: int = 7) -> dict[str, float]:
    """Each one's median time, of `bursts`."""
    return {name: statistics.median(times) for name, times in bursts(runs, seconds, rounds).items()}


def gate() -> None:
    """Refuse to time anything while the numerics tests are red."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", *NUMERICS], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"the numerics tests are red, so no speed is shown:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")


def tables(measurements: list[Measurement], peaks: dict[int, float]) -> str:
    """A Markdown table for each mode and number of threads, with geometric means.

    peaks: by number of threads, the rate of the product's microkernel on panels that stay in the cache, in GFLOP/s.
    """
    text = []
    for mode, threads in dict.fromkeys((m.mode, m.threads) for m in measurements):
        rows = [m for m in measurements if (m.mode, m.threads) == (mode, threads)]
        names = list(rows[0].seconds)
        text.append(f"{mode}, {threads} thread{'s' if threads > 1 else ''}, microkernel {peaks[threads]:.0f} GFLOP/s\n")
        cells = [["I, H, B, T, D", *names, "best rival over ours", "share of peak"]]
        cells.append([":--", *["--:"] * (len(names) + 2)])
        for m in rows:
            times = [f"{m.seconds[n] * 1e3:.3f}" + ("" if n == m.ours else f" ({m.over(n):.2f})") for n in names]
            best = f"{m.over(m.best_rival):.2f} {m.best_rival}"
            cells.append(
                [", ".join(map(str, vars(m.shape).values())), *times, best, f"{m.gflops / peaks[threads]:.0%}"]
            )
        means = ["", *(f"({_mean(m.over(name) for m in rows):.2f})" for name in names[1:])]
        cells.append(["geometric mean", *means, f"{_mean(m.over(m.best_rival) for m in rows):.2f}", ""])
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        text += ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in cells]
        text.append("")
    return "\n".join(text)


def _mean(ratios: Iterable[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, ratios)))


def main() -> None:
    """Measure, print, and write layers.md, layers.csv and the pictures of benchmarks.pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, min(2, os.cpu_count() or 1)}))
    parser.add_argument(
        "--shapes", type=int, nargs="+", default=range(len(SHAPES)), help="numbers of the shapes, from 0"
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each contender, shape and mode")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="folder for the tables and the pictures")
    options = parser.parse_args()
    gate()
    print(machine())
    peaks = {threads: _native.microkernel_gflops(threads) for threads in {1, *options.threads}}
    measurements: list[Measurement] = []
    for threads in options.threads:
        for number in options.shapes:
            measurements += measure(SHAPES[number], threads, options.seconds)
            print(f"{SHAPES[number]}, threads {threads}: done", file=sys.stderr)
    measurements.append(measure_step(1, options.seconds))
    report = tables(measurements, peaks)
    print(report)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "layers.md").write_text(f"{machine()}. Medians in ms; in brackets, the time over ours.\n\n{report}")
    write_csv(measurements, options.out / "layers.csv")
    pictures.draw(options.out / "layers.csv", options.out)
    print(f"written: {options.out}/layers.md, layers.csv, speed.svg, layers.svg")


if __name__ == "__main__":
    main()
