"""Two processes that loop over a cell have the gradients of one: DistributedDataParallel and fully_shard over gloo."""

from pathlib import Path
from typing import Any

import distributed_steps as steps
import pytest
import torch
from torch.multiprocessing.spawn import spawn


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each process found."""
    folder = tmp_path_factory.mktemp("steps")
    spawn(steps.run, (str(folder),), nprocs=steps.PROCESSES)
    return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(steps.PROCESSES)]


@pytest.mark.parametrize("way", steps.WAYS)
def test_gradients_are_those_of_one_process(outcomes: list[dict[str, Any]], way: str) -> None:
    alone = steps.Loop(torch.nn.GRUCell)
    steps.accumulate(alone, steps.WAYS[way])
    expected = steps.gradients(alone)
    for outcome in outcomes:
        assert outcome["gradients"][way].keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(outcome["gradients"][way][name], gradient, rtol=1e-12, atol=1e-12)


def test_every_step_is_a_call_of_the_kernel(outcomes: list[dict[str, Any]]) -> None:
    for outcome in outcomes:  # a checkpoint's second forward ends within its last step
        assert outcome["served"] == [True] * len(outcome["served"])
        assert len(outcome["served"]) >= len(steps.WAYS) * steps.ROUNDS * steps.T
