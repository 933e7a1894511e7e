"""A subclass of torch.nn.GRU or torch.nn.GRUCell on fastgru's forward: its twin, a class derived from it.

    class Theirs(torch.nn.GRU): ...
    class _GRU(fastgru.GRU, torch.nn.GRU): ...
    class Twin(Theirs, _GRU): ...

Python looks names up in Twin, Theirs, fastgru.GRU, torch.nn.GRU, in this order: what Theirs calls by `super()` is
fastgru's, and a module of the twin is an instance of all of them.
"""

import dis
import inspect
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType, new_class
from typing import Any, Generic
from weakref import WeakValueDictionary

import torch

from fastgru.cell import OWN_STATE
from fastgru.nn import GRU, GRUCell

# What torch.nn.GRU's forward asks of its module and fastgru's does not, or only for the words of an error.
ASKED = (
    "_flat_weights",
    "check_forward_args",
    "check_hidden_size",
    "check_input",
    "get_expected_hidden_size",
    "permute_hidden",
)


class _GRU(GRU, torch.nn.GRU):
    """fastgru's in everything but how it is made: a subclass calls torch's `__init__`."""

    __init__ = torch.nn.GRU.__init__


class _GRUCell(GRUCell, torch.nn.GRUCell):
    """As `_GRU`."""

    __init__ = torch.nn.GRUCell.__init__


_BASES: dict[type, type] = {torch.nn.GRU: _GRU, torch.nn.GRUCell: _GRUCell}
_twins: "WeakValueDictionary[type, type[torch.nn.Module]]" = WeakValueDictionary()


def _reduce(module: torch.nn.Module, protocol: Any) -> Any:
    """A twin's `__reduce_ex__`: write the subclass down, for pickle finds a class by its name, and that is its name."""
    kind = type(module)
    twin: Any = next(each for each in kind.__mro__ if is_twin(each))
    made = super(twin, module).__reduce_ex__(protocol)
    if kind is not twin or isinstance(made, str):
        return made
    make, arguments, *rest = made
    if rest and isinstance(rest[0], dict):
        rest[0] = {name: value for name, value in rest[0].items() if name not in OWN_STATE}
    theirs: Any = module.torch_class
    return _rebuild, (theirs, *(theirs if each is twin else each for each in (make, *arguments))), *rest


def _rebuild(theirs: type[torch.nn.Module], *call: Any) -> Any:
    """Make what `_reduce` wrote down."""
    twin = twin_of(theirs)
    make, *arguments = (twin if each is theirs else each for each in call)
    return make(*arguments)


def full_name(kind: type) -> str:
    """With its module's name."""
    return f"{kind.__module__}.{kind.__qualname__}"


def is_twin(kind: type) -> bool:
    """Whether it is what `twin_of` gave, and not derived from that."""
    return not set(_BASES.values()).isdisjoint(kind.__bases__)


def twin_of(theirs: type[torch.nn.Module]) -> type[torch.nn.Module]:
    """The class of the same name on fastgru's forward; the same one each time."""
    twin = _twins.get(theirs)
    if twin is None:
        names: dict[str, Any] = {name: getattr(theirs, name) for name in ("__module__", "__qualname__", "__doc__")}
        names |= {"torch_class": theirs, "__reduce_ex__": _reduce}
        bases = (theirs, _BASES[_source(theirs)])
        twin = new_class(theirs.__name__, bases, exec_body=lambda namespace: namespace.update(names))
        _twins[theirs] = twin
    return twin


def why_no_twin(theirs: type[torch.nn.Module]) -> str | None:
    """Why fastgru's forward cannot stand behind a subclass, in words; None where it can."""
    source = _source(theirs)
    classes = theirs.__mro__[: theirs.__mro__.index(source)]
    own = names_of(_BASES[source])
    for kind in classes:
        taken = next((name for name in vars(kind) if name in own), None)
        if taken is not None:
            return f"{full_name(kind)} has a {taken} of its own, which in fastgru's layer is something else"
        if "__init_subclass__" in vars(kind) and kind is not Generic:
            return f"{full_name(kind)} has an __init_subclass__, which would take the class made for it for a subclass"
        uses = set(_uses(kind, classes))
        changed = next((name for name in ASKED if name in vars(kind)), "_flat_weights")
        if changed in vars(kind) or (None, changed) in uses:
            return f"{full_name(kind)} has to do with {changed}, which torch's forward uses and fastgru's does not"
        if any(name == "forward" and owner in source.__mro__ for owner, name in uses):
            return f"{full_name(kind)} names {full_name(source)}.forward, which is torch's; write super().forward"
        if "forward" in vars(kind) and (super, "forward") not in uses:
            return f"{full_name(kind)} has a forward that does not call super().forward, so it would not run fastgru's"
    return None


def names_of(ours: type[torch.nn.Module]) -> frozenset[str]:
    """What fastgru's class has, and torch's of the same name has not."""
    theirs = ours.torch_class  # type: ignore[attr-defined]
    own = ours.__mro__[: [issubclass(theirs, kind) for kind in ours.__mro__].index(True)]
    names = {name for kind in own for name in vars(kind)} - set(dir(theirs))
    return frozenset(name for name in names if not name.startswith("__"))


def _source(theirs: type) -> type:
    return next(source for source in _BASES if issubclass(theirs, source))


def _uses(kind: type, classes: tuple[type, ...]) -> Iterator[tuple[Any, str]]:
    """Which attributes a class's functions look up, as (of what, name): of `super`, of a class, otherwise of None.

    A call by the name of one of `classes` goes on from there, as one by `super` does.
    """
    for function in _functions(kind):
        for code in _codes(function.__code__):
            for owner, name in _attributes(code, function.__globals__):
                yield (super if owner in classes else owner), name


def _functions(kind: type) -> Iterator[FunctionType]:
    for value in vars(kind).values():
        inner = (value.fget, value.fset, value.fdel) if isinstance(value, property) else [value]
        for each in inner:
            function = inspect.unwrap(getattr(each, "__func__", each)) if callable(each) else each
            if isinstance(function, FunctionType):
                yield function


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code, and that of the functions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _attributes(code: CodeType, names: dict[str, Any]) -> Iterator[tuple[Any, str]]:
    """As `_uses`, of one code. `super(type(self), self)` is not `super` here: a derived class would call itself."""
    owner: Any = None
    for step in dis.get_instructions(code):
        if step.opname == "LOAD_GLOBAL":
            if step.argval == "super":
                owner = super
            elif owner is not super or step.argval == "type":
                owner = names.get(step.argval)
        elif step.opname.startswith("LOAD_SUPER"):  # Python 3.12
            yield super, step.argval
            owner = None
        elif step.opname in ("LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR"):
            yield owner if isinstance(owner, type) else None, step.argval
            owner = getattr(owner, step.argval, None) if isinstance(owner, ModuleType) else None
        elif owner is not super and step.opname.startswith(("CALL", "LOAD_FAST")):  # of another expression
            owner = None
