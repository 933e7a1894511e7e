"""Labelled texts from a Hugging Face dataset: by its name on the Hub, or a folder with one."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastgru.common.errors import InputError, reason_of
from fastgru.data.labelled import LabelledTexts

CHUNK = 2_048  # rows that lie together in a source and are read together
SECONDS = 10  # that the Hub has to answer whether there is such a dataset


def load_hub(name: str, text: str, label: str, *, skip_blank: bool = False) -> dict[str, LabelledTexts]:
    """Give the parts of the dataset (train, validation, test, as far as it has them).

    `name`: a dataset's name, or a folder that `datasets` can load or that `save_to_disk` wrote.
    `skip_blank`: leave out rows whose text or label is blank.
    InputError where there is no such dataset, no train part, or no such column.
    """
    parts = open_hub(name)
    return {
        part: read_hub(rows, f"dataset {name} ({part})", text, label, skip_blank=skip_blank)
        for part, rows in parts.items()
    }


def open_hub(name: str, *, streaming: bool = False) -> dict[str, Any]:
    """Give the parts themselves; with `streaming` as IterableDatasets, of which memory holds a batch at a time."""
    parts = _load(name, streaming)
    if "train" not in parts:
        raise InputError(f"dataset {name}: there is no part 'train'; the parts are: {', '.join(parts)}")
    return {part: parts[part] for part in ("train", "validation", "test") if part in parts}


def read_hub(part: Any, source: str, text: str, label: str, *, skip_blank: bool = False) -> LabelledTexts:
    """Read a whole part."""
    chunks = list(read_chunks(part, source, text, label))
    whole = LabelledTexts([t for chunk in chunks for t in chunk.texts], [t for chunk in chunks for t in chunk.labels])
    return whole.check(source, skip_blank=skip_blank)


def read_chunks(part: Any, source: str, text: str, label: str) -> Iterator[LabelledTexts]:
    """Read a part CHUNK rows at a time; `source` is what messages call it."""
    import datasets

    features = part.features or {}
    there = part.column_names or list(features)
    for column in (text, label):
        if column not in there:
            raise InputError(f"{source}: there is no column {column!r}; the columns are: {', '.join(there)}")
    names = getattr(features.get(label), "names", None)
    try:
        for batch in part.select_columns([text, label]).iter(batch_size=CHUNK):
            labels = [_label(value, names) for value in batch[label]]
            yield LabelledTexts([_string(value) for value in batch[text]], labels)
    # What comes up in the middle of a stream: a shard that is broken, or gone.
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise InputError(f"{source} cannot be read: {reason_of(error)}") from error


def _load(name: str, streaming: bool) -> Any:
    _check_there(name)
    import datasets

    # Its bars would stand between our one line a step.
    datasets.disable_progress_bars()
    try:
        if not (Path(name) / "dataset_dict.json").is_file():
            return datasets.load_dataset(name, streaming=streaming)
        saved = datasets.load_from_disk(name)
    # What datasets raises for a name that is not there, a broken folder, or no network.
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise InputError(f"{name} is neither a file nor a dataset that can be loaded: {reason_of(error)}") from error
    if not streaming:
        return saved
    return {part: rows.to_iterable_dataset(num_shards=-(-len(rows) // CHUNK)) for part, rows in saved.items()}


def _check_there(name: str) -> None:
    """InputError where `name` is nothing: at once, since `datasets` asks a Hub that does not answer for minutes.

    What lies in the cache of `datasets` needs no Hub.
    """
    if Path(name).exists():
        return
    refused = f"{name} is neither a file nor a dataset that can be loaded"
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise InputError(f"{refused}: there is no such file or folder")
    from huggingface_hub import HfApi, constants

    cache = os.environ.get("HF_DATASETS_CACHE") or str(Path(constants.HF_HOME) / "datasets")
    if (Path(cache) / name.replace("/", "___")).is_dir() or constants.HF_HUB_OFFLINE:
        return
    try:
        HfApi().dataset_info(name, timeout=SECONDS)
    except Exception as error:  # of the HTTP library, which is another one from version to version
        raise InputError(f"{refused}: the Hub says: {reason_of(error)}") from error


def _label(value: Any, names: list[str] | None) -> str:
    # A ClassLabel column holds indices into its names; -1 stands for a label that was kept back.
    if names is None:
        return _string(value)
    return names[value] if value is not None and value >= 0 else ""


def _string(value: Any) -> str:
    return "" if value is None else str(value)
