"""`fastgru run`: a program as it stands, with torch.nn's GRUs replaced by fastgru's before it begins."""

import atexit
import builtins
import os
import runpy
import sys
from functools import partial
from importlib.machinery import SourceFileLoader
from pathlib import Path
from pkgutil import get_importer
from types import ModuleType, TracebackType

from fastgru.common.errors import InputError
from fastgru.common.imports import after_import
from fastgru.common.processes import rank

_MODE = "FASTGRU_RUN"  # in the environment: "report" or "quiet", for the processes that the program starts too
USAGE = """usage: fastgru run [--quiet] (SCRIPT | -m MODULE) [ARGUMENTS ...]

Run a Python program with torch.nn.GRU and torch.nn.GRUCell replaced by fastgru's: `python SCRIPT ARGUMENTS` becomes
`fastgru run SCRIPT ARGUMENTS`, `torchrun ... SCRIPT` becomes `torchrun ... -m fastgru run SCRIPT`. At its end a line
says which layers and calls were served by which backend, and why not by the kernels.

  --quiet  without that line
  -m       run a module, as `python -m` does"""


def run(arguments: list[str]) -> None:
    """Run the program that the arguments of `fastgru run` name, in this process; the rest are its own.

    What it raises is shown and ends this process as it would without us; so does sys.exit.

    Raises InputError where the arguments name no program.
    """
    options, program = _parsed(arguments)
    if {"-h", "--help"} & {*options}:
        print(USAGE)
        return
    is_module = "-m" in options
    if not is_module and not os.path.exists(program[0]):
        raise InputError(f"there is no program {program[0]!r}; a module is run by: fastgru run -m {program[0]}")
    is_script = not is_module and get_importer(program[0]) is None
    os.environ[_MODE] = "quiet" if "--quiet" in options else "report"
    _reach_children()
    after_import("torch", _replace)
    sys.argv = program
    if not getattr(sys.flags, "safe_path", False):  # from Python 3.11 on
        del sys.path[0]  # where this command lies
        if is_module or is_script:  # a folder or an archive is put there by run_path
            sys.path.insert(0, os.getcwd() if is_module else str(Path(program[0]).resolve().parent))
    try:
        if is_module:
            runpy.run_module(program[0], run_name="__main__", alter_sys=True)
        elif is_script:
            _run_script(os.path.abspath(program[0]))
        else:
            runpy.run_path(os.path.abspath(program[0]), run_name="__main__")
    except Exception as error:
        error = error.with_traceback(_of_program(error.__traceback__))
        sys.excepthook(type(error), error, error.__traceback__)
        sys.exit(1)


def _run_script(path: str) -> None:
    """As runpy.run_path, which would change sys.argv[0], and take __main__ away before the last thread ends."""
    main = ModuleType("__main__")
    main.__dict__.update(__file__=path, __builtins__=builtins, __cached__=None)
    main.__loader__ = SourceFileLoader("__main__", path)
    sys.modules["__main__"] = main
    exec(compile(Path(path).read_bytes(), path, "exec"), main.__dict__)


def begin_child() -> None:
    """Replace torch.nn's GRUs in a process that such a program starts, as soon as it imports torch."""
    after_import("torch", partial(_replace, is_child=True))


def _replace(is_child: bool = False) -> None:
    from fastgru.convert.install import install

    install()
    if os.environ.get(_MODE) != "quiet" and rank() == 0:
        atexit.register(_report, os.getpid(), is_child)


def _report(pid: int, is_child: bool) -> None:
    """Say what came of it; not in a process forked from that one, nor in a child that made no layer."""
    from fastgru.convert.install import served

    found = served()
    if os.getpid() == pid and (found.made or not is_child):
        print(f"fastgru: {found}", file=sys.stderr)


def _parsed(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Our options, and the program with its arguments."""
    options: list[str] = []
    for place, argument in enumerate(arguments):
        if argument not in ("--quiet", "-m", "-h", "--help"):
            break
        options.append(argument)
        if argument == "-m":
            place += 1
            break
    else:
        place = len(arguments)
    program = arguments[place:]
    if program and program[0].startswith("-") and "-m" not in options:
        raise InputError(f"{program[0]} is no option of fastgru run; what is the program's comes after the program")
    if not program and not {"-h", "--help"} & {*options}:
        raise InputError("fastgru run needs a program: fastgru run train.py --its --arguments, or -m module")
    return options, program


def _reach_children() -> None:
    """Let the Python processes that the program starts begin as this one does."""
    folder = str(Path(__file__).parent / "startup")
    others = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry and entry != folder]
    os.environ["PYTHONPATH"] = os.pathsep.join([folder, *others])


def _of_program(traceback: TracebackType | None) -> TracebackType | None:
    """A traceback from where the program begins."""
    while traceback is not None and _is_ours(traceback.tb_frame.f_code.co_filename):
        traceback = traceback.tb_next
    return traceback


def _is_ours(file: str) -> bool:
    return file in (__file__, runpy.__file__, "<frozen runpy>")
