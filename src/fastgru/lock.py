"""One process at a time in a folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastgru.errors import InputError


@contextmanager
def locked(folder: Path, taken: str) -> Iterator[None]:
    """Hold `folder`, which is made where it is not there; InputError, saying `taken`, where another process holds it.

    A folder that was made here and is still empty at the end goes again. A killed process holds nothing.
    """
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(taken) from error
        yield
    finally:
        os.close(handle)
        if new and folder.exists() and not any(folder.iterdir()):
            folder.rmdir()
