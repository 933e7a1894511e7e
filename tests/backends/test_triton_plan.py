"""How a layer is cut into CTAs, as a table; and what the compiler says of what it gives, without a GPU."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastgru.backends.triton.plan import Device, Plan, plan

A100, A10, L4, H100 = (
    Device(80, 108, 166_912),
    Device(86, 72, 101_376),
    Device(89, 58, 101_376),
    Device(90, 132, 232_448),
)
HALF, TF32, TF32X3 = 2, 4, 8

TABLE = [  # device, bytes, H, B: BH, BB, K, KS, PARTS, RESIDENT, warps
    (H100, HALF, 16, 64, Plan(16, 16, 16, 1, 1, True, 4)),
    (H100, HALF, 64, 16, Plan(64, 16, 64, 1, 1, True, 8)),
    (H100, HALF, 100, 64, Plan(128, 8, 128, 1, 1, True, 8)),
    (H100, HALF, 256, 8, Plan(16, 8, 256, 8, 16, True, 8)),
    (H100, HALF, 256, 64, Plan(16, 16, 256, 8, 16, True, 8)),
    (H100, HALF, 512, 64, Plan(16, 16, 512, 8, 32, True, 8)),
    (H100, HALF, 1024, 16, Plan(16, 8, 1024, 8, 64, True, 8)),
    (H100, HALF, 2048, 16, Plan(16, 16, 2048, 64, 128, False, 4)),
    (H100, TF32, 128, 16, Plan(128, 8, 128, 1, 1, True, 8)),
    (H100, TF32, 512, 8, Plan(16, 8, 512, 8, 32, True, 8)),
    (H100, TF32X3, 64, 16, Plan(64, 8, 64, 1, 1, True, 8)),
    (H100, TF32X3, 256, 16, Plan(16, 8, 256, 8, 16, True, 8)),
    (A100, HALF, 128, 16, Plan(128, 8, 128, 1, 1, True, 8)),
    (A100, TF32, 128, 8, Plan(16, 8, 128, 4, 8, True, 4)),
    (A10, HALF, 64, 16, Plan(64, 16, 64, 1, 1, True, 8)),
    (A10, HALF, 128, 16, Plan(16, 16, 128, 4, 8, True, 4)),
    (A10, HALF, 1024, 16, Plan(16, 16, 1024, 64, 64, False, 4)),
    (L4, HALF, 1024, 8, Plan(32, 8, 1024, 64, 32, False, 8)),
    (L4, HALF, 3000, 8, Plan(64, 8, 3008, 64, 47, False, 8)),
    (L4, HALF, 4000, 8, None),
]


@pytest.mark.parametrize(("device", "size", "hidden", "batch", "expected"), TABLE)
def test_plan_as_a_table(device: Device, size: int, hidden: int, batch: int, expected: Plan | None) -> None:
    assert plan(hidden, batch, 1, size, False, device) == expected


def every_plan() -> Iterator[tuple[int, Device, Plan]]:
    sizes = [*range(1, 70), 96, 100, 127, 128, 129, 168, 200, 256, 257, 300, 512, 650, 768, 1000, 1024, 1500, 2048]
    for hidden, device, size, normed in itertools.product(sizes, (A100, A10, L4, H100), (2, 4, 8), (False, True)):
        for batch, directions in itertools.product((1, 8, 9, 64, 1000), (1, 2)):
            found = plan(hidden, batch, directions, size, normed, device)
            assert found is not None, (hidden, device, size)
            yield hidden, device, found


def test_plan_covers_every_unit_within_its_product() -> None:
    for hidden, device, found in every_plan():
        assert (found.PARTS - 1) * found.BH < hidden <= found.PARTS * found.BH <= found.K
        assert found.K % found.KS == 0
        assert found.PARTS <= found.peers <= 2 * found.PARTS
        assert device.processors >= found.PARTS
        width = found.K // found.KS if found.RESIDENT else found.KS
        assert width >= 16  # the least that Triton multiplies


def test_plan_has_few_kernels_for_all_batches() -> None:
    for device, size, hidden, normed in itertools.product((A100, H100), (2, 4, 8), (64, 256, 512, 1024), (False, True)):
        found = {plan(hidden, batch, 2, size, normed, device) for batch in range(1, 3000)}
        assert len(found) <= 3


CASES = [  # every kind of plan, architecture, precision and form, a few at once; the whole sweep takes an hour
    "80:bf16:tf32:64:64:normed",
    "80:fp32:tf32:256:64:before",
    "86:bf16:tf32:1024:16:after",
    "86:fp32:tf32x3:64:8:after",
    "89:fp16:tf32:256:16:normed",
    "90:bf16:tf32:128:16:before",
    "90:bf16:tf32:512:64:after",
    "90:bf16:tf32:1024:16:after",
    "90:fp32:tf32:128:8:after",
    "90:fp32:tf32x3:256:16:after",
    "100:bf16:tf32:256:64:after",
]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """By case what each of its kernels uses: compiled in a process of its own, where nothing is interpreted."""
    pytest.importorskip("triton", reason="Triton is not installed: pip install 'fastgru[gpu]'")
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))
    script = Path(__file__).with_name("compiled_kernels.py")
    done = subprocess.run([sys.executable, script, *CASES], capture_output=True, text=True, env=environment, check=True)
    found: dict[str, list[dict[str, Any]]] = {}
    for line in done.stdout.splitlines():
        found.setdefault(json.loads(line)["case"], []).append(json.loads(line))
    return found


@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", CASES)
def test_triton_kernels_compile_without_spills(case: str, compiled: dict[str, list[dict[str, Any]]]) -> None:
    assert [row["kernel"] for row in compiled[case]] == ["gru_forward", "gru_backward"]
    for row in compiled[case]:
        assert row["spilled"] == 0
        assert row["shared"] <= row["limit"]
