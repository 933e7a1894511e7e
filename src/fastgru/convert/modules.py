"""torch.nn's GRUs inside a model become fastgru's, and go back."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
from torch.nn.utils import parametrize

from fastgru.cell import OWN_STATE
from fastgru.common.errors import InputError
from fastgru.convert.install import is_stand_in
from fastgru.convert.subclasses import full_name, is_twin, names_of, twin_of, why_no_twin
from fastgru.nn import GRU, OPTIONS, GRUCell

_Class: TypeAlias = type[torch.nn.Module]

_SCRIPTED = "it is scripted, which fixed what it runs; swap before torch.jit.script or torch.jit.trace"
_OURS: Mapping[_Class, type[GRU] | type[GRUCell]] = {torch.nn.GRU: GRU, torch.nn.GRUCell: GRUCell}


@dataclass(frozen=True)
class Swapped:
    """What a swap did, by the modules' paths in the model; the path of the model itself is "".

    swapped: the modules that changed.
    left: those that did not, each with the reason.

    >>> import fastgru, torch
    >>> done = fastgru.accelerate(torch.nn.GRU(8, 16))
    >>> done.swapped, done.left
    (('',), {})
    """

    swapped: tuple[str, ...]
    left: Mapping[str, str]

    def __str__(self) -> str:
        lines = [f"swapped {len(self.swapped)}" + _listed(map(shown_path, self.swapped))]
        lines += [f"left {shown_path(path)}: {reason}" for path, reason in self.left.items()]
        return "\n".join(lines)


def accelerate(model: torch.nn.Module, *, subclasses: bool = False) -> Swapped:
    """Turn every torch.nn.GRU and torch.nn.GRUCell in a model into fastgru's, in place.

    The modules stay the objects that they are and only change their class, as under `torch.nn.utils.parametrize` and
    FSDP2. So the model itself may be a torch.nn.GRU, whoever holds a module or a parameter (an optimiser, a list, a
    second path) goes on holding it, and hooks, buffers, parametrizations, training mode and weights are not touched.
    Afterwards `isinstance(module, torch.nn.GRU)` is false, and deepcopy, pickle and state_dict work as before.

    subclasses: also subclasses of the two, which have torch's forward or call it by `super().forward(...)`. Their
        class becomes one derived from it, of the same name, in which that is fastgru's; `isinstance` goes on being
        true of the subclass and of torch.nn.GRU, and torch.compile goes on running them in Python.

    Left, with the reason, are: a subclass that was not asked for, or whose code depends on more of torch.nn.GRU; a
    module whose `forward` was replaced; and a scripted one. As everywhere in torch, a module that is held only in a
    plain list or dict is not part of the model: accelerate it by itself.

    Raises TypeError where the model is no module.

    >>> import fastgru, torch
    >>> model = torch.nn.ModuleDict({"encoder": torch.nn.GRU(8, 16), "decoder": torch.nn.GRUCell(8, 16)})
    >>> print(fastgru.accelerate(model))
    swapped 2: encoder, decoder
    """
    return _swap(model, partial(_ours, subclasses=subclasses))


def to_torch(model: torch.nn.Module) -> Swapped:
    """Turn every fastgru.GRU and fastgru.GRUCell in a model into torch.nn's, in place: `accelerate` backwards.

    A subclass of torch's that `accelerate(subclasses=True)` swapped is itself again; one of fastgru's is left. The
    backend that a module asked for is forgotten. Raises TypeError where the model is no module.

    >>> import fastgru, torch
    >>> model = torch.nn.ModuleDict({"plain": fastgru.GRU(8, 16), "noisy": fastgru.GRU(8, 16, zoneout=0.1)})
    >>> print(fastgru.to_torch(model))
    swapped 1: plain
    left noisy: it has zoneout=0.1, a form that torch.nn does not have
    """
    return _swap(model, _theirs)


def check_module(model: object) -> None:
    """Raise TypeError where it is no module."""
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"expected a torch.nn.Module, got {type(model).__name__}")


def check_own_weights(shown: str, layer: torch.nn.Module) -> None:
    """InputError, which calls the layer what is `shown`, where its weights are computed of others."""
    if parametrize.is_parametrized(layer):
        raise InputError(
            f"{shown} has weights that are computed of others; make them its own first, by "
            "torch.nn.utils.parametrize.remove_parametrizations"
        )


def _swap(model: torch.nn.Module, target_of: Callable[[torch.nn.Module], _Class | str | None]) -> Swapped:
    """target_of: the class that a module gets, why it is left, or None where it is not concerned."""
    check_module(model)
    swapped, left = [], {}
    for path, module in model.named_modules():
        target = target_of(module)
        if isinstance(target, str):
            left[path] = target
        elif target is not None:
            _change_class(module, target)
            swapped.append(path)
    return Swapped(tuple(swapped), left)


def _ours(module: torch.nn.Module, subclasses: bool) -> _Class | str | None:
    """fastgru's class for a module of torch's."""
    source, kind = _source(module, _OURS), _own_class(module)
    if source is None or isinstance(module, GRU | GRUCell):
        return None
    if isinstance(module, torch.jit.ScriptModule):
        return _SCRIPTED
    if kind is not source:
        reason = why_no_twin(kind)
        if not subclasses:
            return _extends(kind, source) + ("; subclasses=True swaps it too" if reason is None else "")
        if reason is not None:
            return reason
    given = {*vars(module), *module._parameters, *module._buffers, *module._modules}
    taken = given & names_of(_OURS[source])
    if taken:
        return f"it has a {min(taken)} of its own, which in fastgru's layer is something else"
    return _why_left(module) or (_OURS[source] if kind is source else twin_of(kind))


def _theirs(module: torch.nn.Module) -> _Class | str | None:
    """torch's class for a module of fastgru's."""
    source, kind = _source(module, _OURS.values()), _own_class(module)
    if source is None:
        return None
    if not isinstance(module, GRU | GRUCell):
        return _SCRIPTED
    if kind is not source and not is_twin(kind) and not is_stand_in(kind):
        return _extends(kind, source)
    return module.why_not_torch() or _why_left(module) or module.torch_class


def _source(module: torch.nn.Module, classes: Iterable[_Class]) -> _Class | None:
    """Which of the classes a module is of, itself, as a subclass, or as it was before it was scripted."""
    for source in classes:
        scripted = isinstance(module, torch.jit.ScriptModule) and module.original_name == source.__name__
        if scripted or isinstance(module, source):
            return source
    return None


def _own_class(module: torch.nn.Module) -> _Class:
    """A module's class without the one that torch.nn.utils.parametrize derives from it."""
    kind = type(module)
    return kind.__bases__[0] if parametrize.is_parametrized(module) and len(kind.__bases__) == 1 else kind


def _why_left(module: torch.nn.Module) -> str | None:
    return "its forward was replaced on the module itself" if "forward" in vars(module) else None


def _extends(kind: _Class, source: _Class) -> str:
    return f"{full_name(kind)} extends {full_name(source)} and may depend on it"


def _change_class(module: torch.nn.Module, target: _Class) -> None:
    kind = type(module)
    if _own_class(module) is not kind:  # the derived class holds the properties that compute the parameters
        target = type(kind.__name__, (target,), dict(vars(kind)))
    module.__class__ = target
    for option in ("backend", *OWN_STATE, *OPTIONS):  # fastgru's own; their defaults stand on the class
        vars(module).pop(option, None)


def shown_path(path: str) -> str:
    """A module's path in a model, in words for the model itself."""
    return path or "(the model itself)"


def _listed(words: Iterable[str]) -> str:
    text = ", ".join(words)
    return f": {text}" if text else ""
