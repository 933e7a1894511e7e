"""The run folder: where a training keeps its options, its checkpoint, its log and its best model."""

import csv
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from fastgru.common.errors import InputError
from fastgru.common.files import atomic_write, locked
from fastgru.common.processes import torchrun_world
from fastgru.inference.folder import place_of
from fastgru.training.options import TrainOptions
from fastgru.training.tasks import TASKS, AnyTask, task_of_model

# What a run of any task writes into its folder, and what --overwrite may take away; each task adds its own files.
COMMON = (
    "train.json",
    "metrics.csv",
    "curves.png",
    "tensorboard",
    "checkpoints",
    "config.json",
    "model.safetensors",
    "README.md",
)
FILES = (*COMMON, *sorted({file for task in TASKS.values() for file in task.files}))
LEFT = tuple(f".{name}.tmp" for name in FILES)  # what a killed process was writing
FILES += LEFT


@dataclass(frozen=True)
class RunFolder:
    """The files of one run.

    `path`: the folder. It holds config.json, model.safetensors and the task's own files (the best model), train.json,
    metrics.csv, curves.png and checkpoints/last.ckpt.
    """

    path: Path

    @property
    def checkpoint(self) -> Path:
        """The state of the training, to go on from."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def metrics(self) -> Path:
        """The log: one row an epoch."""
        return self.path / "metrics.csv"

    @property
    def curves(self) -> Path:
        """The learning curves."""
        return self.path / "curves.png"

    @property
    def _options(self) -> Path:
        return self.path / "train.json"

    def check_free(self, overwrite: bool, inputs: tuple[str, ...] = ()) -> None:
        """InputError where a new run cannot go here: before anything is computed, and before anything is touched.

        `overwrite` allows the files of an earlier run, and no others. `inputs`: paths that are read; none may be one
        of the files that a run writes.
        """
        if not self.path.is_dir():
            if self.path.exists() or self.path.is_symlink():
                raise InputError(f"{self.path} is not a folder: a run needs a folder of its own, new or empty")
            return
        others = sorted(entry.name for entry in self.path.iterdir() if entry.name not in FILES)
        if others:
            raise InputError(f"{self.path} is a folder with other things in it ({others[0]}): name another with --out")
        if all(entry.name in LEFT for entry in self.path.iterdir()):
            return
        if not overwrite:
            raise InputError(
                f"{self.path} already holds a run: go on with it with --resume, or replace it with --overwrite"
            )
        inside = [
            name for name in inputs if self.path.resolve() in (Path(name).resolve(), *Path(name).resolve().parents)
        ]
        if inside:
            raise InputError(f"{inside[0]} lies in {self.path}, which --overwrite would empty: name another --out")

    def create(self, options: TrainOptions, fingerprint: str) -> None:
        """Begin a run: train.json is written, and the files of an earlier one go.

        In an order that leaves a run that can be gone on with, the earlier or the new one, whenever it is killed.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.checkpoint.parent, ignore_errors=True)
        self._write(
            {"task": options.task, "finished": False, "data_sha256": fingerprint, "options": asdict(options.anchored())}
        )
        for path in (self.path / name for name in FILES if name != self._options.name):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        self.checkpoint.parent.mkdir()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder, which is made where it is not there; InputError where another process holds it.

        A folder that was made here and is still empty at the end goes again.
        """
        with locked(self.path, f"another process is training into {self.path}: wait, or name another --out"):
            yield

    @property
    def is_run(self) -> bool:
        """Whether the folder is that of a run, and not of a model alone."""
        return self._options.is_file()

    @property
    def task(self) -> AnyTask:
        """The task of the run; InputError where train.json is missing or tells none of ours."""
        name = self._read().get("task")
        if not isinstance(name, str) or name not in TASKS:
            raise InputError(f"{self._options} tells no task; expected one of {', '.join(TASKS)}, got {name!r}")
        return TASKS[name]

    def read_options(self) -> TrainOptions:
        """Read the options of the run; InputError where train.json is missing or is not one of ours.

        An option that the run was started without, since it is newer, has its default.
        """
        kind = self.task.options
        options = self._read().get("options")
        hints = get_type_hints(kind)
        kinds = {field.name: hints[field.name] for field in fields(kind)}
        if not isinstance(options, dict) or not all(
            name in kinds and fits(value, kinds[name]) for name, value in options.items()
        ):
            raise InputError(f"{self._options} does not hold the options of a training of {kind.task}")
        return kind(**options)

    def check_data(self, fingerprint: str) -> None:
        """InputError where the data is no longer what the run was started with."""
        if self._read().get("data_sha256") != fingerprint:
            raise InputError(f"the data of {self.path} has changed since that run was started: train anew")

    def read_log(self) -> list[dict[str, float]]:
        """Read metrics.csv: a row an epoch; InputError where it cannot be read."""
        try:
            with self.metrics.open(newline="", encoding="utf-8") as file:
                rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{self.metrics} cannot be read: {error}") from error
        if not rows or self.task.best_by(self.read_options()).column not in rows[0]:
            raise InputError(f"{self.metrics} does not hold the log of a training")
        return [{**row, "epoch": int(row["epoch"])} for row in rows]

    @property
    def finished(self) -> bool:
        """Whether the training came to its end."""
        return bool(self._read().get("finished"))

    def reopen(self, options: TrainOptions) -> None:
        """Note in train.json that the training goes on, with these options."""
        self._write({**self._read(), "finished": False, "options": asdict(options.anchored())})

    def finish(self) -> None:
        """Note in train.json that the training came to its end."""
        self._write({**self._read(), "finished": True})

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self._options.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InputError(f"{self.path} is not the folder of a run: there is no train.json in it") from error
        except (OSError, ValueError) as error:
            raise InputError(f"{self._options} cannot be read: {error}") from error
        return content if isinstance(content, dict) else {}

    def _write(self, content: dict[str, Any]) -> None:
        with atomic_write(self._options) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def begins(run: RunFolder) -> bool:
    """Say whether what is to go on begins here: torchrun gives one command for its start and its restarts."""
    return torchrun_world() is not None and not run.is_run


def task_of_run(name: str) -> AnyTask:
    """Find the task of a run's folder, or of a model that has none."""
    run = RunFolder(Path(place_of(name)))
    return run.task if run.is_run else task_of_model(name)


def fits(value: Any, kind: Any) -> bool:
    """Say whether a value is of the kind that a field is annotated with, as JSON has it."""
    if get_origin(kind) in (Union, UnionType):
        return any(fits(value, one) for one in get_args(kind))
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is list:
        return isinstance(value, list) and all(fits(one, get_args(kind)[0]) for one in value)
    return isinstance(value, float | int if kind is float else kind)
