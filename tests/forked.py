"""`python -c` in a process forked from one that has imported what programs need, and has run nothing: for 0.1 s."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["fastgru.ops", "fastgru.training.run", "torch.export"])


def run(code: str, *arguments: str | Path, timeout: float = 250) -> subprocess.CompletedProcess[str]:
    """What `python -c code arguments` gives."""
    words = ["-c", *map(str, arguments)]
    with TemporaryDirectory() as folder:
        texts = [Path(folder, name) for name in ("out", "err")]
        process = _context.Process(target=_run, args=(code, words, texts))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(code, timeout)
        return subprocess.CompletedProcess(words, process.exitcode, *(text.read_text() for text in texts))


def run_script(path: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """What `python path arguments` gives."""
    starts = f"import runpy, sys; sys.argv[0] = {str(path)!r}; sys.path.insert(0, {str(path.parent)!r})"
    return run(f"{starts}; runpy.run_path(sys.argv[0], run_name='__main__')", *arguments)


def _run(code: str, words: list[str], texts: list[Path]) -> None:
    for number, text in enumerate(texts, 1):
        with text.open("w") as file:
            os.dup2(file.fileno(), number)
    sys.argv = words
    exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
