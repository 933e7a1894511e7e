"""Cases run in a process that is watched: when it dies or hangs the case is known, and another goes on behind it."""

import ctypes
import faulthandler
import multiprocessing
import os
import resource
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import IO

import torch

HUNG = 120  # seconds that no case takes
_MOST_MEMORY = 12 << 30  # bytes of addresses: whoever asks for more is refused, and the machine is not brought down
_M_PERTURB = -6  # of mallopt: freed memory holds this byte, new memory its complement
_context = multiprocessing.get_context("fork")  # before any kernel ran, so that threads are those of a fresh process

Check = Callable[[int], list[str]]


@dataclass(frozen=True)
class Outcome:
    """What became of the cases first..last (one, where it can be told): what is wrong, in words, if anything is."""

    first: int
    last: int
    problems: list[str]


def outcomes(check: Check, cases: range, deadline: float) -> Iterator[Outcome]:
    """Run one case after the other until the deadline of time.monotonic()."""
    torch._C._set_deterministic_algorithms(True)  # not torch's own function, which imports its compiler
    torch.utils.deterministic.fill_uninitialized_memory = True  # with NaN
    start = cases.start
    while start < cases.stop and time.monotonic() < deadline:
        begun = start - 1
        death = None
        with _Worker(check, range(start, cases.stop), deadline) as worker:
            for number, problems in worker.reports():
                if problems is not None:
                    yield Outcome(number, number, problems)
                begun = number
                death = problems is None
            if not death:
                if worker.failed() is None:
                    return
                begun += 1
            words = worker.failed() or "ended without a word"
        yield _blamed(check, start, begun, words)
        start = begun + 1


def _blamed(check: Check, first: int, last: int, words: str) -> Outcome:
    """A process that ran first..last died of the last: whether that one alone dies of it too."""
    if first < last:
        with _Worker(check, range(last, last + 1), float("inf")) as alone:
            for _ in alone.reports():
                pass
            again = alone.failed()
        if again is None:
            return Outcome(first, last, [f"{words}, and not where case {last} runs alone"])
        words = again
    return Outcome(last, last, [words])


class _Worker:
    """A process that reports each case before it (with None) and after it (with what was wrong)."""

    def __init__(self, check: Check, cases: range, deadline: float) -> None:
        self.log: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the worker
        self.pipe, theirs = _context.Pipe(duplex=False)
        self.process = _context.Process(target=_work, args=(check, cases, deadline, theirs, self.log), daemon=True)
        self.process.start()
        theirs.close()
        self.hung = False

    def __enter__(self) -> "_Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()
        self.log.close()

    def reports(self) -> Iterator[tuple[int, list[str] | None]]:
        while True:
            if not self.pipe.poll(HUNG):
                self.hung = True
                return
            try:
                yield self.pipe.recv()
            except EOFError:
                return

    def failed(self) -> str | None:
        """How it died, with its last words; None where it came to its end."""
        if self.hung:
            faulted = f"hung for {HUNG} seconds"
        else:
            self.process.join()
            code = self.process.exitcode or 0
            if code == 0:
                return None
            faulted = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        self.log.seek(0)
        return "\n  ".join([faulted, *self.log.read().splitlines()[:12]])


def _work(check: Check, cases: range, deadline: float, pipe: Connection, log: IO[str]) -> None:
    os.dup2(log.fileno(), 2)
    faulthandler.enable(log)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_PERTURB, 0x80)  # new memory is 0x7f7f..: 3.4e38, 1.4e306
    for number in cases:
        if time.monotonic() >= deadline:
            return
        pipe.send((number, None))
        try:
            problems = check(number)
        except Exception:
            problems = ["the case itself raised " + traceback.format_exc(limit=-4).strip()]
        pipe.send((number, problems))
