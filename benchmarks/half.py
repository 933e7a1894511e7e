"""Training in bfloat16 beside float32: `python -m benchmarks.half`.

Milliseconds on one thread, medians of short bursts in turns, of the forward pass that keeps what backward needs and of
the backward pass: a float32 module, the same under torch.autocast, and a module of bfloat16; fastgru's, and torch's in
bfloat16. A bar, where the processor multiplies bfloat16: fastgru's float32 must take at least 1.5 times as long.
Elsewhere fastgru computes these layers in float32, and there is none.
"""

import argparse
import sys
import time
from collections.abc import Callable

import torch

import fastgru
from benchmarks.layers import medians
from fastgru import _native
from fastgru.cli.benchmark import machine

CASES = [(256, 32, 100), (256, 128, 50), (512, 32, 50), (1024, 32, 20)]  # I = H, B, T
BAR = 1.5
FLOAT, AUTOCAST, MODULE = "float32", "autocast", "bfloat16 module"
OURS, RIVALS = (FLOAT, AUTOCAST, MODULE), (AUTOCAST, MODULE)
FORWARD, BACKWARD = "forward", "backward"


class Trainer:
    """A layer that is trained in one of the three ways."""

    def __init__(self, kind: type[torch.nn.Module], how: str, case: tuple[int, int, int]) -> None:
        hidden, batch, steps = case
        dtype = torch.bfloat16 if how == MODULE else torch.float32
        self.module = kind(hidden, hidden, dtype=dtype)
        self.x = torch.randn(steps, batch, hidden, dtype=dtype, requires_grad=True)
        self.dy = torch.randn(steps, batch, hidden)
        self.is_autocast = how == AUTOCAST

    def timed(self, part: str) -> Callable[[int], list[float]]:
        """Run both passes so many times, and give the seconds of one of them."""

        def run(count: int) -> list[float]:
            times = []
            for _ in range(count):
                begin = time.perf_counter()
                with torch.autocast("cpu", torch.bfloat16, enabled=self.is_autocast):
                    y, _ = self.module(self.x)
                middle = time.perf_counter()
                torch.autograd.grad(y, [self.x, *self.module.parameters()], self.dy.to(y.dtype))
                times.append(middle - begin if part == FORWARD else time.perf_counter() - middle)
            return times

        return run


def measure(case: tuple[int, int, int], seconds: float) -> dict[tuple[str, str], float]:
    """Median seconds of each one's forward and backward pass."""
    those = {f"fastgru {how}": Trainer(fastgru.GRU, how, case) for how in OURS}
    those |= {f"torch {how}": Trainer(torch.nn.GRU, how, case) for how in RIVALS}
    runs = {f"{name}, {part}": one.timed(part) for name, one in those.items() for part in (FORWARD, BACKWARD)}
    found = medians(runs, seconds)
    return {(name, part): found[f"{name}, {part}"] for name in those for part in (FORWARD, BACKWARD)}


def main() -> None:
    """Measure and print a table; exit with 1 where a bar is not reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each contender, case and pass")
    options = parser.parse_args()
    torch.set_num_threads(1)
    kernels = _native.low_precision_set()
    has_bar, short = kernels == "avx512+bf16", False
    print(f"{machine()}, one thread, kernels for bfloat16: {kernels}\n")
    print("| I = H, B, T | ms, forward + backward (fastgru's float32 over each) | bar |\n|---|---|---|")
    for case in CASES:
        found = measure(case, options.seconds)
        cells, under = [], []
        for name in dict.fromkeys(name for name, _ in found):
            ratios = {part: found[f"fastgru {FLOAT}", part] / found[name, part] for part in (FORWARD, BACKWARD)}
            times = [f"{found[name, part] * 1e3:.1f} ({ratio:.2f})" for part, ratio in ratios.items()]
            cells.append(f"{name} {' + '.join(times)}")
            if name in (f"fastgru {AUTOCAST}", f"fastgru {MODULE}") and has_bar:
                under += [f"{name} {part} {ratio:.2f} of {BAR}" for part, ratio in ratios.items() if ratio < BAR]
        short = short or bool(under)
        verdict = ("; ".join(under) or "good") if has_bar else ""
        print(f"| {', '.join(map(str, case))} | {', '.join(cells)} | {verdict} |", flush=True)
    if short:
        sys.exit(1)


if __name__ == "__main__":
    main()
