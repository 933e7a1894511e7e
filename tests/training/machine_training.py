"""One of torchrun's processes: `machine_training.py SECONDS ARGUMENTS ...` is `fastgru ARGUMENTS ...`.

Without dropout, whose masks differ with the number of processes; SECONDS longer a step, so that there is a middle of an
epoch, ten times as long in a world of two, so that a third host can come back. Each step adds its number, the world's
size and this process's id to the file STEPS of the environment.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

from torchrun_training import build_without_dropout

from fastgru.cli import app
from fastgru.training.classify.module import ClassifyModule
from fastgru.training.tasks import TASKS

seconds, *arguments = sys.argv[1:]
step = ClassifyModule.training_step


def slow_step(module: ClassifyModule, *given: Any) -> Any:
    with Path(os.environ["STEPS"]).open("a") as file:
        file.write(f"{module.global_step} {os.environ['WORLD_SIZE']} {os.getpid()}\n")
    time.sleep(float(seconds) * (10 if os.environ["WORLD_SIZE"] == "2" else 1))
    return step(module, *given)


ClassifyModule.training_step = slow_step  # type: ignore[method-assign]
TASKS["classify"].build_model = build_without_dropout(TASKS["classify"])  # type: ignore[method-assign]
sys.argv[1:] = arguments
app()
