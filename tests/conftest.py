"""What every test gets: a seed, compilations of its own, and fresh memory filled with NaN: unwritten output shows."""

import os
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch asks: workers share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["TRITON_INTERPRET"] = "1"  # before anything imports Triton, whose own functions it interprets too
import torch

os.environ["PYTHONPATH"] = str(Path(__file__).parent)  # scripts that tests start import what tests share


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _nan_in_fresh_memory() -> Iterator[None]:
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture(autouse=True)
def _own_compilations() -> Iterator[None]:
    """Dynamo counts how often it compiles one function, whoever asks, and refuses the ninth time."""
    yield
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()


@pytest.fixture(scope="module")
def triton_interpreter() -> None:
    """Triton's kernels on the CPU, for a file that cannot do without."""
    pytest.importorskip("triton", reason="Triton is not installed: pip install 'fastgru[gpu]'")


@pytest.fixture(scope="session")
def g2p_en() -> Any:
    """The package's G2p, without the dictionaries that it would fetch, which its GRUs do not need."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nltk.data.find", lambda _: None)
        module = import_module("g2p_en.g2p")
        patch.setattr(module, "cmudict", SimpleNamespace(dict=dict))
        patch.setattr(module, "construct_homograph_dictionary", dict)
        return module.G2p()
