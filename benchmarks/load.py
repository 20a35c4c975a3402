"""`python -m benchmarks.load`: a real server under one client and under many; ratios to the one."""

import argparse
import threading
import time

import httpx2
import numpy as np

from benchmarks.scenes import scene_jpeg
from benchmarks.server import memory_mb, server


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
        print(f"memory of the server afterwards: {memory_mb(url):.0f} MB")


if __name__ == "__main__":
    main()
