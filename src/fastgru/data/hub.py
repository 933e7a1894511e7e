"""Labelled texts from a Hugging Face dataset: by its name on the Hub, or a folder with one."""

from pathlib import Path
from typing import Any

from fastgru.data.labelled import LabelledTexts
from fastgru.errors import InputError


def load_hub(name: str, text: str, label: str) -> dict[str, LabelledTexts]:
    """Give the parts of the dataset (train, validation, test, as far as it has them).

    `name`: a dataset's name, or a folder that `datasets` can load or that `save_to_disk` wrote.
    InputError where there is no such dataset, no train part, or no such column.
    """
    parts = _load(name)
    if "train" not in parts:
        raise InputError(f"dataset {name}: there is no part 'train'; the parts are: {', '.join(parts)}")
    wanted = [part for part in ("train", "validation", "test") if part in parts]
    return {part: _read(parts[part], f"dataset {name} ({part})", text, label) for part in wanted}


def _load(name: str) -> Any:
    import datasets

    # Its bars would stand between our one line a step.
    datasets.disable_progress_bars()
    try:
        if (Path(name) / "dataset_dict.json").is_file():
            return datasets.load_from_disk(name)
        return datasets.load_dataset(name)
    # What datasets raises for a name that is not there, a broken folder, or no network.
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{name} is neither a file nor a dataset that can be loaded: {reason}") from error


def _read(part: Any, source: str, text: str, label: str) -> LabelledTexts:
    for column in (text, label):
        if column not in part.column_names:
            there = ", ".join(part.column_names)
            raise InputError(f"{source}: there is no column {column!r}; the columns are: {there}")
    names = getattr(part.features[label], "names", None)
    labels = [_label(value, names) for value in part[label]]
    return LabelledTexts([_string(value) for value in part[text]], labels).check(source)


def _label(value: Any, names: list[str] | None) -> str:
    # A ClassLabel column holds indices into its names; -1 stands for a label that was kept back.
    if names is None:
        return _string(value)
    return names[value] if value is not None and value >= 0 else ""


def _string(value: Any) -> str:
    return "" if value is None else str(value)
