"""How far data parallel training of each task scales, on paper: `python -m benchmarks.scaling`.

Measured: the processor seconds of a step with the command's own data, batch and model (one thread, medians: what others
do on the machine counts little), and the bytes of its gradient. Estimated: how fast W processes are that share the
batch, T(1) / T(W), with

    T(W) = compute / W + whole + 2 (W - 1) / W * bytes / bandwidth + 2 (W - 1) * latency

A ring's all-reduce sends 2 (W - 1) / W of the gradient through each process's link (Patarasuk and Yuan 2009, "Bandwidth
optimal all-reduce algorithms for clusters of workstations"); nothing is taken to overlap. `whole` is what every process
does for itself, whatever W: the optimiser and the average of the weights. That the kernels lose speed with smaller
batches is left out: it is the upper end.
"""

import argparse
import statistics
import time
from itertools import islice
from typing import Any

import torch

from fastgru.data.bucketing import Batching
from fastgru.training.batches import TrainBatches
from fastgru.training.tasks import TASKS

LINKS = {"1 Gbit/s": (0.125e9, 50e-6), "10 Gbit/s": (1.25e9, 30e-6), "100 Gbit/s": (12.5e9, 10e-6)}  # bytes/s, s
WORLDS = (2, 4, 8, 16)


def measure(name: str, steps: int) -> tuple[int, float, float]:
    """Give the bytes of the gradient, and the seconds of a step that are shared and those that are not."""
    task = TASKS[name]
    options: Any = task.options()
    torch.manual_seed(0)
    data = task.load_data(options)
    model = task.build_model(options, data)
    module = task.module(model, options)
    batches = task.batches(data, model, options)
    size = Batching(options.batch_size, options.batch_tokens)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, fused=True)
    shared, whole = [], []
    for one in islice(TrainBatches(batches.train, size, seed=0, accumulate=1, rank=0, world=1), steps):
        started = time.process_time()
        module.loss(one.batch).backward()
        computed = time.process_time()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        module.average.update_parameters(model)
        shared.append(computed - started)
        whole.append(time.process_time() - computed)
    sizes = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    return sizes, statistics.median(shared), statistics.median(whole)


def speed(sizes: int, shared: float, whole: float, world: int, bandwidth: float, latency: float) -> float:
    """Give how many times as fast `world` processes are as one."""
    exchanged = 2 * (world - 1) / world * sizes / bandwidth + 2 * (world - 1) * latency
    return (shared + whole) / (shared / world + whole + exchanged)


def main() -> None:
    """Measure each task and print a row for each link."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60, help="to take medians of (default: 60)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "task       gradient, MB  shared, ms  whole, ms  link        " + "".join(f"W = {world:<5}" for world in WORLDS)
    )
    for name in TASKS:
        sizes, shared, whole = measure(name, arguments.steps)
        for link, settings in LINKS.items():
            speeds = "".join(f"{speed(sizes, shared, whole, world, *settings):<9.2f}" for world in WORLDS)
            measured = f"{sizes / 1e6:12.2f}  {1e3 * shared:10.1f}  {1e3 * whole:9.1f}"
            print(f"{name:9}  {measured}  {link:10}  {speeds}", flush=True)


if __name__ == "__main__":
    main()
