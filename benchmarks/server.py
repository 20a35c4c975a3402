"""A real server for benchmarks that need one."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
from prometheus_client.parser import text_string_to_metric_families


@contextmanager
def server(core: int | None = None, **settings: str) -> Iterator[str]:
    """The URL of a fresh server on a free port, on one core or all, with these settings beside the environment's."""
    started = time.perf_counter()
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    process = subprocess.Popen(
        [*pinned, sys.executable, "-m", "services.api"],
        env=os.environ | {"MIEN_PORT": "0"} | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        url = re.search(r"page (http://\S+?)/ ", process.stdout.readline())
        assert url, "the server did not start"
        httpx2.get(f"{url[1]}/readyz").raise_for_status()
        print(f"cold start to ready: {time.perf_counter() - started:.2f} s")
        yield url[1]
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def metric(url: str, name: str, **labels: str) -> float:
    """The value of one of the server's metrics."""
    for family in text_string_to_metric_families(httpx2.get(f"{url}/metrics").text):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                return float(sample.value)
    return 0.0


def memory_mb() -> float:
    """Memory of this process's servers and their workers in megabytes; what they share counts once (Linux)."""
    return sum(int(rollup.partition("\nPss:")[2].split()[0]) for rollup in _read("smaps_rollup")) * 1024 / 1e6


def server_cpu_s() -> float:
    """CPU time that this process's servers and their workers have taken until now (Linux).

    Per answer it is comparable even where other programs use the same cores, as times on the wall are not.
    """
    fields = (stat.rpartition(")")[2].split() for stat in _read("stat"))
    return sum(sum(map(int, field[11:15])) for field in fields) / os.sysconf("SC_CLK_TCK")


def _read(name: str) -> Iterator[str]:
    """What the system says under this name of each of this process's servers and their workers."""
    for pid in _servers():
        with suppress(OSError):  # ended just now
            yield Path(f"/proc/{pid}/{name}").read_text()


def _servers() -> set[int]:
    """The processes that this one has started, and theirs."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # ended since it was listed
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return ours - {os.getpid()}
