"""Pretrained: a model that is saved into a folder or to the Hub and comes back from there, without a pickle."""

import json
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import nn

from fastgru.common.errors import InputError, reason_of
from fastgru.common.eval_mode import eval_mode

CONFIG, WEIGHTS = "config.json", "model.safetensors"


class Pretrained(nn.Module, PyTorchModelHubMixin):
    """The base of our models: `config`, a frozen dataclass, and what `save_pretrained` and `from_pretrained` do.

    `save_pretrained(folder)` writes config.json, model.safetensors, the model's own files and a model card.
    `from_pretrained(folder or name on the Hub)` reads them and checks all of them.

    A model gives `model_type`, its kind in config.json, and `own_files`, what it writes beside configuration and
    weights. It extends `_save_pretrained` to write these, and `_build` to make itself from a configuration and them.
    """

    model_type: ClassVar[str]
    own_files: ClassVar[tuple[str, ...]] = ()
    config: Any

    def in_eval_mode(self) -> AbstractContextManager[None]:
        """Keep the whole model in eval mode in here; afterwards each part is as it was."""
        return eval_mode(self)

    def _save_pretrained(self, save_directory: Path) -> None:
        super()._save_pretrained(save_directory)
        content = {"model_type": self.model_type, **asdict(self.config)}
        (save_directory / CONFIG).write_text(json.dumps(content, sort_keys=True, indent=2), encoding="utf-8")

    @classmethod
    def _build(cls, config: Any, paths: dict[str, str]) -> Self:
        """Make the model without its weights; `paths`: where each of `own_files` lies. ValueError for a bad file."""
        return cls(config)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:
        """Load a model from a folder, or from the Hub by its name; it comes in eval mode.

        `options`: those of the mixin (`revision`, `token`, `cache_dir`, ...) and `map_location`.
        InputError where there is no such model, or what is there is a model of another kind.
        """
        name = str(pretrained_model_name_or_path)
        missing = [file for file in (CONFIG, WEIGHTS, *cls.own_files) if not (Path(name) / file).is_file()]
        if Path(name).is_dir() and missing:
            raise InputError(f"{name} is not a folder with a model: there is no {missing[0]} in it")
        if isinstance(options.get("map_location"), torch.device):
            options["map_location"] = str(options["map_location"])
        try:
            cls._check_config(Path(name) / CONFIG)
            return super().from_pretrained(name, **options)
        # Unreadable files, a broken configuration, other weights, a name that is not on the Hub.
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
            raise InputError(f"{name} cannot be loaded as a {cls.__name__}: {reason_of(error)}") from error

    @classmethod
    def _check_config(cls, path: Path) -> None:
        """ValueError where a local configuration is no JSON object (the mixin names no file) or another kind's."""
        if not path.is_file():
            return
        kind = model_type_of(path)
        if kind != cls.model_type:
            raise ValueError(f"{path.name} is that of a {kind}, not of a {cls.model_type}")

    @classmethod
    def _from_pretrained(  # type: ignore[override]
        cls, *, model_id: str, config: Any, map_location: str = "cpu", **options: Any
    ) -> Self:
        # Not the mixin's own: it falls back to a pickle, passes over weights that are missing, and prints.
        paths = {file: locate(model_id, file, **options) for file in (WEIGHTS, *cls.own_files)}
        model = cls._build(config, paths)
        _load_weights(model, paths[WEIGHTS])
        return model.to(map_location).eval()


def locate(model: str, file: str, **options: Any) -> str:
    """Give the path of a model's file: in its folder, or fetched from the Hub."""
    local = Path(model) / file
    return str(local) if local.is_file() else hf_hub_download(model, file, **options)


def model_type_of(path: str | Path) -> str:
    """Read from a config.json which kind of model it is; ValueError, naming the file, where it does not tell."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{CONFIG}: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{CONFIG} must hold a JSON object, and holds a {type(content).__name__}")
    # The first models did not tell: there was one kind.
    return str(content.get("model_type", "text_classifier"))


def load_tokenizer(path: str, vocab_size: int) -> Tokenizer:
    """ValueError where the file is none, or its tokens are not those of a model of vocab_size."""
    name = Path(path).name
    try:
        tokenizer = Tokenizer.from_file(path)
        tokenizer.encode("a word that nobody has seen, qxzvyk")
    except Exception as error:  # tokenizers raises no narrower class
        raise ValueError(f"{name}: {error}") from error
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= vocab_size:
        raise ValueError(f"{name} has token ids up to {largest}, and the model a vocabulary of {vocab_size}")
    return tokenizer


def _load_weights(model: nn.Module, path: str) -> None:
    """ValueError, naming the weight, where the file holds others than the model's, or numbers that are none."""
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{WEIGHTS}: {error}") from error
    own = model.state_dict()
    for name in sorted({*own, *weights}):
        expected = [*own[name].shape] if name in own else "nothing"
        came = [*weights[name].shape] if name in weights else "nothing"
        if expected != came:
            raise ValueError(f"{WEIGHTS} does not fit {CONFIG}: {name}: expected {expected}, and there is {came}")
        if not weights[name].isfinite().all():
            raise ValueError(f"{WEIGHTS}: {name} holds numbers that are not finite")
    model.load_state_dict(weights)
