"""Which of several processes this one is, where a training is spread over some."""

import os


def rank() -> int:
    """Give this process's number: 0 for the one that writes and speaks, or where there is only one.

    As torchrun tells it (`RANK`), otherwise as Lightning tells the processes that it starts (`LOCAL_RANK`).
    """
    return int(os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or 0)


def shape() -> tuple[int, int] | None:
    """Give how many processes a machine has, and how many machines there are, as torchrun tells; otherwise None."""
    if "LOCAL_WORLD_SIZE" not in os.environ:
        return None
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    return local, int(os.environ["WORLD_SIZE"]) // local
