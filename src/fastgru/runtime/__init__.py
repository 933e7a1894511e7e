"""Trained GRUs without torch: from NumPy arrays, as a stream, and the saved models.

It imports NumPy and safetensors alone; a model of texts also needs `tokenizers` (`pip install 'fastgru[text]'`), but
not where its tokens are characters or words between spaces, as those of sequence-to-sequence models can be.
"""

from pathlib import Path
from typing import Any

from fastgru.common.errors import InputError
from fastgru.runtime.gru import GRU, Stream

__all__ = ["GRU", "Stream", "load"]


def load(
    path: str | Path, *, prefix: str = "", batch_first: bool | None = None, threads: int = 1, **options: Any
) -> Any:
    """Load a GRU from a file of weights, a model from the folder that its `save_pretrained` wrote, or a ready model.

    path: a `.safetensors` or `.npz` file with torch's names (of `fastgru.save`, or of any state_dict), or a folder with
        config.json and model.safetensors, or the name of a ready model, such as "pronunciation"
        (`fastgru.runtime.models.ready_models`). A path that is there wins over such a name.
    prefix: where in the file the GRU is, such as "encoder.rnn.".
    batch_first, reset_after, layer_norm, zoneout: what `fastgru.save` did not write into the file's metadata.
    threads: how many a call may use.

    Gives a `GRU`, or a model with `predict`. Raises InputError, which is a ValueError, where the file is none, is cut,
    holds something else, or says other than what was given; nothing large is read before its sizes have been compared.

    >>> import numpy, tempfile, os
    >>> from fastgru import runtime
    >>> weights = {"rnn.weight_ih_l0": numpy.ones((12, 3), "f4"), "rnn.weight_hh_l0": numpy.ones((12, 4), "f4")}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "gru.npz")
    ...     numpy.savez(path, **weights)
    ...     gru = runtime.load(path, prefix="rnn.", batch_first=True)
    >>> gru
    GRU(3, 4, num_layers=1, batch_first=True, dtype=float32)
    """
    path = Path(path)
    if not path.suffix:
        from fastgru.inference.folder import place_of

        path = Path(place_of(path))
    if not path.is_dir():
        from fastgru.runtime.files import load_gru

        return load_gru(path, prefix, batch_first, threads, options)
    given = {**({"prefix": prefix} if prefix else {}), **({} if batch_first is None else {"batch_first": batch_first})}
    if given or options:
        raise InputError(f"{path} is a model's folder, which says all: leave out {', '.join([*given, *options])}")
    from fastgru.runtime.models import load_model

    return load_model(path, threads=threads)
