"""The tasks there are, in the order of the commands' help; and which of them a model belongs to."""

from pathlib import Path
from typing import Any

from fastgru.common.errors import InputError, reason_of
from fastgru.training.classify import Classify
from fastgru.training.signals import Signals
from fastgru.training.task import Task
from fastgru.training.translate import Translate

AnyTask = Task[Any, Any, Any]

TASKS: dict[str, AnyTask] = {task.name: task for task in (Classify(), Translate(), Signals())}


def task_of_model(name: str) -> AnyTask:
    """Find the task of a model, in a folder, ready or on the Hub, by the kind that its config.json tells."""
    from fastgru.inference.folder import CONFIG, locate, model_type_of, place_of

    name = str(place_of(name))
    # A name on the Hub is `owner/name`; where `owner` is a folder here, a folder in it was meant.
    if not Path(name).exists() and (name.count("/") != 1 or Path(name).parent.is_dir()):
        raise InputError(f"{name}: there is no such folder")
    if Path(name).exists() and not (Path(name) / CONFIG).is_file():
        raise InputError(f"{name} is not a folder with a model: there is no {CONFIG} in it")
    try:
        kind = model_type_of(locate(name, CONFIG))
    # An unreadable configuration, a name that is not on the Hub, no network.
    except (OSError, ValueError) as error:
        raise InputError(f"{name} cannot be loaded as a model: {reason_of(error)}") from error
    for task in TASKS.values():
        if task.model_type == kind:
            return task
    raise InputError(f"{name} holds a {kind}, and there is no task for it; there are: {', '.join(TASKS)}")
