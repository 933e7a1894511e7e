"""Pretrained: a model that is saved into a folder or to the Hub and comes back from there, without a pickle."""

import json
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from huggingface_hub import PyTorchModelHubMixin
from safetensors.torch import save_file
from torch import nn

from fastgru.common.errors import InputError, reason_of
from fastgru.common.eval_mode import eval_mode
from fastgru.common.files import open_to_others
from fastgru.inference.folder import (
    CONFIG,
    QUANTIZATION,
    STORED,
    WEIGHTS,
    Config,
    check_folder,
    files_of,
    place_of,
    read_config,
)
from fastgru.inference.saved import read_saved
from fastgru.quantized import int8_matrices, quantize_layers

if TYPE_CHECKING:
    from typing import Self


class Pretrained(nn.Module, PyTorchModelHubMixin):
    """The base of our models: `config`, a frozen dataclass, and what `save_pretrained` and `from_pretrained` do.

    `save_pretrained(folder)` writes config.json, model.safetensors, the model's own files and a model card.
    `from_pretrained(folder, or name of a ready model or on the Hub)` reads them and checks all of them.

    A model gives `config_type`, the dataclass of its configuration, and is made of it and of the tokenizers that it
    names; it extends `_save_pretrained` to write these.
    """

    config_type: ClassVar[type[Config]]
    config: Any
    quantization: str = ""  # of its GRUs: "int8", "bf16", or "" for not at all
    matrices: str = ""  # what those of its other layers are in a file: "int8", or "" for floats

    def in_eval_mode(self) -> AbstractContextManager[None]:
        """Keep the whole model in eval mode in here; afterwards each part is as it was."""
        return eval_mode(self)

    def _save_pretrained(self, save_directory: Path) -> None:
        super()._save_pretrained(save_directory)
        if self.matrices:
            save_file(int8_matrices(self.state_dict()), save_directory / WEIGHTS, {"format": "pt"})
        open_to_others(save_directory / WEIGHTS)
        content = {"model_type": self.config_type.model_type, **asdict(self.config)}
        content |= {QUANTIZATION: self.quantization} if self.quantization else {}
        content |= {STORED: self.matrices} if self.matrices else {}
        (save_directory / CONFIG).write_text(json.dumps(content, sort_keys=True, indent=2), encoding="utf-8")

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> "Self":
        """Load a model from a folder, or by its name a ready one or one on the Hub; it comes in eval mode.

        `options`: those of the mixin (`revision`, `token`, `cache_dir`, ...) and `map_location`.
        InputError where there is no such model, or what is there is a model of another kind.
        """
        name = str(place_of(pretrained_model_name_or_path))
        check_folder(name, files_of(cls.config_type))
        if isinstance(options.get("map_location"), torch.device):
            options["map_location"] = str(options["map_location"])
        try:
            if Path(name).is_dir():  # the mixin, which reads it first, names no file
                read_config(Path(name) / CONFIG, cls.config_type)
            return super().from_pretrained(name, **options)
        # Unreadable files, a broken configuration, other weights, a name that is not on the Hub.
        except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
            raise InputError(f"{name} cannot be loaded as a {cls.__name__}: {reason_of(error)}") from error

    @classmethod
    def _from_pretrained(  # type: ignore[override]
        cls, *, model_id: str, config: Any, map_location: str = "cpu", **options: Any
    ) -> "Self":
        # Not the mixin's own: it falls back to a pickle, passes over weights that are missing, and prints; and its
        # configuration is without the names that it does not know.
        saved = read_saved(model_id, cls.config_type, **options)
        model = cls(saved.config, *saved.tokenizers)
        if saved.quantization:
            quantize_layers(model, saved.quantization)
            model.quantization = saved.quantization
        model.matrices = saved.matrices
        model.load_state_dict({name: _tensor(array) for name, array in saved.weights.items()})
        return model.to(map_location).eval()


def _tensor(array: Any) -> torch.Tensor:
    """A weight as it was read: bfloat16 comes as its bits."""
    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if tensor.dtype is torch.uint16 else tensor
