"""Whose threads compute: torch's where torch is, otherwise the native module's own, which sleep between calls."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastgru._native", reason="the native module is not built")
linux_only = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads /proc")

START = """
import os, threading
import numpy as np
from fastgru import runtime

random = np.random.default_rng(0)
weights = {"weight_ih_l0": random.uniform(-0.1, 0.1, (384, 64)), "weight_hh_l0": random.uniform(-0.1, 0.1, (384, 128))}
x = random.standard_normal((20, 32, 64))
expected = runtime.GRU(weights)(x)[0]
gru = runtime.GRU(weights, threads=2)

def computes():
    return np.array_equal(gru(x)[0], expected)

def threads():
    return len(os.listdir("/proc/self/task"))

def openmp():
    maps = open("/proc/self/maps").read().split()
    return {path for path in maps if path.startswith("/") and "omp" in path.rsplit("/", 1)[1]}

alone = threads()
"""


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", START + program], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@linux_only
def test_without_torch_no_openmp_is_loaded_and_one_thread_of_ours_stays() -> None:
    assert run("print(computes(), computes(), threads() - alone, openmp())") == "True True 1 set()\n"


@linux_only
def test_beside_torch_its_own_threads_compute_and_no_second_openmp_is_loaded() -> None:
    program = """
import torch, fastgru
before = openmp()
torch.set_num_threads(2)
a = torch.ones(1 << 20)
(a + a).sum()
of_torch = threads()
fastgru.GRU(64, 128)(torch.zeros(20, 32, 64))
print(computes(), threads() - of_torch, openmp() == before, len(before))
"""
    assert run(program) == "True 0 True 1\n"


@pytest.mark.skipif(not hasattr(sys, "abiflags"), reason="there are no forks")
@pytest.mark.parametrize("torch", ["", "import torch, fastgru; fastgru.GRU(2, 2)"], ids=["alone", "beside torch"])
def test_forked_child_computes_after_the_parent_did(torch: str) -> None:
    program = f"""
{torch}
assert computes()
child = os.fork()
if child == 0:
    os._exit(0 if computes() and computes() else 1)
print(os.waitpid(child, 0)[1], computes())
"""
    assert run(program) == "0 True\n"


def test_many_callers_at_once_get_the_same_numbers() -> None:
    program = """
wrong = []
callers = [threading.Thread(target=lambda: wrong.extend(1 for _ in range(10) if not computes())) for _ in range(4)]
for caller in callers: caller.start()
for caller in callers: caller.join()
print(len(wrong))
"""
    assert run(program) == "0\n"


def test_process_ends_well_while_daemon_threads_call() -> None:
    program = """
def call():
    while True: computes()
for _ in range(3): threading.Thread(target=call, daemon=True).start()
assert computes()
print("ends")
"""
    assert run(program) == "ends\n"
