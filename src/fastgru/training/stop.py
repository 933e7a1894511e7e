"""Ctrl-C and SIGTERM in a training: both end it in order, and say so by the exit code."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from fastgru.common.errors import Stopped


@contextmanager
def stoppable() -> Iterator[None]:
    """Run a Lightning trainer in here; Stopped where Ctrl-C or SIGTERM ended it.

    Lightning takes an interrupt, lets its callbacks end, ignores SIGINT from then on and exits with code 1; by itself
    it lets a training that got SIGTERM end as if it had succeeded. Signals belong to the main thread: elsewhere this
    does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def interrupt(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        raise KeyboardInterrupt

    before = {signum: signal.signal(signum, interrupt) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except (SystemExit, KeyboardInterrupt) as error:
        if not received:
            raise
        raise Stopped(received[0]) from error
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
