"""Training on Lightning: one way through it for every task, and a package for each task.

How to add a task `name`:

1. The model: a subclass of `fastgru.models.pretrained.Pretrained` with a config dataclass.
2. `training/name/__init__.py`, light (torch and Lightning are imported inside of methods, for the commands' sake):
   a frozen dataclass that extends `options.TrainOptions` with `task = "name"`, each field annotated with its
   `typer.Option`; and a `task.Task` subclass, whose docstring is the command's help. `training/classify` is the model.
3. `training/name/module.py`: a `module.TaskModule`; it has the averaged weights, the seeding and the optimiser already.
   `training/name/batches.py`: a LightningDataModule whose order is a function of the seed and the epoch alone.
4. The task's line in `tasks.TASKS`. That gives `fastgru train name` with all its options, --resume and --overwrite,
   and `fastgru evaluate` and `predict` find the task from the run's train.json or the model's config.json.
5. Its columns in metrics.csv are `train_*` and `validation_*` values that the module logs; each pair is drawn.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastgru.training.call import Trained

__all__ = ["train"]


def train(
    task: str,
    out: str | Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    verbose: bool = False,
    **options: Any,
) -> "Trained":
    """Train as `fastgru train TASK --out OUT` does, and give the run: its log, its model, its measures.

    `task`: "classify", "translate" or "signals". `out`: folder for the run.
    `options`: those of the command, by the same names with _ for -, such as `data`, `epochs`, `hidden_size`,
    `class_weights`; `fastgru train TASK --help` tells them all. The same options give the same model.
    `overwrite`: replace the run in `out`. `resume`: go on with it, by its own options; `epochs` and `patience` may be
    more. `verbose`: show the epochs on stderr.

    torch's, NumPy's and Python's random states stay as they were. InputError, a ValueError of one line, for options,
    data or a folder that cannot be used. KeyboardInterrupt by Ctrl-C, after which `resume` goes on.

    >>> from pathlib import Path
    >>> from fastgru.training import train
    >>> lines = ["text,label", *[f"a {word} film {row},{word}" for row in range(30) for word in ("good", "bad")]]
    >>> _ = Path("films.csv").write_text("\\n".join(lines))
    >>> trained = train("classify", "run", data="films.csv", epochs=4, hidden_size=8, lr=0.02)
    >>> trained.model.predict(["a bad film"])[0].label
    'bad'
    """
    from fastgru.training.call import train_task

    trained: Trained = train_task(task, out, overwrite=overwrite, resume=resume, verbose=verbose, options=options)
    return trained
