"""oneDNN's lbr_gru as a contender: a program of its own, driven through pipes."""

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.problem import Problem, zrn


class OneDnn:
    """oneDNN's lbr_gru, in a process of its own: torch holds another version, and two must not share one process."""

    name = "onednn"
    trains = True

    def __init__(self, problem: Problem) -> None:
        self.shape, self.folder = problem.shape, tempfile.TemporaryDirectory(prefix="fastgru-onednn-")
        self._write_weights(problem)
        s = problem.shape
        sizes = [s.input_size, s.hidden_size, s.batch, s.steps, s.directions]
        self.process = subprocess.Popen(
            [_onednn_server(), *map(str, sizes), self.folder.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"OMP_NUM_THREADS": str(problem.threads)},
        )

    def _write_weights(self, problem: Problem) -> None:
        for side, name in (("ih", "weights_layer"), ("hh", "weights_iter")):
            weights = [zrn(getattr(problem.layer, f"weight_{side}_l0{suffix}")) for suffix in self._suffixes]
            self._file(name).write_bytes(np.stack([np.ascontiguousarray(w.T) for w in weights]).tobytes())
        biases = []
        for suffix in self._suffixes:
            z, r, n = np.split(zrn(getattr(problem.layer, f"bias_ih_l0{suffix}")), 3)
            hz, hr, hn = np.split(zrn(getattr(problem.layer, f"bias_hh_l0{suffix}")), 3)
            biases.append(np.stack([z + hz, r + hr, n, hn]))
        self._file("bias").write_bytes(np.stack(biases).tobytes())
        self._file("x").write_bytes(problem.x.numpy().tobytes())

    @property
    def _suffixes(self) -> list[str]:
        return ["", "_reverse"][: self.shape.directions]

    def _file(self, name: str) -> Path:
        return Path(self.folder.name) / name

    def _ask(self, command: str) -> str:
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the oneDNN process ended at {command!r} with exit code {self.process.wait()}")
        return answer

    def infer(self, count: int) -> list[float]:
        """Run forward_inference."""
        return [int(nanoseconds) / 1e9 for nanoseconds in self._ask(f"infer {count}").split()]

    def train(self, count: int) -> list[float]:
        """Run forward_training and backward."""
        return [int(nanoseconds) / 1e9 for nanoseconds in self._ask(f"train {count}").split()]

    def results(self) -> list[np.ndarray]:
        """As the protocol says."""
        self._ask("dump")
        s = self.shape
        forms = {"y": (s.steps, s.batch, s.directions * s.hidden_size), "dx": (s.steps, s.batch, s.input_size)}
        return [np.fromfile(self._file(name), np.float32).reshape(form) for name, form in forms.items()]

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()
        self.folder.cleanup()


def _onednn_server() -> Path:
    """The program, built into this checkout for this very source and library."""
    source, library = Path(__file__).with_name("onednn_server.cpp"), _onednn_root()
    key = hashlib.sha256(source.read_bytes() + str(library).encode()).hexdigest()[:16]
    program = Path(__file__).parents[1] / "build" / f"onednn_server-{key}"
    if not program.exists():
        compiler = shutil.which("c++") or shutil.which("g++")
        if compiler is None:
            raise RuntimeError("oneDNN's driver needs a C++ compiler on the PATH")
        program.parent.mkdir(exist_ok=True)
        lib = library / "lib"
        link = [f"-L{lib}", f"-Wl,-rpath,{lib}", "-ldnnl"]
        subprocess.run(
            [compiler, "-O2", "-std=c++17", f"-I{library / 'include'}", source, *link, "-o", program], check=True
        )
    return program


def _onednn_root() -> Path:
    """Where the wheels onednn-cpu-gomp and onednn-devel-cpu-gomp put `include` and `lib`."""
    roots = [Path(sys.prefix), *(Path(entry).parents[2] for entry in sys.path if entry.endswith("site-packages"))]
    for root in roots:
        if (root / "include" / "oneapi" / "dnnl" / "dnnl.hpp").is_file() and (root / "lib" / "libdnnl.so").exists():
            return root
    raise RuntimeError("oneDNN was not found; install onednn-cpu-gomp and onednn-devel-cpu-gomp (the extra `rivals`)")
