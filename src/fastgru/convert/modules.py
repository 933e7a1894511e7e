"""torch.nn's GRUs inside a model become fastgru's, and go back."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch.nn.utils import parametrize

from fastgru.nn import GRU, OPTIONS, GRUCell

_Classes = Mapping[type[torch.nn.Module], type[torch.nn.Module]]


@dataclass(frozen=True)
class Swapped:
    """What a swap did, by the modules' paths in the model; the path of the model itself is "".

    swapped: the modules that changed. left: those that did not, each with the reason.

    >>> import fastgru, torch
    >>> done = fastgru.accelerate(torch.nn.GRU(8, 16))
    >>> done.swapped, done.left
    (('',), {})
    """

    swapped: tuple[str, ...]
    left: Mapping[str, str]

    def __str__(self) -> str:
        lines = [f"swapped {len(self.swapped)}" + _listed(map(_shown, self.swapped))]
        lines += [f"left {_shown(path)}: {reason}" for path, reason in self.left.items()]
        return "\n".join(lines)


def accelerate(model: torch.nn.Module) -> Swapped:
    """Turn every torch.nn.GRU and torch.nn.GRUCell in a model into fastgru's, in place.

    The modules stay the objects that they are and only change their class, as under `torch.nn.utils.parametrize` and
    FSDP2. So the model itself may be a torch.nn.GRU, whoever holds a module or a parameter (an optimiser, a list, a
    second path) goes on holding it, and hooks, buffers, parametrizations, training mode and weights are not touched.
    Afterwards `isinstance(module, torch.nn.GRU)` is false, and deepcopy, pickle and state_dict work as before.

    Only exactly these two classes are swapped. Left, with the reason, are: a subclass, for its code may depend on
    torch.nn.GRU; a module whose `forward` was replaced; and a scripted one. As everywhere in torch, a module that is
    held only in a plain list or dict is not part of the model: accelerate it by itself.

    Raises TypeError where the model is no module.

    >>> import fastgru, torch
    >>> model = torch.nn.ModuleDict({"encoder": torch.nn.GRU(8, 16), "decoder": torch.nn.GRUCell(8, 16)})
    >>> print(fastgru.accelerate(model))
    swapped 2: encoder, decoder
    """
    return _swap(model, {torch.nn.GRU: GRU, torch.nn.GRUCell: GRUCell})


def to_torch(model: torch.nn.Module) -> Swapped:
    """Turn every fastgru.GRU and fastgru.GRUCell in a model into torch.nn's, in place: `accelerate` backwards.

    The backend that a module asked for is forgotten. Raises TypeError where the model is no module.

    >>> import fastgru, torch
    >>> model = torch.nn.ModuleDict({"plain": fastgru.GRU(8, 16), "noisy": fastgru.GRU(8, 16, zoneout=0.1)})
    >>> print(fastgru.to_torch(model))
    swapped 1: plain
    left noisy: it has zoneout=0.1, a form that torch.nn does not have
    """
    return _swap(model, {GRU: torch.nn.GRU, GRUCell: torch.nn.GRUCell})


def _swap(model: torch.nn.Module, classes: _Classes) -> Swapped:
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"expected a torch.nn.Module, got {type(model).__name__}")
    swapped, left = [], {}
    for path, module in model.named_modules():
        source = _source(module, classes)
        if source is None:
            continue
        reason = _why_left(module, source)
        if reason is None:
            _change_class(module, classes[source])
            swapped.append(path)
        else:
            left[path] = reason
    return Swapped(tuple(swapped), left)


def _source(module: torch.nn.Module, classes: Iterable[type[torch.nn.Module]]) -> type[torch.nn.Module] | None:
    """Which of the classes a module is of, itself, as a subclass, or as it was before it was scripted."""
    for source in classes:
        scripted = isinstance(module, torch.jit.ScriptModule) and module.original_name == source.__name__
        if scripted or isinstance(module, source):
            return source
    return None


def _why_left(module: torch.nn.Module, source: type[torch.nn.Module]) -> str | None:
    """Why a module cannot be swapped; None where it can."""
    if isinstance(module, torch.jit.ScriptModule):
        return "it is scripted, which fixed what it runs; swap before torch.jit.script or torch.jit.trace"
    if type(module) is not source and not _is_parametrized(module, source):
        kind = type(module)
        return (
            f"{kind.__module__}.{kind.__qualname__} extends {source.__module__}.{source.__name__} and may depend on it"
        )
    reason = module.why_not_torch() if isinstance(module, GRU | GRUCell) else None
    if reason is not None:
        return reason
    if "forward" in vars(module):
        return "its forward was replaced on the module itself"
    return None


def _is_parametrized(module: torch.nn.Module, source: type[torch.nn.Module]) -> bool:
    """Whether its class is the one that torch.nn.utils.parametrize derives from the source."""
    return parametrize.is_parametrized(module) and type(module).__bases__ == (source,)


def _change_class(module: torch.nn.Module, target: type[torch.nn.Module]) -> None:
    kind = type(module)
    if parametrize.is_parametrized(module):  # the derived class holds the properties that compute the parameters
        target = type(kind.__name__, (target,), dict(vars(kind)))
    module.__class__ = target
    for option in ("backend", "_kept", *OPTIONS):  # fastgru's own; their defaults stand on the class
        vars(module).pop(option, None)


def _shown(path: str) -> str:
    return path or "(the model itself)"


def _listed(words: Iterable[str]) -> str:
    text = ", ".join(words)
    return f": {text}" if text else ""
