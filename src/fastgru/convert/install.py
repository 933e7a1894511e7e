"""torch.nn.GRU and torch.nn.GRUCell themselves become fastgru's, for code that cannot be changed."""

import sys
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any
from weakref import WeakSet

import torch
from torch.compiler import is_compiling

from fastgru import backends
from fastgru.cell import GRUCell, KeepsStack
from fastgru.common.imports import after_import, forget
from fastgru.nn import GRU

_Backend = tuple[str, str]  # its name, and why those before it did not serve
_KERNELS = "cpu"


@dataclass(frozen=True)
class Served:
    """What the layers did that were made as torch.nn's while fastgru's stood there, outside of compiled code.

    made: the layers. called: those that were called at least once.
    calls: how often, by the backend that served them.
    reasons: for each backend but the kernels', why these did not serve those calls.
    """

    made: int
    called: int
    calls: dict[str, int]
    reasons: dict[str, tuple[str, ...]]

    def __str__(self) -> str:
        if not self.made:
            return "no torch.nn.GRU or torch.nn.GRUCell was made in this process"
        shares = [f"{count:,} by {name}{self._because(name)}" for name, count in self.calls.items()]
        never = self.made - self.called
        rest = f"; {_counted(never, 'layer')} never called outside of compiled code" if never > 0 else ""
        calls = ": ".join([_counted(sum(self.calls.values()), "call"), *([", ".join(shares)] if shares else [])])
        return f"torch.nn.GRU and GRUCell: {_counted(self.made, 'layer')}, {calls}{rest}"

    def _because(self, name: str) -> str:
        reasons = self.reasons.get(name, ())
        return f" ({' / '.join(reasons)})" if reasons else ""


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


class _Counts:
    """What `Served` tells, counted from any thread."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.made = self.called = 0
        self.calls: Counter[_Backend] = Counter()
        self.seen: WeakSet[torch.nn.Module] = WeakSet()  # the layers that were called

    def add_call(self, layer: torch.nn.Module, backend: _Backend) -> None:
        with self.lock:
            self.calls[backend] += 1
            if layer not in self.seen:
                self.seen.add(layer)
                self.called += 1

    def add_layer(self) -> None:
        with self.lock:
            self.made += 1


class _Picked(threading.local):
    """What the call under way in this thread picked; the shortest ways to the kernels ask for no backend."""

    backend: _Backend = (_KERNELS, "")


class _StandIn:
    """What a class of fastgru's needs to go by the name of torch's."""

    own: type[KeepsStack]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        for name in ("backend", *self.own.own_options):
            if name in kwargs:
                torchs, own = (f"{kind}.{self.own.__name__}" for kind in ("torch.nn", "fastgru"))
                raise TypeError(f"{torchs} has no argument {name!r}, also where fastgru stands for it; {own} has")
        super().__init__(*args, **kwargs)
        _now.counts.add_layer()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[misc]
        _now.counts.add_layer()

    def __getstate__(self) -> dict[str, Any]:
        """What torch's module has too, and our own options where they were changed: their defaults are the class's."""
        state: dict[str, Any] = super().__getstate__()  # type: ignore[assignment]
        defaults = {name: getattr(self.own, name) for name in ("backend", *self.own.own_options)}
        return {name: value for name, value in state.items() if name not in defaults or value != defaults[name]}

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickled by torch's name only while it is found there."""
        if is_stand_in(type(self)) and not _now.is_installed:
            return _new, (self.own,), self.__getstate__()
        return super().__reduce_ex__(protocol)


def _new(kind: Any) -> Any:
    return kind.__new__(kind)


def _stand_in(own: Any) -> type:
    original, forward = own.torch_class, own.forward

    @wraps(forward)
    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        if is_compiling():
            return forward(self, *args, **kwargs)
        _picked.backend = _KERNELS, ""
        results = forward(self, *args, **kwargs)
        _now.counts.add_call(self, _picked.backend)
        return results

    names = {name: getattr(original, name) for name in ("__module__", "__qualname__")}
    return type(own.__name__, (_StandIn, own), {**names, "__doc__": own.__doc__, "own": own, "forward": counted})


def is_stand_in(kind: type) -> bool:
    """Whether it is a class that `install` puts in the place of torch's."""
    return kind in _STAND_INS.values()


class _State:
    """Whether they are installed, what is counted meanwhile, and what dynamo was set to before."""

    is_installed = False
    counts = _Counts()
    allow_rnn = False


_now, _picked = _State(), _Picked()
_STAND_INS: dict[type, type] = {own.torch_class: _stand_in(own) for own in (GRU, GRUCell)}
_QUANTIZED = "torch.ao.quantization.quantization_mappings"
_PLACES = (torch.nn, torch.nn.modules, torch.nn.modules.rnn)  # where torch has its classes


def install() -> None:
    """Put fastgru's GRU and GRUCell in the place of torch.nn.GRU and torch.nn.GRUCell, for this process.

    What is made from now on as `torch.nn.GRU`, also by other packages, as a subclass or from a pickle, computes as
    `fastgru.GRU` does. Its class goes by torch's name and takes torch's arguments alone; `isinstance` and
    `type(module) is torch.nn.GRU` hold for it; a file of `torch.save` holds torch's class, and loads where fastgru is
    not. Call it before the modules are imported that say `from torch.nn import GRU`; layers that are there already stay
    as they are (`accelerate` turns those). A second call changes nothing.

    `fastgru run program.py` does this for a program as it stands.

    >>> import fastgru, torch
    >>> fastgru.install()
    >>> output, h_n = torch.nn.GRU(8, 16)(torch.ones(5, 2, 8))
    >>> print(fastgru.uninstall())
    torch.nn.GRU and GRUCell: 1 layer, 1 call: 1 by cpu
    """
    if not _now.is_installed:
        _now.is_installed, _now.counts = True, _Counts()
        _put(_STAND_INS)
        backends.listeners.append(_note)
        after_import("torch._dynamo.config", _let_compile)
        after_import(_QUANTIZED, _let_quantize)


def uninstall() -> Served:
    """Put torch's own classes back, and tell what was served since `install`.

    Layers made meanwhile stay what they are; those of them that are pickled from now on are pickled as fastgru's.

    >>> import fastgru
    >>> fastgru.install()
    >>> print(fastgru.uninstall())
    no torch.nn.GRU or torch.nn.GRUCell was made in this process
    """
    if _now.is_installed:
        _now.is_installed = False
        _put({original: original for original in _STAND_INS})
        backends.listeners.remove(_note)
        forget(_let_compile, _let_quantize)
        _let_compile(_now.allow_rnn)
        _let_quantize(False)
    return served()


def served() -> Served:
    """Tell what was served since `install`, or between the last `install` and `uninstall`."""
    counts = _now.counts
    with counts.lock:
        found = counts.calls.most_common()
        calls = {name: sum(count for (other, _), count in found if other == name) for (name, _), _ in found}
        reasons = {name: tuple(why for (other, why), _ in found if other == name and why) for name in calls}
        return Served(counts.made, counts.called, calls, reasons)


def _put(classes: Mapping[type, type]) -> None:
    for place in _PLACES:
        for original, stand_in in classes.items():
            setattr(place, original.__name__, stand_in)


def _note(backend: str, reasons: Sequence[str]) -> None:
    _picked.backend = backend, "; ".join(reasons)


def _let_compile(allowed: bool = True) -> None:
    """Let torch.compile take what torch.nn.GRU is now; of torch's own it would break the graph, or unroll the steps."""
    config: Any = sys.modules.get("torch._dynamo.config")
    if config is not None:
        _now.allow_rnn, config.allow_rnn = config.allow_rnn, allowed


def _let_quantize(allowed: bool = True) -> None:
    """Let torch.ao.quantization.quantize_dynamic, which goes by exact classes, find these too."""
    module: Any = sys.modules.get(_QUANTIZED)
    for original, stand_in in _STAND_INS.items() if module is not None else ():
        found = module.DEFAULT_DYNAMIC_QUANT_MODULE_MAPPINGS
        if allowed:
            found[stand_in] = found[original]
        else:
            found.pop(stand_in, None)
