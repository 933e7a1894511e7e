"""`pip install .` in a clean virtual environment: what comes with it, what works without torch, and no compiler."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(900)  # it compiles
ROOT = Path(__file__).parents[2]
# Nothing here asks how fast it is.
UNOPTIMISED = [
    f"--config-settings=cmake.define.{name}=-O0" for name in ("KERNEL_OPTIMISATION", "CMAKE_CXX_FLAGS_RELEASE")
]


class Environment:
    """A virtual environment with fastgru in it and nothing but what that asks for."""

    def __init__(self, folder: Path, **variables: str) -> None:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        self.bin, self.folder = folder / "bin", folder
        self.log = self.run("pip", "install", "--verbose", *UNOPTIMISED, ROOT, **variables).stderr

    def run(self, command: str, *arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        outside = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
        done = subprocess.run(
            [self.bin / command, *arguments],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env={**outside, **variables},
        )
        if command in ("pip", "python") and done.returncode:
            pytest.fail(f"{command} {arguments} failed:\n{done.stdout}{done.stderr}")
        return done


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("clean"), CXX="/usr/bin/env c++")  # of two words, as "ccache g++"


def test_install_brings_only_numpy_and_safetensors(clean: Environment) -> None:
    lines = clean.run("pip", "list", "--format=freeze").stdout.splitlines()
    installed = {line.split("==")[0] for line in lines}
    assert installed - {"pip", "setuptools"} == {"fastgru", "numpy", "safetensors"}


def test_install_builds_the_native_module(clean: Environment) -> None:
    ask = "from fastgru import _native; print(_native.instruction_sets()[0])"
    assert clean.run("python", "-c", ask).stdout == "generic\n"


def test_without_torch_import_works_and_gru_says_what_to_install(clean: Environment) -> None:
    ask = """
import fastgru
for name in fastgru.__all__:
    try:
        getattr(fastgru, name)
    except ImportError as error:
        print(error)
print(hasattr(fastgru, "LSTM"), dir(fastgru))
"""
    *refusals, last = clean.run("python", "-W", "error", "-c", ask).stdout.splitlines()
    assert len(refusals) == 19
    assert all("pip install 'fastgru[torch]'" in line for line in refusals)
    public = ["GRU", "GRUCell", "QuantizedGRU", "QuantizedGRUCell", "__version__", "accelerate", "batch_invariant"]
    public += ["clear_caches", "decompositions", "export_onnx", "freeze", "info", "install", "quantize", "save"]
    public += ["to_float", "to_torch", "unfreeze", "uninstall", "warm_up"]
    assert last == f"False {public}"


def test_run_needs_nothing_but_what_the_program_needs(clean: Environment) -> None:
    Path(clean.folder, "program.py").write_text("import subprocess, sys; subprocess.run([sys.executable, '-c', 'x'])")
    done = clean.run("fastgru", "run", "program.py")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.splitlines()[-1] == "NameError: name 'x' is not defined"


def test_the_ready_model_speaks_at_once(clean: Environment) -> None:
    done = clean.run("fastgru", "predict", "pronunciation", "cat", "world")
    assert (done.returncode, done.stdout, done.stderr) == (0, "K AE T\nW ER L D\n", "")
    ask = "from fastgru import runtime; print(runtime.load('pronunciation').predict(['cat'])[0][0].text)"
    assert clean.run("python", "-W", "error", "-c", ask).stdout == "K AE T\n"


def test_without_its_extra_the_command_says_what_to_install(clean: Environment) -> None:
    done = clean.run("fastgru", "info")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install 'fastgru[train]'" in done.stderr


def test_install_without_a_compiler_leaves_the_native_module_out(tmp_path: Path) -> None:
    bare = Environment(tmp_path, CXX="/nonexistent/c++")
    ask = "import importlib.util, fastgru; print(importlib.util.find_spec('fastgru._native'))"
    assert bare.run("python", "-c", ask).stdout == "None\n"


def test_install_with_a_compiler_that_fails_warns_and_leaves_the_native_module_out(tmp_path: Path) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text('#!/bin/sh\ncase "$*" in *csrc/*) echo "no vectors here" >&2; exit 1;; esac\nexec c++ "$@"\n')
    compiler.chmod(0o755)
    bare = Environment(tmp_path / "environment", CXX=str(compiler), FASTGRU_REQUIRE_NATIVE="")
    ask = "import importlib.util, fastgru; print(importlib.util.find_spec('fastgru._native'))"
    assert bare.run("python", "-c", ask).stdout == "None\n"
    assert "no vectors here" in bare.log
    assert "the native module could not be compiled" in bare.log
