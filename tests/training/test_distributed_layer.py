"""Two processes train what one does: DistributedDataParallel and fully_shard (FSDP2) over gloo."""

from pathlib import Path
from typing import Any

import distributed_layer as training
import pytest
import torch
import torch.multiprocessing

import fastgru


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each process found."""
    folder = tmp_path_factory.mktemp("distributed")
    torch.multiprocessing.spawn(training.run, (str(folder), fastgru.GRU), nprocs=training.PROCESSES)
    return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(training.PROCESSES)]


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_two_processes_train_what_one_does(outcomes: list[dict[str, Any]], way: str) -> None:
    alone = training.build(torch.nn.GRU)
    before = {name: weight.clone() for name, weight in alone.state_dict().items()}
    training.train(alone)
    for outcome in outcomes:
        assert outcome[way].keys() == before.keys()
        for name, weight in alone.state_dict().items():
            torch.testing.assert_close(outcome[way][name], weight, rtol=1e-9, atol=1e-12)
            assert not torch.equal(weight, before[name])


def test_every_process_holds_half_of_every_weight(outcomes: list[dict[str, Any]]) -> None:
    assert {rows for outcome in outcomes for rows in outcome["shares"]} == {3 * training.H // 2}
