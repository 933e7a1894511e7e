"""The GRUs inside the PyPI package g2p_en, which tells how English words are pronounced.

Its `checkpoint20.npz` holds an encoder and a decoder, and its g2p.py computes them in NumPy. Source: g2p_en 2.1.0,
`G2p.grucell`, which is torch's GRUCell term by term, with rows r, z, n: nothing is reordered or folded.
"""

from collections.abc import Mapping
from typing import Any

from fastgru.common.errors import InputError
from fastgru.convert.weights import Weights, as_array, build, entries
from fastgru.nn import GRU

_PREFIXES = {"encoder": "enc", "decoder": "dec"}


def from_g2p_en(checkpoint: Mapping[str, Any], part: str) -> GRU:
    """One GRU of the checkpoint, with batch_first as in the package.

    checkpoint: what `numpy.load` gives for checkpoint20.npz; part: "encoder" or "decoder".
    Raises InputError where the checkpoint lacks an array or has one of another shape.

    >>> import g2p_en, numpy
    >>> from fastgru.convert import from_g2p_en
    >>> file = g2p_en.__path__[0] + "/checkpoint20.npz"
    >>> from_g2p_en(numpy.load(file), "encoder")
    GRU(256, 256, batch_first=True)
    """
    if part not in _PREFIXES:
        raise InputError(f"part must be 'encoder' or 'decoder', got {part!r}")
    names = [f"{_PREFIXES[part]}_{name}" for name in ("w_ih", "w_hh", "b_ih", "b_hh")]
    found = dict(zip(names, entries(checkpoint, "a checkpoint of g2p_en", names), strict=True))
    hidden = as_array(found[names[1]], names[1], None, None).shape[1]
    shapes = [(3 * hidden, None), (3 * hidden, hidden), (3 * hidden,), (3 * hidden,)]
    arrays = [as_array(found[name], name, *shape) for name, shape in zip(names, shapes, strict=True)]
    return build([Weights(*arrays)], bidirectional=False, batch_first=True)
