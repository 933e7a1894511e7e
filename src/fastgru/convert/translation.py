"""fastgru's layer in ONNX: the operator `GRU`, whose `linear_before_reset` is our reset_after.

Its W `[D, 3H, I]`, R `[D, 3H, H]` and B `[D, 6H]` (the input's first) have the gates in the order z, r, h, which torch
calls z, r, n; torch orders them r, z, n. onnxscript or onnxruntime fold what brings them into that order.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

import fastgru.ops  # noqa: F401 (defines the operator)


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """The `custom_translation_table` that `torch.onnx.export(..., dynamo=True)` needs for fastgru's layers.

    >>> import fastgru, torch
    >>> from fastgru.convert.translation import translations
    >>> layer, x = fastgru.GRU(8, 16, backend="cpu").eval(), torch.randn(5, 2, 8)
    >>> exported = torch.onnx.export(layer, (x,), dynamo=True, verbose=False, custom_translation_table=translations())
    >>> exported.save("layer.onnx")
    """
    return {torch.ops.fastgru.layer.default: _layer}


def _layer(
    kernel: str,
    x: Any,
    h0: Any,
    initial: Any,
    weights: Sequence[Any],
    batch_sizes: Any,
    offsets: Any,
    lengths: Any,
    resets: Any,
    recurrent: Any,
    zoneout: Any,
    bias: bool,
    bidirectional: bool,
    reset_after: bool,
    keep: float,
    tbptt: int,
    layer_norm: bool,
    reverse: bool,
    memory: str,
    batch: Any,
    save: bool,
) -> tuple[Any, Any, Any]:
    """The operator `fastgru::layer` in ONNX; its third result, which only a backward needs, is empty."""
    from onnxscript import opset18

    op: Any = opset18

    if batch_sizes is not None or offsets is not None:
        raise ValueError("rows of sequences have no form in ONNX; give the layer padded sequences, with lengths")
    if resets is not None:
        raise ValueError("resets have no form in ONNX; export one segment, and call it for each")
    if keep != 1 or recurrent is not None or zoneout is not None:
        raise ValueError("zoneout and recurrent dropout have no form in ONNX; export a model in eval without zoneout")
    if layer_norm:
        raise ValueError("layer norm inside a GRU has no form in ONNX's operator")
    directions = 2 if bidirectional else 1
    hidden = weights[1].shape[1]
    step = len(weights) // directions

    def in_onnx_order(w: Any) -> Any:
        """[3H, ...] in the order r, z, n to [1, 3H, ...] in the order z, r, n."""
        r, z, n = (op.Slice(w, [gate * hidden], [(gate + 1) * hidden], [0]) for gate in range(3))
        return op.Unsqueeze(op.Concat(z, r, n, axis=0), [0])

    def of_all_directions(which: int) -> Any:
        """A weight as [D, 3H, ...]."""
        return op.Concat(*(in_onnx_order(w) for w in weights[which::step]), axis=0)

    biases = op.Concat(of_all_directions(2), of_all_directions(3), axis=1) if bias else None
    y, h_n = op.GRU(
        x,
        of_all_directions(0),
        of_all_directions(1),
        biases,
        None if lengths is None else op.Cast(lengths, to=6),  # 6 is int32
        h0,
        direction="bidirectional" if directions == 2 else "reverse" if reverse else "forward",
        hidden_size=hidden,
        linear_before_reset=int(reset_after),
    )
    if lengths is not None:  # of an empty sequence onnxruntime's last state is 0, ours is h0
        there = op.Unsqueeze(op.Greater(lengths, op.CastLike([0], lengths)), [0, 2])
        h_n = op.Where(there, h_n, op.CastLike([0.0], h_n) if h0 is None else h0)
    y = op.Transpose(y, perm=[0, 2, 1, 3])  # [T, B, D, H]
    return op.Reshape(y, [0, 0, directions * hidden]), h_n, op.ConstantOfShape([0])
