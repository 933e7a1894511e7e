"""Atomic writes, a lock on a folder, and images that can be written."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fastgru.common.errors import InputError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


@contextmanager
def atomic_write(path: Path, attempt: str = "tmp") -> Iterator[Path]:
    """Write a file whole or not at all: give a temporary path beside `path`, then fsync it and rename it to `path`.

    Where the block raises, what it wrote goes and `path` stays as it was. A killed process may leave the temporary
    file, which the next writer replaces. `attempt`: a name for this writer, where several write the same file at a
    time.
    """
    temporary = path.with_name(f".{path.name}.{attempt}")
    try:
        yield temporary
        _fsync(temporary)
        os.replace(temporary, path)
        _fsync(path.parent)  # the new name too outlives a power cut
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def open_to_others(path: Path) -> None:
    """Give the file at `path` the mode of any new file in its folder: safetensors writes what only its owner can read.

    The mode is taken from a new file, since a process's umask can only be read by changing it for all its threads.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".mode") as folder:
        probe = Path(folder) / "probe"
        probe.touch()
        shutil.copymode(probe, path)


def _fsync(path: Path) -> None:
    if sys.platform == "win32" and path.is_dir():
        return  # a folder cannot be opened, and its names are in the file system's journal
    handle = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)  # there only a writer may fsync
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(folder: Path, taken: str) -> Iterator[None]:
    """Hold `folder`, which is made where it is not there; InputError, saying `taken`, where another process holds it.

    A folder that was made here and is still empty at the end goes again. A killed process holds nothing. Windows has no
    locks on folders: there a file beside it, `.NAME.lock`, is held and goes again too.
    """
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        handle = _lock(folder)
    except BlockingIOError as error:
        raise InputError(taken) from error
    try:
        yield
    finally:
        _unlock(folder, handle)
        if new and folder.exists() and not any(folder.iterdir()):
            folder.rmdir()


if sys.platform == "win32":

    def _lock_file(folder: Path) -> Path:
        return folder.with_name(f".{folder.name}.lock")

    def _lock(folder: Path) -> int:
        handle = os.open(_lock_file(folder), os.O_RDWR | os.O_CREAT)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            os.close(handle)
            raise BlockingIOError(*error.args) from error
        return handle

    def _unlock(folder: Path, handle: int) -> None:
        os.close(handle)  # gives the lock up
        with suppress(PermissionError):  # another process holds it by now, and will remove it
            _lock_file(folder).unlink(missing_ok=True)

else:

    def _lock(folder: Path) -> int:
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise
        return handle

    def _unlock(folder: Path, handle: int) -> None:
        os.close(handle)


def check_image(path: Path) -> None:
    """Raise InputError where no image can be written to `path`: before anything is measured, not after."""
    from matplotlib.figure import Figure

    kinds = sorted(Figure().canvas.get_supported_filetypes())
    if path.suffix.lstrip(".").lower() not in kinds:
        raise InputError(f"{path}: an image's name ends in one of .{', .'.join(kinds)}")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent} to write it into")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InputError(f"{path} cannot be written: name a file in a folder that can")
