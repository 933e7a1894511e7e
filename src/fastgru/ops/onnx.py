"""A layer while torch.onnx exports it: the operator `GRU`, whose `linear_before_reset` is our reset_after.

Its W `[D, 3H, I]`, R `[D, 3H, H]` and B `[D, 6H]` (the input's first) have the gates in the order z, r, h, which torch
calls z, r, n; torch orders them r, z, n. onnxscript or onnxruntime fold what brings them into that order.
Source: https://onnx.ai/onnx/operators/onnx__GRU.html; `torch.onnx.ops.symbolic_multi_out` writes the operator down.
"""

import torch
from torch import Tensor

from fastgru.core.layer import Layer
from fastgru.core.low_precision import is_low
from fastgru.core.noise import NO_NOISE


def layer(given: Layer, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    """What the operator `fastgru::layer` gives, as ONNX's; the third result, which only a backward needs, is empty.

    ValueError where ONNX has no such layer.
    """
    check(given)
    x, h0, lengths, variant, hidden = given.x, given.h0, given.steps.lengths, given.variant, given.hidden_size
    size = len(given.weights) // variant.directions
    each = [given.weights[which::size] for which in range(size)]
    w, r, *biases = (torch.stack([_in_onnx_order(one, hidden) for one in both]) for both in each)  # [D, 3H, ...]
    if w.dtype is torch.int8:
        w_scale, r_scale, *biases = biases
        w, r = _dequantized(w, w_scale), _dequantized(r, r_scale)
    elif is_low(given.weights, x):
        w, r = w.float(), r.float()
    y, h_n = torch.onnx.ops.symbolic_multi_out(
        "GRU",
        (x, w, r, torch.cat(biases, 1) if biases else None, None if lengths is None else lengths.to(torch.int32), h0),
        {
            "direction": "bidirectional" if variant.bidirectional else "reverse" if variant.reverse else "forward",
            "hidden_size": hidden,
            "linear_before_reset": int(variant.reset_after),
        },
        dtypes=(x.dtype, x.dtype),
        shapes=((x.shape[0], variant.directions, batch, hidden), (variant.directions, batch, hidden)),
    )
    if lengths is not None:  # of an empty sequence onnxruntime's last state is 0, ours is h0
        h_n = torch.where((lengths > 0)[None, :, None], h_n, torch.zeros_like(h_n) if h0 is None else h0)
    y = y.transpose(1, 2).flatten(2) if variant.bidirectional else y.squeeze(1)  # [T, B, D*H]
    return y, h_n, x.new_empty(0)


def check(given: Layer) -> None:
    """Raise ValueError where ONNX has no such layer; of its tensors only whether they are there is asked."""
    if given.steps.batch_sizes is not None or given.steps.offsets is not None:
        raise ValueError("rows of sequences have no form in ONNX; give the layer padded sequences, with lengths")
    if given.steps.resets is not None:
        raise ValueError("resets have no form in ONNX; export one segment, and call it for each")
    if given.variant.keep != 1 or given.noise != NO_NOISE:
        raise ValueError("zoneout and recurrent dropout have no form in ONNX; export a model in eval without zoneout")
    if given.variant.layer_norm:
        raise ValueError("layer norm inside a GRU has no form in ONNX's operator")


def _dequantized(values: Tensor, scale: Tensor) -> Tensor:
    """values [D, 3H, K] int8 * scale [D, 3H]: ONNX has one axis of scales."""
    rows = values.flatten(0, 1)
    found = torch.onnx.ops.symbolic(
        "DequantizeLinear", (rows, scale.flatten()), {"axis": 0}, dtype=torch.float32, shape=rows.shape
    )
    return found.reshape(values.shape)


def _in_onnx_order(w: Tensor, hidden: int) -> Tensor:
    """[3H, ...] with its gates r, z, n as z, r, n: by slices, which onnxscript folds, and not by a split."""
    return torch.cat([w[hidden : 2 * hidden], w[:hidden], w[2 * hidden :]])
