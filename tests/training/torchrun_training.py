"""One of the processes of torchrun: `torchrun ... torchrun_training.py TASK DATA OUT [TASK DATA OUT ...]` trains each.

They follow one another in one process group. The process ends with collectives under way: what gloo's threads still
hold must not meet an interpreter that is gone.

Without dropout, whose masks differ with the number of processes, a training of one process must give the same.
"""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from fastgru.training import run as training
from fastgru.training.callbacks import History
from fastgru.training.options import TrainOptions
from fastgru.training.run_folder import RunFolder
from fastgru.training.tasks import TASKS, AnyTask

OPTIONS: dict[str, dict[str, Any]] = {
    "classify": {"batch_size": 17, "lr": 0.03, "embedding_size": 8, "hidden_size": 6},
    "signals": {"batch_size": 17, "lr": 0.03, "hidden_size": 6},
    "translate": {
        "batch_size": 17,
        "lr": 0.01,
        "embedding_size": 6,
        "encoder_size": 8,
        "decoder_size": 8,
        "dropout": 0.0,
    },
}


def options_for(task: str, data: str, **others: Any) -> TrainOptions:
    return TASKS[task].options(data=data, epochs=3, **OPTIONS[task], **others)


def build_without_dropout(task: AnyTask) -> Callable[..., Any]:
    build = task.build_model

    def bare(*given: Any) -> Any:
        model = build(*given)
        names = [
            field.name for field in dataclasses.fields(model.config) if "dropout" in field.name or field.name == "noise"
        ]
        model.config = dataclasses.replace(model.config, **dict.fromkeys(names, 0.0))
        return model

    return bare


def train(task: str, data: str, out: Path, **others: Any) -> History:
    return training.train(options_for(task, data, **others), RunFolder(out), Console(quiet=True))


if __name__ == "__main__":
    for task, data, out in zip(*[iter(sys.argv[1:])] * 3, strict=True):
        TASKS[task].build_model = build_without_dropout(TASKS[task])
        train(task, data, Path(out))
    for _ in range(5000):
        torch.distributed.all_reduce(torch.ones(1), async_op=True)
