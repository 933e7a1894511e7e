"""A training over three hosts of their own addresses: a process killed, a host cut off in an epoch and back later."""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hosts import Hosts, hosts, why_not
from task_data import write_reviews
from test_distributed_training import assert_same
from torchrun_training import build_without_dropout

from fastgru.training import train
from fastgru.training.tasks import TASKS

WHY_NOT = why_not()
pytestmark = [pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "there are hosts"), pytest.mark.timeout(900)]
OPTIONS = {"epochs": 8, "batch_size": 17, "lr": 0.03, "embedding_size": 8, "hidden_size": 6, "checkpoint_every": 2}
PORT = 29500
SILENCE = 15  # seconds after which a host counts as lost
PATIENCE = 240  # seconds to wait for anything: hosts start in half a minute where others use the machine


def command(host: int, data: str, out: Path) -> list[str]:
    """torchrun on one host, with two or three of them; the first has the rendezvous."""
    settings = f"is_host={int(host == 1)},last_call_timeout=5,keep_alive_interval=1,keep_alive_max_attempt=3"
    torchrun = ["--nnodes", "2:3", "--nproc-per-node", "1", "--max-restarts", "9", "--monitor-interval", "0.2"]
    torchrun += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{Hosts.address(1)}:{PORT}", "--rdzv-conf", settings]
    options = [word for name, value in OPTIONS.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    script = str(Path(__file__).with_name("machine_training.py"))
    trained = ["train", "classify", "--data", data, "--out", str(out), *options, "--resume"]
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        *torchrun,
        "--local-addr",
        Hosts.address(host),
        script,
        "0.2",
        *trained,
    ]


class Steps:
    """The steps that were done, in the order in which they began: number, size of the world, process."""

    def __init__(self, path: Path, logs: Sequence[Path]) -> None:
        self.path, self.logs = path, logs

    def done(self) -> list[tuple[int, int, int]]:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [tuple(map(int, line.split())) for line in lines if line.count(" ") == 2]  # type: ignore[misc]

    def wait(self, what: str, until: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE
        while not until():
            if time.monotonic() > end:
                said = "\n".join(f"{log.name}:\n{log.read_text()[-2000:]}" for log in self.logs if log.exists())
                pytest.fail(f"{what} did not come in {PATIENCE} s\n{said}")
            time.sleep(0.1)

    def wait_for(self, world: int, count: int) -> None:
        """Wait until a world of this size has done so many steps more than now."""
        known = len(self.done())
        self.wait(
            f"{count} steps of {world} hosts", lambda: sum(step[1] == world for step in self.done()[known:]) >= count
        )


def files(run: Path) -> list[str]:
    """All that lies in a run's folder, but for TensorBoard's files, of which each attempt adds one."""
    names = (str(path.relative_to(run)) for path in run.rglob("*"))
    return sorted(name for name in names if not name.startswith("tensorboard"))


def test_training_outlives_a_killed_process_and_a_host_that_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out, alone = write_reviews(tmp_path / "data.csv"), tmp_path / "run", tmp_path / "alone"
    with monkeypatch.context() as patch:
        patch.setattr(TASKS["classify"], "build_model", build_without_dropout(TASKS["classify"]))
        undisturbed = train("classify", alone, data=data, **OPTIONS)
    logs = [tmp_path / f"log{host}" for host in (1, 2, 3)]
    steps = Steps(tmp_path / "steps", logs)
    # torch keeps one store for all rounds of the rendezvous, where a restarted process may meet addresses of the last.
    own_store = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    variables = {"STEPS": str(steps.path), "FASTGRU_TIMEOUT": str(SILENCE), **own_store}
    with hosts(3) as network:

        def start(host: int) -> object:
            return network.start(host, command(host, data, out), logs[host - 1], **variables)

        first, second, third = (start(host) for host in (1, 2, 3))
        steps.wait_for(3, 3 * 8)  # into the second epoch
        on_second = set(network.processes(2))
        os.kill(next(process for _, _, process in reversed(steps.done()) if process in on_second), signal.SIGKILL)
        steps.wait_for(3, 3 * 4)
        before = max(number for number, _, _ in steps.done())
        network.cut_off(3)
        steps.wait_for(2, 2 * 2)
        assert min(number for number, world, _ in steps.done() if world == 2) >= before - 2  # the last checkpoint
        network.stop(
            third
        )  # as whoever looks after the host would, once it is back: torchrun still waits for the first
        network.join(3)
        back = start(3)
        steps.wait_for(3, 3 * 2)
        for process in (first, second, back):
            steps.wait("the end of the training", lambda process=process: process.poll() is not None)
            assert process.returncode == 0
        assert [network.processes(host) for host in (1, 2, 3)] == [[], [], []]
    assert_same(out, alone, loss=1.1e-6, weights=5e-7)
    assert len(undisturbed.log) == OPTIONS["epochs"]
    assert files(out) == files(alone)
