"""Logs that nobody reads, disks that are full, models that never load: the service runs all the same."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

from tests.conftest import ROOT, SHIPPED_MODEL, running_process
from tests.services.api.hostile import Client, free_port, head, limited, patience, problem_of, start


def test_a_log_that_nobody_reads_stops_nothing(jpeg: bytes) -> None:
    with running_process(stderr=subprocess.PIPE, workers=1, detect_side_px=320) as (url, process):
        client = Client(url, process)
        for number in range(600):
            client.ask("GET", f"/nothing/{'x' * 200}/{number}")
        assert client.ask("GET", "/livez")[0] == 200
        assert client.predict(jpeg) == 200
        assert process.stderr is not None
        process.stderr.close()


def test_a_model_that_never_loads_hides_neither_livez_nor_the_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "manifest.json")
    port = free_port()
    process = start({"MIEN_MODEL": str(tmp_path), "MIEN_PORT": str(port), "MIEN_DETECTOR": "haar"})
    client = Client(f"http://127.0.0.1:{port}", process)
    try:
        deadline = time.monotonic() + 20 * patience()
        while True:
            with contextlib.suppress(OSError):
                assert client.ask("GET", "/livez")[0] == 200
                break
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert client.ask("GET", "/readyz")[0] == 503
        process.terminate()
        assert process.wait(timeout=15) == 0
    finally:
        process.kill()


def test_a_full_disk_behind_stdout_does_not_prevent_the_start() -> None:
    port = free_port()
    with Path("/dev/full").open("w") as full:
        process = start(
            {"MIEN_PORT": str(port), "MIEN_MODEL": str(SHIPPED_MODEL), "MIEN_DETECTOR": "haar"},
            stdout=full,
            stderr=full,
        )
    client = Client(f"http://127.0.0.1:{port}", process)
    try:
        client.wait_until_ready()
        process.terminate()
        assert process.wait(timeout=15) == 0
    finally:
        process.kill()


def test_a_crowd_beyond_the_descriptors_is_logged_once_a_second(jpeg: bytes) -> None:
    with limited("-n 128", workers=1, stderr=subprocess.PIPE) as client:
        started = time.monotonic()
        crowd = [client.raw(b"") for _ in range(500)]
        time.sleep(2)
        for connection in crowd:
            connection.close()
        client.wait_until_ready()
        lasted = time.monotonic() - started
        assert client.predict(jpeg) == 200
        client.process.terminate()
        said = client.process.communicate(timeout=30)[1]
    refusals = [line for line in said.splitlines() if '"level": "info"' not in line]
    assert any("connections are refused: all 64 are open" in line for line in refusals)
    assert len(refusals) <= 3 * (lasted + 2)
    assert client.process.returncode == 0


def test_a_worker_has_no_more_memory_than_was_reserved() -> None:
    """Whatever a file says of itself: a decoder that wants more is refused it."""
    script = """
import numpy as np
from services.api.worker import MemoryBound

bound = MemoryBound()
for allowed in (10_000_000, 600_000_000, 10_000_000):
    bound.allow(allowed)
    try:
        print(np.ones(500_000_000, np.uint8).nbytes)
    except MemoryError:
        print("refused")
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["refused", "500000000", "refused"]


def test_an_upload_that_the_stop_cuts_short_is_told() -> None:
    with running_process(workers=1, stop_timeout_s=0.5) as (url, process):
        connection = Client(url, process).raw(head("/predict", 9000) + b"\xff\xd8\xff")
        time.sleep(0.3)
        process.terminate()
        problem = problem_of(connection)
        assert (problem["status"], problem["code"]) == (503, "not_ready")
        assert process.wait(timeout=20) == 0


def test_a_setting_that_is_not_text_is_named() -> None:
    process = start({"MIEN_HOST": "\udcff"}, stderr=subprocess.PIPE)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 2
    assert said.strip() == "error: MIEN_HOST is not valid UTF-8."
