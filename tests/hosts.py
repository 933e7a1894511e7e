"""Hosts of their own addresses on this machine: network namespaces, joined by a switch, that go with the test."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


def why_not() -> str:
    """Why there are no hosts here; empty where there are."""
    if "FASTGRU_TEST_MACHINES" not in os.environ:
        return "takes minutes: make machines"
    if shutil.which("ip") is None:
        return "the command ip (iproute2) is not installed"
    name = f"fastgru-{os.getpid()}-try"
    made = _ip("netns", "add", name)
    _ip("netns", "del", name)
    return f"network namespaces cannot be made: {made.stderr.strip()}" if made.returncode else ""


def _ip(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)


class Hosts:
    """Hosts 1 to `count`: `10.77.0.N` at `eth0` of the namespace N, all at one switch, which has its own."""

    def __init__(self, count: int) -> None:
        self.names = [f"fastgru-{os.getpid()}-{number}" for number in range(count + 1)]  # the first is the switch
        self.started: list[subprocess.Popen[str]] = []
        switch = self.names[0]
        self._do("netns", "add", switch)
        self._do("-n", switch, "link", "add", "bridge", "type", "bridge")
        self._do("-n", switch, "link", "set", "bridge", "up")
        for number, name in enumerate(self.names[1:], start=1):
            port = f"port{number}"
            self._do("netns", "add", name)
            self._do("-n", name, "link", "set", "lo", "up")
            self._do("-n", switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
            self._do("-n", switch, "link", "set", port, "master", "bridge", "up")
            self._do("-n", name, "address", "add", f"{self.address(number)}/24", "dev", "eth0")
            self._do("-n", name, "link", "set", "eth0", "up")

    @staticmethod
    def address(host: int) -> str:
        return f"10.77.0.{host}"

    def start(self, host: int, command: Sequence[str], log: Path, **variables: str) -> subprocess.Popen[str]:
        """Start a command on a host, in a process group of its own; what it says goes to `log`."""
        environment = {**os.environ, "GLOO_SOCKET_IFNAME": "eth0", "OMP_NUM_THREADS": "1", **variables}
        with log.open("a") as file:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.names[host], *command],
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def cut_off(self, host: int) -> None:
        """Take a host's cable out."""
        self._do("-n", self.names[0], "link", "set", f"port{host}", "down")

    def join(self, host: int) -> None:
        """Put it back."""
        self._do("-n", self.names[0], "link", "set", f"port{host}", "up")

    def processes(self, host: int) -> list[int]:
        """The processes that run on a host."""
        return [int(word) for word in _ip("netns", "pids", self.names[host]).stdout.split()]

    def stop(self, process: subprocess.Popen[str]) -> None:
        """Kill what was started, with its children that are of its process group."""
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def close(self) -> None:
        for process in self.started:
            self.stop(process)
        for host in range(1, len(self.names)):
            for process_id in self.processes(host):
                with suppress(ProcessLookupError):
                    os.kill(process_id, signal.SIGKILL)
        for name in self.names:
            _ip("netns", "del", name)

    def _do(self, *arguments: str) -> None:
        done = _ip(*arguments)
        if done.returncode:
            raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr}")


@contextmanager
def hosts(count: int) -> Iterator[Any]:
    """Make hosts, and take them away with all that runs on them."""
    made = Hosts.__new__(Hosts)
    try:
        made.__init__(count)  # type: ignore[misc]
        yield made
    finally:
        made.close()
