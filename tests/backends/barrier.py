"""The kernels of several CTAs to a batch slice, interpreted: a process each, on shared memory, with random pauses.

The barrier between them is then a real one. A process waits now and then before it tells the others something, or hears
it: an order that nothing enforces does not hold.
"""

import itertools
import multiprocessing
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fastgru.backends.triton import launch
from fastgru.backends.triton.plan import Plan
from fastgru.core.layer import Layer

# What is told between CTAs: the only loads and stores without a mask.
POINTS = {"tell": "create_store", "hear": "create_load"}
Pause = Callable[[random.Random, int, str, int], float]
_context = multiprocessing.get_context("fork")


def now_and_then(chance: random.Random, cta: int, point: str, count: int) -> float:
    """Seconds to wait there: mostly few, sometimes enough for others to run ahead by steps."""
    return chance.random() ** 6 / 5


def straggler(where: str) -> Pause:
    """The first CTA comes late to one of POINTS in its second and third step."""

    def pause(chance: random.Random, cta: int, point: str, count: int) -> float:
        return 0.4 if cta == 0 and point == where and count in (1, 2) else 0

    return pause


@contextmanager
def processes(pause: Pause, limit: float = 60) -> Iterator[None]:
    """Inside, a launch of several CTAs is as many processes. RuntimeError where one dies or hangs."""
    alone = launch.run_ctas

    def run_ctas(kernel: Any, count: int, arguments: Any, options: dict[str, Any]) -> None:
        if options["PARTS"] == 1:
            alone(kernel, count, arguments, options)
            return
        shared = [value.share_memory_() if isinstance(value, Tensor) else value for value in arguments]
        each = [_context.Process(target=_run, args=(kernel, shared, options, cta, pause)) for cta in range(count)]
        for process in each:
            process.start()
        try:
            deadline = time.monotonic() + limit
            for process in each:
                process.join(max(deadline - time.monotonic(), 0))
            if any(process.exitcode != 0 for process in each):
                raise RuntimeError(f"CTAs ended with {[process.exitcode for process in each]}")
        finally:
            for process in each:
                process.kill()
                process.join()

    launch.run_ctas = run_ctas
    try:
        yield
    finally:
        launch.run_ctas = alone


def _run(kernel: Any, arguments: Any, options: dict[str, Any], cta: int, pause: Pause) -> None:
    """One CTA: a launch of its own, whose first CTA it is."""
    from triton.runtime.interpreter import InterpreterBuilder

    chance = random.Random(cta)
    for point, name in POINTS.items():
        setattr(
            InterpreterBuilder, name, _pausing(getattr(InterpreterBuilder, name), partial(pause, chance, cta, point))
        )
    own = list(arguments)
    own[kernel.arg_names.index("first_cta")] += cta
    kernel[(1,)](*own, **options)


def _pausing(function: Any, pause: Callable[[int], float]) -> Any:
    counts = itertools.count()

    def paused(*arguments: Any) -> Any:
        time.sleep(pause(next(counts)))
        return function(*arguments)

    return paused


def both_passes(given: Layer, plan: Plan, dy: Tensor, dh_n: Tensor, has_backward: bool = True) -> list[Tensor]:
    """y, h_n and the gradients of all leaves that are there."""
    way = launch.Way(plan, "ieee", 100)
    with torch.no_grad():
        y, h_n = launch.forward(given, way)
        if not has_backward:
            return [y, h_n]
        found = launch.backward(given, y, dy, dh_n, [True] * len(given.leaves), way)
    return [y, h_n, *(gradient for gradient in found if gradient is not None)]
