"""`python fault_injection.py DATA OUT STEPS SEED KILLS`: trains, killed at random moments and resumed each time.

Each attempt is a process of its own; SIGKILL reaches it after a random number of steps and a random part of one,
wherever it is. Every training step adds a line with its number to the file STEPS, and every attempt a line "attempt".
"""

import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from test_training import options_for

from fastgru.training import run as training
from fastgru.training.classify.module import ClassifyModule
from fastgru.training.run_folder import RunFolder

EVERY = 3


def attempt(data: str, run: RunFolder, steps: Path) -> None:
    step = ClassifyModule.training_step

    def noted(module: ClassifyModule, *given: Any) -> Any:
        with steps.open("a") as file:
            file.write(f"{module.global_step}\n")
        return step(module, *given)

    ClassifyModule.training_step = noted
    if run.is_run:
        training.resume(run, Console(quiet=True))
    else:
        training.train(options_for(data, checkpoint_every=EVERY), run, Console(quiet=True))


def ended(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def main(data: str, out: str, steps: Path, seed: int, kills: int) -> None:
    draw = random.Random(seed)
    begun = time.monotonic()
    for life in range(kills + 1):
        with steps.open("a") as file:
            file.write("attempt\n")
        child = os.fork()
        if not child:
            attempt(data, RunFolder(Path(out)), steps)
            os._exit(0)
        if life < kills:
            enough = steps.read_text().count("\n") + draw.randint(1, 2 * EVERY)
            while steps.read_text().count("\n") < enough and not ended(child):
                time.sleep(0.001)
            time.sleep(draw.uniform(0.0, 0.03))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            break
    if status:
        sys.exit(f"attempt {life} failed")
    print(f"{life} kills, {time.monotonic() - begun:.1f} s")


if __name__ == "__main__":
    data, out, steps, seed, kills = sys.argv[1:]
    main(data, out, Path(steps), int(seed), int(kills))
