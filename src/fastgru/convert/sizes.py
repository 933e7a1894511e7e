"""The sizes of an exported program's inputs: which are open, which of them are one size, and what they are called."""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.export import Dim
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
Groups = list[frozenset[Any]]  # of symbols: those of a group are one size


class Axis(NamedTuple):
    """An open size of an input.

    number, put: the input, counted and by its name; dim: which of its sizes; expression: what torch.export calls it, a
    symbol or made of such; name: what the caller calls it, if he does.
    """

    number: int
    put: str
    dim: int
    expression: Any
    name: str | None


def all_open(given: dict[str, Any]) -> Any:
    """What torch.export takes for every size that the model leaves open."""
    return tree_map(lambda leaf: [Dim.AUTO] * leaf.dim() if isinstance(leaf, Tensor) else None, dict(given))


def unnamed(dynamic_shapes: Any) -> Any:
    """What torch.export takes for sizes of which some have names."""
    return tree_map(lambda size: Dim.AUTO if isinstance(size, str) else size, dynamic_shapes)


def tensors_of(tree: Any) -> list[Tensor]:
    """All that are in it, in order."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def open_axes(program: torch.export.ExportedProgram, given: dict[str, Any], dynamic_shapes: Any) -> list[Axis]:
    """The open sizes of a program's inputs.

    given: the example by the model's own names. ValueError where none is open, or one is not that has a name.
    """
    found: list[Axis] = []
    for number, (names, (put, shape)) in enumerate(
        zip(_names(given, dynamic_shapes), _shapes(program).items(), strict=True)
    ):
        for dim, size in enumerate(shape):
            expression = size.node.expr if isinstance(size, torch.SymInt) else None
            if expression is not None and not expression.is_number:
                found.append(Axis(number, put, dim, expression, names.get(dim)))
            elif dim in names:
                raise ValueError(_fixed(put, dim, names[dim], int(size)))
    if not found:
        raise ValueError(
            "no size of any input is dynamic: the model fixes them all, or the example's are 1; "
            "give an example with B >= 2 and T >= 2"
        )
    return found


def _fixed(put: str, dim: int, name: str, size: int) -> str:
    reason = (
        "give an example where it is 2 or more"
        if size < 2
        else "a reshape to a number, len(tensor) or int(size) does that, where tensor.shape leaves it open"
    )
    return f"dynamic_shapes calls size {dim} of {put!r} {name!r}, and the model takes {size} there alone: {reason}"


def _shapes(program: torch.export.ExportedProgram) -> dict[str, torch.Size]:
    """By name, the shapes of the tensors that the model is called with; a size may be symbolic."""
    names = set(program.graph_signature.user_inputs)
    nodes = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    return {node.name: node.meta["val"].shape for node in nodes if isinstance(node.meta.get("val"), Tensor)}


def _names(given: Any, axes: Any) -> Iterator[dict[int, str]]:
    """For each tensor the names of its sizes, by their place; `axes` are as torch.export takes them."""
    if isinstance(given, Tensor):
        of_sizes = axes.items() if isinstance(axes, dict) else enumerate(axes or ())
        called = {dim: axis if isinstance(axis, str) else getattr(axis, "__name__", None) for dim, axis in of_sizes}
        yield {dim: name for dim, name in called.items() if name is not None}
        return
    inner = _children(given)
    if isinstance(given, dict) and isinstance(axes, dict):
        of_inner = [axes.get(key) for key in given]
    else:
        of_inner = [None] * len(inner) if axes is None else _children(axes)
    for child, its in zip(inner, of_inner, strict=True):
        yield from _names(child, its)


def _children(tree: Any) -> list[Any]:
    """What a container of torch's pytrees holds; nothing of what is none."""
    children = tree_flatten(tree, is_leaf=lambda node: node is not tree)[0]
    return [] if len(children) == 1 and children[0] is tree else children


def _named_groups(axes: Sequence[Axis]) -> Groups:
    """The symbols, those that the caller gave one name together."""
    by_name: dict[Any, set[Any]] = {}
    for symbol, name in {axis.expression: axis.name for axis in reversed(axes) if axis.expression.is_Symbol}.items():
        by_name.setdefault(symbol if name is None else name, set()).add(symbol)
    return [frozenset(group) for group in reversed(by_name.values())]


def file_names(axes: Sequence[Axis], groups: Groups, inputs: int) -> list[dict[int, str]]:
    """For each input the names of its open sizes, as torch.onnx.export takes them: each expression is named once.

    A name is the caller's or, for a size without one, the first input's in its group with a number.
    """
    names: list[dict[int, str]] = [{} for _ in range(inputs)]
    seen: set[Any] = set()
    of_group: dict[frozenset[Any], str] = {}
    for axis in axes:
        if axis.expression not in seen:
            seen.add(axis.expression)
            group = next((group for group in groups if axis.expression in group), frozenset({axis.expression}))
            name = axis.name or of_group.get(group) or f"{axis.put}_{axis.dim}"
            of_group.setdefault(group, name)
            names[axis.number][axis.dim] = name
    return names


def resized(axes: Sequence[Axis], groups: Groups, bounds: dict[Any, Any], example: Arguments) -> Arguments:
    """The example with another size for each group; its last entries are repeated: an index stays one, a mask too.

    bounds: the range of each symbol.
    """
    tensors = tensors_of(example)
    before, sizes = _example(axes, tensors), dict[Any, int]()
    for number, group in enumerate(groups):
        size = max(before[symbol] for symbol in group)
        lower, upper = max(bounds[symbol].lower for symbol in group), min(bounds[symbol].upper for symbol in group)
        larger = size + 1 + number
        sizes |= dict.fromkeys(group, larger if larger <= upper else max(size - 1, int(lower)))

    for axis in axes:  # by its place: a tensor may be given twice
        size = axis.expression.subs(sizes)
        if size.is_number:
            rows = torch.arange(int(size)).clamp(max=tensors[axis.number].size(axis.dim) - 1)
            tensors[axis.number] = tensors[axis.number].index_select(axis.dim, rows)
    left, (leaves, structure) = iter(tensors), tree_flatten(example)
    found: Arguments = tree_unflatten([next(left) if isinstance(leaf, Tensor) else leaf for leaf in leaves], structure)
    return found


def tied(axes: Sequence[Axis], tensors: Sequence[Tensor], refusal: Callable[[Groups], Exception | None]) -> Groups:
    """Which open sizes are one: those of one name, and those that the model takes at one size alone.

    Some uses of two sizes do not tell torch.export that they are one: `gather` takes an index that is smaller than what
    it indexes. So the model is asked: `refusal` gives what it raises where each group has another size. Where it
    refuses, groups of the same size in the example are tied, as few as will do; it is raised where that does not help.
    """

    def refused(groups: Groups) -> Exception | None:
        """Either of two groups is once the larger one."""
        return refusal(groups) or (refusal(groups[::-1]) if len(groups) > 1 else None)

    groups = _named_groups(axes)
    if refused(groups) is None:
        return groups
    example = _example(axes, tensors)
    by_size: dict[int, Groups] = {}
    for group in groups:
        by_size.setdefault(example[next(iter(group))], []).append(group)
    bundles, done = [*by_size.values()], list[Groups]()
    if error := refused([_union(bundle) for bundle in bundles]):
        raise error
    while bundles:
        bundle = bundles.pop()
        for part in _parts(bundle):
            rest = [group for group in bundle if group not in part]
            if refused([_union(one) for one in (*done, part, rest, *bundles)]) is None:
                bundles += [rest, part]
                break
        else:
            done.append(bundle)
    return [_union(bundle) for bundle in done]


def _example(axes: Sequence[Axis], tensors: Sequence[Tensor]) -> dict[Any, int]:
    return {axis.expression: tensors[axis.number].size(axis.dim) for axis in axes}


def _union(bundle: Groups) -> frozenset[Any]:
    return frozenset().union(*bundle)


def _parts(bundle: Groups) -> Iterator[Groups]:
    """The ways to split it in two, a part of each."""
    for count in range(1, len(bundle) // 2 + 1):
        for part in combinations(bundle, count):
            if 2 * count < len(bundle) or part[0] is bundle[0]:
                yield [*part]
