"""Two processes that loop over a cell have the gradients of one: DistributedDataParallel and fully_shard over gloo."""

from pathlib import Path

import distributed_steps as steps
import pytest
import torch
from torch import Tensor
from torch.multiprocessing.spawn import spawn

Outcomes = list[dict[str, tuple[dict[str, Tensor], list[bool], bool]]]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """What each process found."""
    folder = tmp_path_factory.mktemp("steps")
    spawn(steps.run, (str(folder),), nprocs=steps.PROCESSES)
    return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(steps.PROCESSES)]


@pytest.mark.parametrize("way", steps.WAYS)
def test_gradients_are_those_of_one_process(outcomes: Outcomes, way: str) -> None:
    alone = steps.Loop(torch.nn.GRUCell)
    steps.accumulate(alone, steps.WAYS[way])
    expected = steps.gradients(alone)
    for outcome in outcomes:
        found, _, _ = outcome[way]
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("way", steps.WAYS)
def test_steps_are_calls_of_the_kernel(outcomes: Outcomes, way: str) -> None:
    for outcome in outcomes:
        _, served, _ = outcome[way]
        assert all(served)
        assert len(served) >= steps.ROUNDS * steps.T  # more where a checkpoint runs them again


@pytest.mark.parametrize("way", [way for way in steps.WAYS if way.startswith("ddp") and "checkpoints" not in way])
def test_steps_under_ddp_share_the_weights(outcomes: Outcomes, way: str) -> None:
    for outcome in outcomes:
        _, _, is_shared = outcome[way]
        assert is_shared
