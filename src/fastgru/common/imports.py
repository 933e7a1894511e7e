"""What is to be done once a module has been imported, without importing it for that."""

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def after_import(name: str, do: Callable[[], None]) -> None:
    """Call `do` once the module of this name has been imported: now, if it is there already.

    Where a module of fastgru is what imports it, `do` waits for the end of that module's import too: it may import
    anything of fastgru.
    """
    _watch.waiting.append((name, do))
    if _watch not in sys.meta_path:
        sys.meta_path.insert(0, _watch)
    _watch.call_ready()


def forget(*done: Callable[[], None]) -> None:
    """Wait no more to call these."""
    _watch.waiting = [waiting for waiting in _watch.waiting if waiting[1] not in done]


class _Watch(MetaPathFinder):
    """Finds nothing itself, but sees the end of the imports that matter here."""

    def __init__(self) -> None:
        self.waiting: list[tuple[str, Callable[[], None]]] = []
        self._depth = 0  # of such imports within each other

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith("fastgru.") and all(name != awaited for awaited, _ in self.waiting):
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                self._see_end(spec.loader)
                return spec
        return None

    def _see_end(self, loader: Any) -> None:
        run = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module
            self._depth += 1
            try:
                run(module)
            finally:
                self._depth -= 1
            self.call_ready()

        loader.exec_module = exec_module

    def call_ready(self) -> None:
        if self._depth:
            return
        ready = [waiting for waiting in self.waiting if waiting[0] in sys.modules]
        self.waiting = [waiting for waiting in self.waiting if waiting not in ready]
        for _, do in ready:
            do()


_watch = _Watch()
