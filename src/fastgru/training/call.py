"""Training called from Python: options by name, checked as the commands check them, and what came of it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from rich.console import Console

from fastgru.common.errors import InputError, Stopped, in_python
from fastgru.training.evaluate import evaluate_run
from fastgru.training.options import LONGER, TrainOptions
from fastgru.training.run_folder import RunFolder, fits
from fastgru.training.task import Measures
from fastgru.training.tasks import TASKS, AnyTask


@dataclass(frozen=True)
class Trained:
    """What a training gave: its folder, its log, its model.

    `task`: its name. `folder`: as `fastgru train` leaves it, for the commands too. `log`: a row an epoch, as in
    metrics.csv. `best`: the row of the epoch whose model was kept.

    >>> from pathlib import Path
    >>> from fastgru.training import train
    >>> lines = ["text,label", *[f"a {word} film {row},{word}" for row in range(30) for word in ("good", "bad")]]
    >>> _ = Path("films.csv").write_text("\\n".join(lines))
    >>> trained = train("classify", "run", data="films.csv", epochs=1)
    >>> trained.model.config.labels, len(trained.log), trained.evaluate().count
    (['bad', 'good'], 1, 6)
    """

    task: str
    folder: Path
    log: list[dict[str, float]]
    best: dict[str, float]

    @cached_property
    def model(self) -> Any:
        """The best epoch's model, in eval mode: a TextClassifier, a Seq2Seq or a SequenceClassifier."""
        return TASKS[self.task].load_model(str(self.folder))

    def evaluate(self, data: str | Path | None = None, **reads: Any) -> Measures:
        """Measure the model on the rows that were kept back, or on `data`: what `fastgru evaluate` tells.

        `reads`: how to read `data` where not as the run's own (`text`, `label`, `separator`, ...). InputError for what
        cannot be measured.
        """
        task = TASKS[self.task]
        with in_python():
            _check_names(reads, task.reads, "evaluate")
            measures, _ = evaluate_run(task, str(self.folder), None if data is None else str(data), reads)
        return measures


def train_task(
    task: str, out: str | Path, *, overwrite: bool, resume: bool, verbose: bool, options: Mapping[str, Any]
) -> Any:
    """Train as `fastgru.training.train` says."""
    from lightning.pytorch.utilities.seed import isolate_rng

    from fastgru.training import run

    if task not in TASKS:
        raise InputError(f"task must be one of {', '.join(TASKS)}, got {task!r}")
    folder, console = RunFolder(Path(out)), Console(stderr=True, quiet=not verbose)
    with in_python(), _stopped_as_elsewhere(), isolate_rng():
        if resume:
            _check_names(options, LONGER, "resume")
            history = run.resume(folder, console, **options)
        else:
            history = run.train(options_for(TASKS[task], options), folder, console, overwrite=overwrite)
    return Trained(task, folder.path, history.rows, history.best)


@contextmanager
def _stopped_as_elsewhere() -> Iterator[None]:
    """Make a KeyboardInterrupt of Ctrl-C, and of SIGTERM the end of the process with its code."""
    try:
        yield
    except Stopped as stop:
        raise (KeyboardInterrupt if stop.code == 130 else SystemExit(stop.code)) from stop


def options_for(task: AnyTask, given: Mapping[str, Any]) -> TrainOptions:
    """Make the options of a task; InputError for a name that is none, another type, and a number out of bounds."""
    hints = get_type_hints(task.options, include_extras=True)
    kinds = {field.name: hints[field.name] for field in fields(task.options)}
    _check_names(given, kinds, task.name)
    values = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
    for name, value in values.items():
        _check(name, value, kinds[name])
    kind: Any = task.options
    options: TrainOptions = kind(**values)
    return options


def _check_names(given: Mapping[str, Any], known: Any, what: str) -> None:
    for name in given:
        if name not in known:
            raise InputError(f"{what} has no option {name!r}; there are: {', '.join(sorted(known))}")


def _check(name: str, value: Any, kind: Any) -> None:
    """InputError for a value that the command line would refuse: `kind` is the field's annotation."""
    plain, *notes = get_args(kind) if get_origin(kind) is Annotated else (kind,)
    if not fits(value, plain) or (isinstance(value, bool) and plain is not bool):
        wanted = plain.__name__ if isinstance(plain, type) else str(plain).replace("typing.", "")
        raise InputError(f"{name} must be {wanted}, got {value!r}")
    for note in notes:
        least, most = getattr(note, "min", None), getattr(note, "max", None)
        if value is not None and ((least is not None and value < least) or (most is not None and value > most)):
            bounds = f"at least {least}" if most is None else f"from {least} to {most}"
            raise InputError(f"{name} must be {bounds}, got {value!r}")
