"""ONNX's GRU operator, in both forms: linear_before_reset=1 is our reset_after=True, and 0 is False.

W [D, 3H, I], R [D, 3H, H] and B [D, 6H] (the input biases, then the recurrent ones), rows in the order z, r, h; one
node a layer. The numbers are moved, never computed with: there and back is exact. Source: the ONNX operator GRU-22.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastgru.common.errors import InputError
from fastgru.convert.weights import AnyGRU, Array, Weights, as_array, build, layers_of, one_form, reordered
from fastgru.nn import GRU

if TYPE_CHECKING:
    import onnx

_THEIRS, _OURS = "zrn", "rzn"
_INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h")


def from_onnx(model: "onnx.ModelProto", *nodes: str) -> GRU:
    """A GRU of a model's GRU nodes.

    nodes: their names, one for each layer of the stack, from the first; a model with a single GRU node needs none.
    That each of them feeds the next, with nothing in between but a change of layout, is taken for granted.

    What a node gets at run time is an argument of `GRU.forward`: initial_h is `hx`, sequence_lens is `lengths`
    (the last state of an empty sequence is h0 here, where onnxruntime gives 0), and Y
    [T, D, B, H] is `output` [T, B, D*H].

    Raises InputError for a node that computes something else, and for weights that are not constants.

    >>> import onnx, torch
    >>> from fastgru.convert import from_onnx
    >>> exported = torch.onnx.export(torch.nn.GRU(8, 16).eval(), (torch.randn(5, 2, 8),), dynamo=True, verbose=False)
    >>> from_onnx(exported.model_proto)
    GRU(8, 16)
    """
    constants = _constants(model.graph)
    found = [_Node(node, constants) for node in _chosen(model.graph, nodes)]
    for what in ("directions", "layout"):
        values = sorted({getattr(node, what) for node in found})
        if len(values) > 1:
            raise InputError(f"expected nodes of one {what}, got {values}; convert them one by one")
    weights = [weights for node in found for weights in node.weights()]
    reset_after = one_form([node.reset_after for node in found], "linear_before_reset")
    return build(weights, found[0].directions == 2, batch_first=found[0].layout == 1, reset_after=reset_after)


def to_onnx_weights(gru: AnyGRU) -> list[dict[str, Array]]:
    """For each layer the inputs W, R and, with biases, B of an ONNX GRU node.

    Its linear_before_reset must be 1, and 0 for a GRU with reset_after=False.

    gru: a GRU or a GRUCell, fastgru's or torch's.

    Gives one item for each layer, both directions in it.
    Raises InputError for options that ONNX does not have.

    >>> import fastgru
    >>> (node,) = fastgru.convert.to_onnx_weights(fastgru.GRU(8, 16))
    >>> {name: array.shape for name, array in node.items()}
    {'W': (1, 48, 8), 'R': (1, 48, 16), 'B': (1, 96)}
    """
    return [_write(directions) for directions in layers_of(gru, reset_before_too=True)]


def _write(directions: Sequence[Weights]) -> dict[str, Array]:
    each = [[reordered(array, _OURS, _THEIRS) for array in weights if array is not None] for weights in directions]
    w_ih, w_hh, *biases = (np.stack(arrays) for arrays in zip(*each, strict=True))
    return {"W": w_ih, "R": w_hh} | ({"B": np.concatenate(biases, axis=1)} if biases else {})


def _chosen(graph: "onnx.GraphProto", names: Sequence[str]) -> list["onnx.NodeProto"]:
    grus = {node.name: node for node in graph.node if node.op_type == "GRU" and node.domain in ("", "ai.onnx")}
    if not names and len(grus) == 1:
        return list(grus.values())
    if not names or any(name not in grus for name in names):
        there = ", ".join(map(repr, grus)) or "it has none"
        raise InputError(f"expected the name of one of the model's GRU nodes ({there}) for each layer, got {[*names]}")
    return [grus[name] for name in names]


def _constants(graph: "onnx.GraphProto") -> dict[str, Array]:
    """The values that are in the file: initializers and the tensors of Constant nodes, by name."""
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensors[node.output[0]] = node.attribute[0].t
    return {name: numpy_helper.to_array(tensor) for name, tensor in tensors.items()}


class _Node:
    """One GRU node that fastgru.GRU can compute.

    directions: D. layout: 1 where the batch comes first, otherwise 0. reset_after: whether linear_before_reset is 1.
    """

    def __init__(self, node: "onnx.NodeProto", constants: Mapping[str, Array]) -> None:
        from onnx.helper import get_attribute_value

        self._what = f"ONNX node {node.name!r}"
        self._options = {attribute.name: get_attribute_value(attribute) for attribute in node.attribute}
        self._inputs = dict(zip(_INPUTS, node.input, strict=False))
        self._constants = constants
        self.layout: int = self._options.get("layout", 0)
        self.directions = 2 if self._options.get("direction", b"forward") == b"bidirectional" else 1
        self.reset_after = bool(self._options.get("linear_before_reset", 0))
        self._check()

    def _check(self) -> None:
        """Raise InputError where the node computes what fastgru.GRU does not."""
        options = self._options
        if options.get("direction") == b"reverse":
            raise InputError(f"{self._what} must be forward or bidirectional, got direction='reverse'; flip its input")
        usual = [b"sigmoid", b"tanh"] * self.directions
        if [name.lower() for name in options.get("activations", usual)] != usual:
            came = [name.decode() for name in options["activations"]]
            raise InputError(f"{self._what} must have the activations Sigmoid and Tanh, got {came}")
        if "clip" in options:
            raise InputError(f"{self._what} must not clip, got clip={options['clip']}")
        if self._constant("sequence_lens") is not None:
            raise InputError(f"{self._what} has constant sequence_lens; make them an input, or remove them")
        initial = self._constant("initial_h")
        if initial is not None and initial.any():
            raise InputError(f"{self._what} has a constant initial_h that is not 0; make it an input, to give it as hx")

    def weights(self) -> list[Weights]:
        """The weights of each direction."""
        w_hh = self._weight("R", self.directions, None, None)
        hidden = w_hh.shape[2]
        if self._options.get("hidden_size", hidden) != hidden:
            raise InputError(f"{self._what} promises hidden_size={self._options['hidden_size']}, its R is {w_hh.shape}")
        w_hh = self._weight("R", self.directions, 3 * hidden, hidden)
        w_ih = self._weight("W", self.directions, 3 * hidden, None)
        sides = [w_ih, w_hh]
        if self._inputs.get("B"):
            sides += np.split(self._weight("B", self.directions, 6 * hidden), 2, axis=1)
        return [Weights(*(reordered(side[d], _THEIRS, _OURS) for side in sides)) for d in range(self.directions)]

    def _weight(self, name: str, *shape: int | None) -> Array:
        value = self._constant(name)
        if value is None:
            raise InputError(f"{self._what}: {name} must be a constant of the model; fold what computes it first")
        return as_array(value, f"{self._what}: {name}", *shape)

    def _constant(self, name: str) -> Any:
        return self._constants.get(self._inputs.get(name, ""))
