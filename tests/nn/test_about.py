"""fastgru.info: who serves a layer, and why the others do not."""

import os
import subprocess
import sys

import pytest
import torch

import fastgru
from fastgru import _native, backends


def test_info_names_the_first_backend_that_can() -> None:
    info = fastgru.info()
    assert info.backend == "cpu"
    assert list(info.reasons) == ["cpu", "triton", "aten", "reference"]
    assert info.verdict("cpu") == "serves this layer"
    assert info.verdict("aten") == "could; cpu was chosen before it"


def test_info_follows_the_layers_own_choice() -> None:
    info = fastgru.info(fastgru.GRU(3, 4, backend="reference", dtype=torch.float64))
    assert info.backend == "reference"
    assert info.layer == "GRU(3, 4, backend='reference'), float64 on cpu"
    assert info.verdict("aten") == "could; reference was chosen before it"


def test_info_tells_a_backends_reason() -> None:
    info = fastgru.info(fastgru.GRU(3, 4, dtype=torch.complex64))
    assert info.backend == "aten"
    assert info.verdict("cpu") == "cannot: its kernels take float32, float64 and half precision, not complex64"
    stuck = fastgru.GRU(3, 4, backend="cpu", dtype=torch.complex64)
    assert fastgru.info(stuck).backend is None
    reason = (
        r"no backend can serve this layer \(cpu: its kernels take float32, float64 and half precision, not complex64\)"
    )
    with pytest.raises(RuntimeError, match=reason):
        stuck(torch.zeros(1, 1, 3, dtype=torch.complex64))


def test_info_looks_at_the_input_too() -> None:
    assert fastgru.info(fastgru.GRU(3, 4), torch.zeros(1, 1, 3, device="meta")).backend == "aten"


def test_info_prints_a_page() -> None:
    lines = str(fastgru.info(fastgru.GRU(3, 4, 2))).splitlines()
    assert lines[0].split() == ["fastgru", fastgru.__version__]
    assert lines[3].startswith("native     built; of generic")
    assert lines[3].endswith(f"it uses {_native.instruction_set()}")
    assert lines[4] == "layer      GRU(3, 4, num_layers=2), float32 on cpu"
    assert lines[5] == "cpu        serves this layer"


def test_info_says_when_the_native_module_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastgru.about.find_spec", lambda name: None)
    assert "not built" in str(fastgru.info())


def test_native_finds_what_the_kernel_says_of_this_cpu() -> None:
    found = _native.instruction_sets()
    assert found[0] == "generic"
    with open("/proc/cpuinfo") as cpuinfo:
        flags = next((set(line.split()) for line in cpuinfo if line.startswith(("flags", "Features"))), set())
    assert ("avx2" in found) == ({"avx2", "fma"} <= flags)
    assert ("avx512" in found) == ({"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= flags)


def test_auto_takes_backends_in_order() -> None:
    gru = fastgru.GRU(3, 4)
    x, weights = torch.zeros(1, 1, 3), list(gru.parameters())
    assert backends.pick("auto", gru._stack(), x, None, weights) is backends.BACKENDS[0]
    assert backends.pick("reference", gru._stack(), x, None, weights).name == "reference"


def test_info_refuses_what_is_not_ours() -> None:
    with pytest.raises(TypeError, match=r"info tells of a fastgru\.GRU, not of a GRUCell"):
        fastgru.info(fastgru.GRUCell(3, 4))


def test_info_refuses_an_instruction_set_that_is_not_there() -> None:
    ask = [sys.executable, "-c", "import fastgru; fastgru.info()"]
    done = subprocess.run(ask, env={**os.environ, "FASTGRU_ISA": "mmx"}, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].startswith("ValueError: instruction set 'mmx' is unknown")
