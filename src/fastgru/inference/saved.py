"""A saved model, read from its folder or from the Hub and checked, before anything is built of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fastgru.inference.arrays import Array
from fastgru.inference.folder import CONFIG, WEIGHTS, Config, check_folder, files_of, locate, read_config
from fastgru.inference.tokens import load_tokenizer
from fastgru.inference.weights import read_weights

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Saved(NamedTuple):
    """What a model is made of: its configuration, its tokenizers as `config.own_files` names them, its weights."""

    config: Config
    tokenizers: "list[Tokenizer]"
    weights: dict[str, Array]


def read_saved(name: str | Path, wanted: type[Config] | None = None, **options: Any) -> Saved:
    """Read the model of this name, of the kind that is wanted, or of any; `options`: of `locate`.

    InputError where a folder lacks one of the files; OSError, ValueError or TypeError where a file cannot be had, or
    what is there is no such model.
    """
    check_folder(str(name), [CONFIG])
    config = read_config(locate(name, CONFIG, **options), wanted)
    check_folder(str(name), files_of(type(config)))
    tokenizers = [
        load_tokenizer(locate(name, file, **options), size)
        for file, size in zip(config.own_files, config.vocabularies, strict=True)
    ]
    return Saved(config, tokenizers, read_weights(locate(name, WEIGHTS, **options), config.entries()))
