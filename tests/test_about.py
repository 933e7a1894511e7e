"""fastgru.info: who serves a layer, and why the others do not."""

import pytest
import torch

import fastgru
from fastgru import _native, backends
from fastgru.backends.aten import AtenBackend


def test_info_names_the_first_backend_that_can() -> None:
    info = fastgru.info()
    assert info.backend == "aten"
    assert list(info.reasons) == ["aten", "reference"]
    assert info.verdict("aten") == "serves this layer"
    assert info.verdict("reference") == "could; aten was chosen before it"


def test_info_follows_the_layers_own_choice() -> None:
    info = fastgru.info(fastgru.GRU(3, 4, backend="reference", dtype=torch.float64))
    assert info.backend == "reference"
    assert info.layer == "GRU(3, 4, backend='reference'), float64 on cpu"
    assert info.verdict("aten") == "could; reference was chosen before it"


def test_info_tells_a_backends_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AtenBackend, "why_not", lambda self, x, h0, weights: f"no kernel for {x.dtype}")
    info = fastgru.info(fastgru.GRU(3, 4))
    assert info.backend == "reference"
    assert info.verdict("aten") == "cannot: no kernel for torch.float32"
    stuck = fastgru.info(fastgru.GRU(3, 4, backend="aten"))
    assert stuck.backend is None
    with pytest.raises(RuntimeError, match=r"no backend can serve this layer \(aten: no kernel for torch.float32\)"):
        fastgru.GRU(3, 4, backend="aten")(torch.zeros(1, 1, 3))


def test_info_prints_a_page() -> None:
    lines = str(fastgru.info(fastgru.GRU(3, 4, 2))).splitlines()
    assert lines[0].split() == ["fastgru", fastgru.__version__]
    assert lines[3].startswith("native     built; this machine runs generic")
    assert lines[4] == "layer      GRU(3, 4, num_layers=2), float32 on cpu"
    assert lines[5] == "aten       serves this layer"


def test_info_says_when_the_native_module_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastgru.about.find_spec", lambda name: None)
    assert fastgru.info().instruction_sets is None
    assert "not built" in str(fastgru.info())


def test_native_finds_what_the_kernel_says_of_this_cpu() -> None:
    found = _native.instruction_sets()
    assert found[0] == "generic"
    with open("/proc/cpuinfo") as cpuinfo:
        flags = next((set(line.split()) for line in cpuinfo if line.startswith(("flags", "Features"))), set())
    assert ("avx2" in found) == ({"avx2", "fma"} <= flags)
    assert ("avx512" in found) == ({"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= flags)


def test_auto_takes_backends_in_order() -> None:
    spec = fastgru.GRU(3, 4).spec
    assert backends.pick("auto", spec, torch.zeros(1, 1, 3)) is backends.BACKENDS[0]
    assert backends.pick("reference", spec, torch.zeros(1, 1, 3)).name == "reference"
