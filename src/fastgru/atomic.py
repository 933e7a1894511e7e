"""Files that are there whole or not at all: whoever reads one, and whoever is killed writing one, never meets half."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path, attempt: str = "tmp") -> Iterator[Path]:
    """Give a path beside `path` to write to; at the end the file is brought to the disk and takes `path`'s place.

    Where the block raises, what it wrote goes and `path` stays as it was. A killed process may leave the file beside,
    which the next writer replaces. `attempt`: a name for this writer, where several write the same file at a time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{attempt}")
    try:
        yield beside
        _bring_to_disk(beside)
        os.replace(beside, path)
        _bring_to_disk(path.parent)  # the new name too outlives a power cut
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _bring_to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
