"""One process of two that loop over a cell, for test_step_distributed.py: gloo over loopback, met through a file."""

from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

import fastgru
from fastgru import ops
from fastgru.ops.step_training import StepGraph

PROCESSES, ROUNDS = 2, 3
T, B, I, H = 6, 4, 5, 8


class Loop(torch.nn.Module):
    """A model that loops over a cell, with a layer after it."""

    def __init__(self, kind: type[torch.nn.RNNCellBase], is_checkpointed: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell = kind(I, H, dtype=torch.float64)  # type: ignore[call-arg]
        self.head = torch.nn.Linear(H, 2, dtype=torch.float64)
        self.is_checkpointed = is_checkpointed

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        outputs = []
        for x_t in x:
            if self.is_checkpointed:
                state = checkpoint(self.cell, x_t, state, use_reentrant=False)
            else:
                state = self.cell(x_t, state)
            outputs.append(self.head(state))
        return torch.stack(outputs)


class Way(NamedTuple):
    """How two processes share a model, and how it is used.

    wants_dx: whether the input wants a gradient: fully_shard gives away a module's gradients as its input's come.
    """

    wrap: Callable[[Loop], torch.nn.Module]
    is_checkpointed: bool = False
    syncs_once: bool = False
    wants_dx: bool = False
    is_forward_first: bool = False


def accumulate(model: torch.nn.Module, way: Way, rank: int = 0, processes: int = 1) -> None:
    """The gradients of several batches, each the mean over this process's share of its sequences."""
    losses: list[Tensor] = []
    for seed in range(ROUNDS):
        generator = torch.Generator().manual_seed(seed)
        x, h, cotangents = (
            torch.randn(*shape, generator=generator, dtype=torch.float64).chunk(processes, dim=-2)[rank]
            for shape in ((T, B, I), (B, H), (T, B, 2))
        )
        is_apart = way.syncs_once and processes > 1 and seed < ROUNDS - 1
        with model.no_sync() if is_apart else nullcontext():  # type: ignore[operator]
            losses.append((model(x.requires_grad_(way.wants_dx), h) * cotangents).sum() / x.size(1))
            if not way.is_forward_first:
                losses[-1].backward()
    if way.is_forward_first:
        for loss in losses:
            loss.backward()


def model_sharded(model: Loop) -> torch.nn.Module:
    fully_shard(model, mesh=dist.device_mesh.init_device_mesh("cpu", (PROCESSES,)))
    return model


def cell_sharded(model: Loop, reshard: bool) -> torch.nn.Module:
    """The cell's weights are gathered at every one of its calls, and with `reshard` freed after each."""
    fully_shard(model.cell, mesh=dist.device_mesh.init_device_mesh("cpu", (PROCESSES,)), reshard_after_forward=reshard)
    return model_sharded(model)


WAYS = {
    "ddp": Way(DistributedDataParallel),
    "ddp, no_sync": Way(DistributedDataParallel, syncs_once=True),
    "ddp, static graph": Way(partial(DistributedDataParallel, static_graph=True)),
    "ddp, unused looked for": Way(partial(DistributedDataParallel, find_unused_parameters=True)),
    "ddp, views of buckets": Way(partial(DistributedDataParallel, gradient_as_bucket_view=True), wants_dx=True),
    "ddp, checkpoints": Way(DistributedDataParallel, is_checkpointed=True, wants_dx=True),
    "fsdp of the model": Way(model_sharded),
    "fsdp of the model, dx": Way(model_sharded, wants_dx=True),
    "fsdp of the model, dx, all forward first": Way(model_sharded, wants_dx=True, is_forward_first=True),
    "fsdp of the cell": Way(partial(cell_sharded, reshard=True)),
    "fsdp of the cell, dx": Way(partial(cell_sharded, reshard=True), wants_dx=True),
    "fsdp of the cell, kept": Way(partial(cell_sharded, reshard=False)),
    "fsdp of the cell, checkpoints": Way(partial(cell_sharded, reshard=True), is_checkpointed=True),
}


def gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    """Whole ones, by the unwrapped model's names."""
    found = {name.removeprefix("module."): parameter.grad for name, parameter in model.named_parameters()}
    return {name: getattr(grad, "full_tensor", lambda g=grad: g)() for name, grad in found.items()}


class Noted:
    """Whether each later step was a call of the kernel, and whether one used the weights through the token."""

    def __init__(self) -> None:
        self.served: list[bool] = []
        self.is_shared = False
        self._step, self._token = ops.trained_step, StepGraph.for_next_step
        ops.trained_step = self.step
        StepGraph.for_next_step = lambda graph: self.token(graph)  # type: ignore[method-assign, assignment]

    def step(self, *arguments: Any, **options: Any) -> Any:
        found = self._step(*arguments, **options)
        self.served.append(found is not None)
        return found

    def token(self, graph: StepGraph) -> Tensor | None:
        self.is_shared = True
        return self._token(graph)


def run(rank: int, folder: str) -> None:
    """Leave in a file, for every way, the gradients, which steps were the kernel's, and whether they shared weights."""
    torch.set_num_threads(1)
    where = {"init_method": f"file://{folder}/meeting", "timeout": timedelta(seconds=60)}
    dist.init_process_group("gloo", rank=rank, world_size=PROCESSES, **where)  # type: ignore[arg-type]
    noted = Noted()
    try:
        found: dict[str, tuple[dict[str, Tensor], list[bool], bool]] = {}
        for name, way in WAYS.items():
            noted.served, noted.is_shared = [], False
            model = way.wrap(Loop(fastgru.GRUCell, way.is_checkpointed))
            accumulate(model, way, rank, PROCESSES)
            found[name] = gradients(model), noted.served, noted.is_shared
        torch.save(found, Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()
