"""A Ray cluster of three hosts of their own addresses, one of which is cut off while rows are predicted."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hosts import Hosts, hosts, why_not
from test_predict_parquet import PREDICT, assert_complete, model, texts

__all__ = ["model"]  # a fixture

WHY_NOT = why_not()
pytestmark = [pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "there are hosts"), pytest.mark.timeout(900)]
ROWS, SHARD_ROWS = 600, 5
PATIENCE = 240  # seconds to wait for anything: a node starts in 20 where others use the machine
CLUSTER = f"{Hosts.address(1)}:6379"
QUICKLY = {  # Ray takes a silent node for dead after three seconds or so, and not after half a minute
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def wait(what: str, logs: list[Path], until: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not until():
        if time.monotonic() > end:
            said = "\n".join(f"{log.name}:\n{log.read_text()[-2000:]}" for log in logs if log.exists())
            pytest.fail(f"{what} did not come in {PATIENCE} s\n{said}")
        time.sleep(0.1)


def test_no_row_is_lost_or_doubled_when_a_host_is_cut_off(model: str, tmp_path: Path) -> None:
    table, out = tmp_path / "table.parquet", tmp_path / "predicted" / "out"
    out.parent.mkdir()
    pq.write_table(pa.table({"id": range(ROWS), "text": texts(ROWS)}), table)
    logs = [tmp_path / name for name in ("head", "second", "third", "predict")]
    ray = [str(Path(sys.executable).with_name("ray")), "start", "--num-cpus", "1", "--object-store-memory", "80000000"]
    ray += ["--block", "--disable-usage-stats"]
    with hosts(3) as network:
        for host, log in zip((1, 2, 3), logs, strict=False):
            head = ["--head", "--port", "6379", "--include-dashboard", "false", "--temp-dir", f"/tmp/ray{os.getpid()}"]
            role = head if host == 1 else ["--address", CLUSTER]
            network.start(host, [*ray, *role, "--node-ip-address", Hosts.address(host)], log, **QUICKLY)
            wait(f"Ray on host {host}", logs, lambda log=log: "Ray runtime started" in log.read_text())
        words = [model, str(table), str(out), "ray", str(SHARD_ROWS)]
        variables = {**QUICKLY, "RAY_ADDRESS": CLUSTER}
        predict = network.start(1, [sys.executable, "-c", PREDICT, *words], logs[3], **variables)
        partial = out.with_name(f".{out.name}.partial")
        wait("12 shards", logs, lambda: len(list(partial.glob("part-*"))) >= 12)
        network.cut_off(3)
        wait("the end of the prediction", logs, lambda: predict.poll() is not None)
        assert predict.returncode == 0, logs[3].read_text()
    assert_complete(out, str(table), model)
