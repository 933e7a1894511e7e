"""One process of a training that test_distributed.py spreads over two: gloo over loopback, met through a file."""

from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

PROCESSES, STEPS = 2, 3
T, B, I, H = 5, 4, 3, 6


def build(kind: type[torch.nn.Module]) -> torch.nn.Module:
    torch.manual_seed(0)
    return kind(I, H, num_layers=2, bidirectional=True, dtype=torch.float64)


def batches() -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(T, B, I, dtype=torch.float64) for _ in range(STEPS)]


def loss(model: torch.nn.Module, x: Tensor) -> Tensor:
    y, h_n = model(x)
    return (y.square().sum() + h_n.sin().sum()) / x.size(1)


def train(model: torch.nn.Module, rank: int = 0, processes: int = 1) -> None:
    """Train on this process's share of every batch; the same weights and means are what all shares together give."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for x in batches():
        optimizer.zero_grad()
        loss(model, x.chunk(processes, dim=1)[rank]).backward()
        optimizer.step()
        with torch.no_grad():  # keeps packed weights, which the next step must not use
            model(x)


def whole(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix("module."): getattr(weight, "full_tensor", lambda w=weight: w)().detach().clone()
        for name, weight in weights.items()
    }


def run(rank: int, folder: str, kind: type[torch.nn.Module]) -> None:
    """Train with DDP and with FSDP2, and leave the weights of both in a file."""
    torch.set_num_threads(1)
    where = {"init_method": f"file://{folder}/meeting", "timeout": timedelta(seconds=60)}
    dist.init_process_group("gloo", rank=rank, world_size=PROCESSES, **where)
    try:
        replicated = DistributedDataParallel(build(kind))
        train(replicated, rank, PROCESSES)
        sharded = build(kind)
        fully_shard(sharded, mesh=dist.device_mesh.init_device_mesh("cpu", (PROCESSES,)))
        shares = [weight.to_local().shape[0] for weight in sharded.parameters()]
        train(sharded, rank, PROCESSES)
        found = {"ddp": whole(replicated.state_dict()), "fsdp": whole(sharded.state_dict()), "shares": shares}
        torch.save(found, Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()
