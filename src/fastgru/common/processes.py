"""The rank of this process in a distributed training, and the size of the world, as torchrun tells them."""

import os

from fastgru.common.errors import InputError

SILENCE = "FASTGRU_TIMEOUT"


def rank() -> int:
    """Give this process's rank: 0 for the one that writes and logs, or where there is only one.

    As torchrun tells it (`RANK`), otherwise as Lightning tells the processes that it starts (`LOCAL_RANK`).
    """
    return int(os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or 0)


def torchrun_world() -> tuple[int, int] | None:
    """Give torchrun's local world size and the number of machines; None where torchrun did not start this process."""
    if "LOCAL_WORLD_SIZE" not in os.environ:
        return None
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    return local, int(os.environ["WORLD_SIZE"]) // local


def silence() -> float:
    """Give the seconds of silence after which a process counts as lost in a training: FASTGRU_TIMEOUT, or 300.

    The longest that the others wait for the first is while it writes a checkpoint. torch's own 30 minutes for gloo are
    what a machine that is cut off would cost: nothing else tells the others.
    """
    given = os.environ.get(SILENCE, "300")
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise InputError(f"{SILENCE} must be a number of seconds above 0, got {given!r}")
    return seconds
