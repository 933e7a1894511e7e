"""What `fastgru.batch_invariant(True)` costs a single step without gradients: `python -m benchmarks.invariance`.

A call of GRUCell, Python overhead and all, as it is by default and with the bits of the whole pass, in turns, in short
bursts; the figures are medians in microseconds.
"""

import argparse
from collections.abc import Callable

import torch

import fastgru
from benchmarks.layers import medians
from benchmarks.rivals import timed
from fastgru.cli.benchmark import machine

SIZES = [(16, 16), (33, 70), (64, 64), (128, 128), (256, 256), (512, 512), (600, 600)]


def measure(sizes: tuple[int, int], batch: int, seconds: float) -> tuple[float, float]:
    """Medians of the default and of what was asked for, in seconds."""
    cell = fastgru.GRUCell(*sizes)
    x, h = torch.randn(batch, sizes[0]), torch.randn(batch, sizes[1])

    def run(invariant: bool) -> Callable[[int], list[float]]:
        def burst(count: int) -> list[float]:
            with torch.no_grad(), fastgru.batch_invariant(invariant):
                return timed(lambda: cell(x, h), count)

        return burst

    found = medians({"default": run(False), "invariant": run(True)}, seconds)
    return found["default"], found["invariant"]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each of the two and each case")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}, {fastgru.info().native}\n")
    print("| one step, us | default | batch_invariant(True) |\n|---|--:|--:|")
    for batch in (1, 2):
        for sizes in SIZES:
            default, invariant = measure(sizes, batch, options.seconds)
            name = f"I={sizes[0]} H={sizes[1]} B={batch}"
            print(f"| {name} | {default * 1e6:.1f} | {invariant * 1e6:.1f} ({invariant / default:.2f}) |", flush=True)


if __name__ == "__main__":
    main()
