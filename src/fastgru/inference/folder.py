"""The folder of a model, or its place on the Hub: where its files lie, and what config.json tells."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from fastgru.common.errors import InputError
from fastgru.inference.classifier_config import SequenceClassifierConfig, TextClassifierConfig
from fastgru.inference.entries import MATRICES, QUANTIZATIONS
from fastgru.inference.seq2seq_config import Seq2SeqConfig

CONFIG, WEIGHTS = "config.json", "model.safetensors"
READY = Path(__file__).parents[1] / "pretrained"  # a folder for each ready model, by its name
# Their names in CONFIG, whatever the kind of the model: of the GRUs' matrices, and of the others in the file.
QUANTIZATION, STORED = "quantization", "matrices"

Config = TextClassifierConfig | SequenceClassifierConfig | Seq2SeqConfig
# Their model_type and own_files have no annotation: huggingface_hub takes what has one for a field.
CONFIGS: dict[str, type[Config]] = {
    config.model_type: config for config in (TextClassifierConfig, SequenceClassifierConfig, Seq2SeqConfig)
}


def files_of(config: type[Config]) -> tuple[str, ...]:
    """The files of a model of such a configuration."""
    return (CONFIG, WEIGHTS, *config.own_files)


def ready_models() -> list[str]:
    """Give the names of the trained models that come with the package, which stand wherever a model's folder does.

    >>> from fastgru.runtime.models import ready_models
    >>> "pronunciation" in ready_models()
    True
    """
    return sorted(path.parent.name for path in READY.glob(f"*/{CONFIG}"))


def place_of(name: str | Path) -> str | Path:
    """Give the folder of a ready model by its name; a path that is there, and a name on the Hub, as they are.

    InputError, with the ready models, for a name that is none of these.
    """
    if Path(name).exists() or len(Path(name).parts) != 1:
        return name
    if str(name) not in ready_models():
        raise InputError(
            f"{name}: there is no such folder, and no ready model of this name; there are: {', '.join(ready_models())}"
        )
    return READY / name


def check_folder(name: str, files: Iterable[str]) -> None:
    """InputError where `name` is a folder and one of these files is not in it."""
    for file in files:
        if Path(name).is_dir() and not (Path(name) / file).is_file():
            raise InputError(f"{name} is not a folder with a model: there is no {file} in it")


def locate(model: str | Path, file: str, **options: Any) -> str:
    """Give the path of a model's file: in its folder, or that of a ready model, or fetched from the Hub."""
    local = Path(place_of(model)) / file
    if local.is_file():
        return str(local)
    try:
        from huggingface_hub import hf_hub_download
    except ModuleNotFoundError as error:
        raise FileNotFoundError(f"there is no {local}, and no huggingface_hub to fetch it with") from error
    return str(hf_hub_download(str(model), file, **options))


def model_type_of(path: str | Path) -> str:
    """Read from a config.json which kind of model it is; ValueError, naming the file, where it does not tell."""
    return _kind(_read(path))


def read_config(path: str | Path, wanted: type[Config] | None = None) -> Config:
    """Read a config.json of the kind that is wanted, or of any.

    ValueError for another kind's, and for one that no model of ours can have.
    """
    content = _read(path)
    kind = _kind(content)
    if wanted is not None and kind != wanted.model_type:
        raise ValueError(f"{CONFIG} is that of a {kind}, not of a {wanted.model_type}")
    if kind not in CONFIGS:
        raise ValueError(f"{CONFIG} is that of a {kind}; there are: {', '.join(CONFIGS)}")
    known = fields(CONFIGS[kind])
    values = {name: value for name, value in content.items() if name not in ("model_type", QUANTIZATION, STORED)}
    unknown = sorted(values.keys() - {field.name for field in known})
    if unknown:
        raise ValueError(f"{CONFIG} has {unknown[0]!r}, which is nothing that a {kind} has")
    for field in known:
        if field.name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{CONFIG} does not tell {field.name}")
    return CONFIGS[kind](**values)


def read_quantization(path: str | Path) -> tuple[str, str]:
    """How the model with this config.json is quantized, "" for not at all.

    Its GRUs, one of QUANTIZATIONS; and the matrices of its other layers in the file, one of MATRICES.
    ValueError for another.
    """
    content, found = _read(path), []
    for name, known in ((QUANTIZATION, QUANTIZATIONS), (STORED, MATRICES)):
        given = content.get(name, "")
        if given not in ("", *known):
            raise ValueError(f"{CONFIG} has {name}={given!r}; there are: {', '.join(known)}")
        found.append(str(given))
    return found[0], found[1]


def _read(path: str | Path) -> Mapping[str, Any]:
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{CONFIG}: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{CONFIG} must hold a JSON object, and holds a {type(content).__name__}")
    return content


def _kind(content: Mapping[str, Any]) -> str:
    # The first models did not tell: there was one kind.
    return str(content.get("model_type", TextClassifierConfig.model_type))
