"""`fastgru run`: programs as they stand, in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import torch

# Needs no torch: what Python itself would do is what must come out.
PLAIN = """
import sys
print(__name__, __file__, sys.argv, sys.path[0], "torch" in sys.modules, any("cli" in name for name in sys.modules))
if "fail" in sys.argv:
    raise LookupError("not there")
sys.exit(int(sys.argv[-1]))
"""

TRAINING = """
import os
os.environ["OMP_NUM_THREADS"] = "1"  # torch looks once, when it is imported
import multiprocessing, subprocess, sys
import fastgru.nn  # imports torch itself
import encoder, torch

def call(name):
    rnn = torch.nn.GRU(3, 4)
    print(name, isinstance(rnn, fastgru.nn.GRU), flush=True)
    rnn(torch.ones(2, 3))

if __name__ == "__main__":
    print("threads", torch.get_num_threads(), flush=True)
    model = encoder.Encoder()
    for _ in range(3):
        model(torch.ones(5, 2, 3))
    torch.save(model.rnn, "rnn.pt")
    child = multiprocessing.get_context("spawn").Process(target=call, args=("spawned",))
    child.start()
    child.join()
    subprocess.run([sys.executable, "-c", "import torch; print('started', torch.nn.GRU(3, 4).__class__.__mro__[2])"])
    subprocess.run([sys.executable, "-c", "import sys; print('torch' in sys.modules)"])
"""

ENCODER = """
from torch.nn import GRU, Module

class Encoder(Module):
    def __init__(self):
        super().__init__()
        self.rnn = GRU(3, 4)

    def forward(self, x):
        return self.rnn(x)[0]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in {"plain": PLAIN, "training": TRAINING, "encoder": ENCODER}.items():
        Path(f"{name}.py").write_text(dedent(text))
    Path("package").mkdir()
    Path("package/__main__.py").write_text(PLAIN)
    return tmp_path


def python(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize(
    "program",
    [
        ["plain.py", "--quiet", "-m", "3"],
        ["plain.py", "fail"],
        ["-m", "plain", "--its", "0"],
        ["{folder}/package", "4"],
    ],
    ids=" ".join,
)
def test_a_program_meets_what_python_gives_it(program: list[str], folder: Path) -> None:
    program = [word.format(folder=folder) for word in program]
    expected, found = python(*program), python("-m", "fastgru", "run", *program)
    assert (found.stdout, found.stderr, found.returncode) == (expected.stdout, expected.stderr, expected.returncode)
    assert expected.stdout


def test_a_program_and_what_it_starts_have_our_layers(folder: Path) -> None:
    ended = python("-m", "fastgru", "run", "training.py")
    assert ended.stdout.splitlines() == [
        "threads 1",
        "spawned True",
        "started <class 'fastgru.nn.GRU'>",
        "False",
    ], ended.stderr
    assert ended.stderr.splitlines() == [
        "fastgru: torch.nn.GRU and GRUCell: 1 layer, 1 call: 1 by cpu",
        "fastgru: torch.nn.GRU and GRUCell: 1 layer, 0 calls; 1 layer never called outside of compiled code",
        "fastgru: torch.nn.GRU and GRUCell: 1 layer, 3 calls: 3 by cpu",
    ]
    assert type(torch.load("rnn.pt", weights_only=False)) is torch.nn.GRU


def test_quiet_and_ranks_beyond_the_first_print_nothing(folder: Path) -> None:
    Path("small.py").write_text("import torch")
    assert python("-m", "fastgru", "run", "--quiet", "small.py").stderr == ""
    assert python("-m", "fastgru", "run", "small.py", RANK="1").stderr == ""
    line = "fastgru: no torch.nn.GRU or torch.nn.GRUCell was made in this process\n"
    assert python("-m", "fastgru", "run", "small.py", RANK="0").stderr == line


def test_a_sitecustomize_that_is_there_runs_in_children(folder: Path) -> None:
    Path("site").mkdir()
    Path("site/sitecustomize.py").write_text("print('customized')")
    Path("starts.py").write_text("import subprocess, sys; subprocess.run([sys.executable, '-c', ''])")
    ended = python("-m", "fastgru", "run", "starts.py", PYTHONPATH="site")
    assert (ended.stdout, ended.stderr) == ("customized\n" * 2, "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "fastgru run needs a program: fastgru run train.py --its --arguments, or -m module"),
        (["-m"], "fastgru run needs a program"),
        (["nowhere.py"], "there is no program 'nowhere.py'; a module is run by: fastgru run -m nowhere.py"),
        (["--verbose", "plain.py"], "--verbose is no option of fastgru run"),
    ],
    ids=str,
)
def test_no_program_gets_one_line_and_exit_code_2(arguments: list[str], words: str, folder: Path) -> None:
    ended = python("-m", "fastgru", "run", *arguments)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert words in ended.stderr
