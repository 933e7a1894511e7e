"""The rank of this process in a distributed training, and the size of the world, as torchrun tells them."""

import os


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
