"""`python -m benchmarks.load`: a real server under one client and under many; ratios to the one."""

import argparse
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import numpy as np

from benchmarks.scenes import scene_jpeg


@contextmanager
def server() -> Iterator[str]:
    """The URL of a fresh server on a free port; prints how long it took to be ready."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "services.api"],
        env=os.environ | {"MIEN_PORT": "0"},
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
        for line in httpx2.get(f"{url[1]}/metrics").text.splitlines():
            if line.startswith("process_resident_memory_bytes"):
                print(f"memory of the server afterwards: {float(line.split()[1]) / 1e6:.0f} MB")
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def load(url: str, clients: int, seconds: float, image: bytes) -> tuple[float, float, float, int]:
    """Answers a second, p50 and p95 in ms, and refusals, of `clients` that each ask again when answered."""
    latencies: list[float] = []
    refused = 0
    lock, end = threading.Lock(), time.perf_counter() + seconds

    def client() -> None:
        nonlocal refused
        with httpx2.Client(timeout=30) as http:
            while time.perf_counter() < end:
                started = time.perf_counter()
                response = http.post(f"{url}/predict", content=image, headers={"Content-Type": "image/jpeg"})
                with lock:
                    if response.status_code == 200:
                        latencies.append((time.perf_counter() - started) * 1000)
                    else:
                        refused += 1

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    p50, p95 = np.percentile(latencies, [50, 95])
    return len(latencies) / seconds, float(p50), float(p95), refused


def main() -> None:
    """Print a line for each number of clients."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5)
    seconds = parser.parse_args().seconds
    image = scene_jpeg(640, 480)
    with server() as url:
        load(url, 1, 1, image)
        first = None
        print(f"{'clients':>8}{'answers/s':>11}{'ratio':>7}{'p50 ms':>9}{'p95 ms':>9}{'refused':>9}")
        for clients in (1, 2, 4, 16, 64):
            rate, p50, p95, refused = load(url, clients, seconds, image)
            first = first or rate
            print(f"{clients:8}{rate:11.1f}{rate / first:7.2f}{p50:9.1f}{p95:9.1f}{refused:9}")


if __name__ == "__main__":
    main()
