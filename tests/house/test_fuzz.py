"""The fuzzer: some cases of each kind pass, a case is the same again, and what is planted is found."""

import subprocess
from pathlib import Path

import forked
import pytest

TESTS = Path(__file__).parents[1]
NUMBER, HIDDEN = 2, 97  # a case of seed 0, and the units of its layer, which no other of the first has
PLANTED = f"""
import ctypes, random, sys
sys.path[:0] = [{str(TESTS)!r}]
import torch
from fastgru.backends.cpu import CpuBackend
from fuzz.__main__ import main
from fuzz.guard import guarded

forward = CpuBackend.forward

def planted(self, *arguments, **options):
    results = forward(self, *arguments, **options)
    h_n = results[1]
    if h_n.size(-1) == {HIDDEN}:
        FAULT
    return results

CpuBackend.forward = planted
sys.exit(main(["--case", sys.argv[1]]))
"""
FAULTS = {
    "h_n.view(-1)[-1] += 1": "h_n [1, 4, 97]: relative error ",
    "ctypes.string_at(guarded(random.Random(0), h_n).data_ptr() - 8192, 20000)": "died of SIGSEGV",
    "sys.exit(3)": "ended with exit code 3",
}


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    return forked.run_script(TESTS / "fuzz" / "__main__.py", *arguments)


@pytest.mark.parametrize("what", ["layer", "operator"])
def test_some_cases_pass(what: str) -> None:
    done = fuzz("--what", what, "--case", "0:50", "--seconds", "60")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("50 cases, 0 failures, ")


@pytest.mark.parametrize("what", ["layer", "operator"])
def test_a_case_is_the_same_whatever_ran_before(what: str) -> None:
    some = fuzz("--what", what, "--seed", "5", "--case", "0:3", "--show").stdout.splitlines()
    alone = fuzz("--what", what, "--seed", "5", "--case", "2", "--show").stdout.splitlines()
    assert alone[0].startswith(("passed {", "FAILED {"))
    assert alone[:-1] == some[-len(alone) : -1]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_and_the_next_cases_go_on(fault: str) -> None:
    some, alone = (forked.run(PLANTED.replace("FAULT", fault), cases) for cases in ("0:6", str(NUMBER)))
    assert (some.returncode, alone.returncode) == (1, 1), some.stderr + alone.stderr
    *lines, last = some.stdout.splitlines()
    assert last.startswith("6 cases, 1 failures, ")
    assert lines[0].startswith("FAILED {")
    assert FAULTS[fault] in lines[1]
    assert lines[-1] == f"  again: python tests/fuzz --what layer --seed 0 --case {NUMBER}"
    assert alone.stdout.splitlines()[:2] == lines[:2]
