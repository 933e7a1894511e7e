"""The page docs/compatibility.md, made from the probes: `python tests/house/compatibility.py` rewrites it."""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from probes import KINDS, SECTIONS, Kind, Probe, derivatives, modules, programs, runtimes  # noqa: F401 (fill SECTIONS)

PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"


def verdict(function: Probe, kind: Kind) -> str:
    """A cell of the page."""
    with warnings.catch_warnings(), unlogged():
        warnings.simplefilter("ignore")
        try:
            return function(kind) or "yes"
        except Exception as error:
            return "wrong numbers" if "are not close" in str(error) else f"fails: {first_words(error)}"
        finally:
            torch.compiler.reset()


@contextmanager
def unlogged() -> Iterator[None]:
    """Without torch's log of what it could not compile or export; the page has its first words."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def first_words(error: Exception, room: int = 80) -> str:
    text = re.sub(r"\x1b\[\d*m|0x[0-9a-f]+|[`*|<>]|\S*/site-packages/", "", str(error))
    text = " ".join(text.split())
    text = text if len(text) <= room else text[:room].rsplit(" ", 1)[0] + " ..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


ARGUED = """\

## On a GPU

The probes run on a CPU. On an NVIDIA GPU plain layers are cuDNN's and the rest is on Triton kernels, which none has run
yet: what was seen without one, second derivatives, torch.func, `torch.compile` and `torch.export` in Triton's
interpreter, is in [gpu.md](gpu.md).

## What fails, and stays so

- `quantize_dynamic` goes by the exact class and has torch's alone in its tables: quantise the model after
  `fastgru.to_torch`, or run the program by `fastgru run`, where ours has torch's name.
- No steps: there is no last state to tell, and torch.nn.GRU raises the same words. A sequence of length 0 within
  `lengths` is served.
"""


def page() -> str:
    version = torch.__version__.split("+")[0]
    lines = [
        "# What works",
        "",
        f"Each row is a probe that was run on both classes with torch {version} on a CPU; numbers and gradients must",
        "be those that `torch.nn.GRU` has outside of any mode. The probes are in `tests/probes`. They are run, and",
        "this page is written, by `python tests/house/compatibility.py`; a test fails where it does not say what they",
        "find.",
    ]
    for section, probes in SECTIONS.items():
        lines += ["", f"## {section}", "", "| | torch.nn.GRU | fastgru.GRU |", "|---|---|---|"]
        for capability, function in probes.items():
            lines.append(f"| {capability} | {' | '.join(verdict(function, kind) for kind in KINDS)} |")
    return "\n".join(lines) + "\n" + ARGUED


def cells(text: str) -> dict[str, list[str]]:
    """A page's cells, by capability."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if re.match(r"\| [^|]", line)]
    return {capability: found for capability, *found in rows}


if __name__ == "__main__":
    PAGE.write_text(page())
