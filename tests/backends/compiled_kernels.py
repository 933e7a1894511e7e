"""The Triton kernels compiled without a GPU: registers, spilled bytes and shared memory, a JSON line each.

python tests/backends/compiled_kernels.py [case ...], where a case is sm:dtype:precision:hidden:batch:form; without any,
a sweep that takes an hour.
"""

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)  # before Triton is imported

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from fastgru.backends.triton.backward import gru_backward
from fastgru.backends.triton.forward import gru_forward
from fastgru.backends.triton.launch import compile_options
from fastgru.backends.triton.plan import Device, plan

TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"
DEVICES = {  # A100, A10, L4, H100, B200
    80: Device(80, 108, 166_912),
    86: Device(86, 72, 101_376),
    89: Device(89, 58, 101_376),
    90: Device(90, 132, 232_448),
    100: Device(100, 148, 232_448),
}
FORMS = {"after": 0, "before": 1, "normed": 2}
SIZES = {"bf16": 2, "fp16": 2, "tf32": 4, "tf32x3": 8}
KINDS = dict.fromkeys(("order", "first", "lengths", "starts"), "*i64")
KINDS |= {"sums": "*fp32", "inverse": "*fp32", "arrived": "*i32", "resets": "*u8", "keep": "fp32"}
KINDS |= dict.fromkeys(("B", "H", "D", "rows", "step", "first_cta", "reverse", "tbptt"), "i32")


def kind(name: str, dtype: str, form: str) -> str:
    """What a kernel's argument is."""
    if form == "normed" and name in ("gx", "gh"):
        return "*fp32"
    return KINDS.get(name, f"*{dtype}")


def compiled(kernel: Any, sm: int, dtype: str, form: str, options: dict[str, int], constants: dict[str, Any]) -> Any:
    """A kernel's binary, for resets and all pointers and H divisible by 16."""
    kinds = {p.name: "constexpr" if p.is_constexpr else kind(p.name, dtype, form) for p in kernel.params}
    own = {p.name for p in kernel.params if p.is_constexpr}
    dense = [i for i, (name, its) in enumerate(kinds.items()) if its[0] == "*" or name == "H"]
    source = ASTSource(
        kernel,
        kinds,
        constexprs={name: value for name, value in constants.items() if name in own},
        attrs={(i,): [["tt.divisibility", 16]] for i in dense},
    )
    return triton.compile(source, target=GPUTarget("cuda", sm, 32), options=options)


def usage(binary: Any, sm: int) -> dict[str, int]:
    """Registers and spilled bytes, as ptxas says, and shared memory."""
    name = f"--gpu-name=sm_{sm}{'a' if sm >= 90 else ''}"
    assembler = TOOLS / ("ptxas-blackwell" if sm >= 100 else "ptxas")
    command = [assembler, "-v", name, "/dev/stdin", "-o", "/dev/null"]
    said = subprocess.run(command, input=binary.asm["ptx"], capture_output=True, text=True, check=True).stderr
    registers = re.search(r"Used (\d+) registers", said)
    spilled = sum(map(int, re.findall(r"(\d+) bytes spill", said)))
    return {"registers": int(registers[1]) if registers else 0, "spilled": spilled, "shared": binary.metadata.shared}


def look_at(case: str) -> list[dict[str, Any]]:
    """What the kernels of a case use."""
    sm, dtype, precision, hidden, batch, form = case.split(":")
    device = DEVICES[int(sm)]
    how = plan(int(hidden), int(batch), 1, SIZES[precision if dtype == "fp32" else dtype], form == "normed", device)
    if how is None:
        return [{"case": case, "plan": None}]
    flags = {"HAS_RESETS": True, "HAS_RECURRENT": False, "ZONEOUT": 0, "HAS_TIME": False, "FORM": FORMS[form]}
    constants = {**how._asdict(), **flags, "PEERS": how.peers, "PRECISION": precision}
    rows = []
    for kernel in (gru_forward, gru_backward):
        binary = compiled(kernel, device.sm, dtype, form, compile_options(how.warps), constants)
        rows.append(
            {"case": case, "kernel": kernel.__name__, "plan": how, "limit": device.shared} | usage(binary, device.sm)
        )
    return rows


def sweep() -> list[str]:
    """A case for every kind of plan, architecture, precision and form."""
    kinds = [("bf16", "tf32"), ("fp32", "tf32"), ("fp32", "tf32x3")]
    sizes = itertools.product(DEVICES, kinds, (64, 128, 256, 512, 1024, 2048), (8, 256), FORMS)
    return [
        f"{sm}:{dtype}:{precision}:{hidden}:{batch}:{form}" for sm, (dtype, precision), hidden, batch, form in sizes
    ]


if __name__ == "__main__":
    for name in sys.argv[1:] or sweep():
        for row in look_at(name):
            print(json.dumps(row), flush=True)
