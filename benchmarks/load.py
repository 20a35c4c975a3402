"""`python -m benchmarks.load`: a real server under load, beside the bare pipeline; every ratio is within this run."""

import argparse
import asyncio
import heapq
import math
import os
import random
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.client import Outcome, closed_loop, open_loop, percentiles, request, run_loop
from benchmarks.scenes import pictures, scene_jpeg
from benchmarks.server import memory_mb, server, server_cpu_s
from services.api.cpus import available_cpus
from services.api.service import assembly_of
from services.api.settings import Settings
from services.api.worker import open_and_check
from shared.analysis import Options
from shared.analyzer import Analyzer

CLIENTS = (1, 2, 4, 16, 64)
TURNS = 3


def opened_analyzer() -> Analyzer:
    """The analyzer that a worker of the service has."""
    analyzer, answer = open_and_check(assembly_of(Settings()))
    assert analyzer is not None, answer
    return analyzer


@dataclass(frozen=True, slots=True)
class Rate:
    """Images a second on the clock, and CPU time for each in ms."""

    a_second: float
    cpu_ms: float


def bare(images: Sequence[bytes], threads: int, seconds: float) -> Rate:
    """The pipeline alone, called by so many threads."""
    analyzer, done = opened_analyzer(), [0] * threads
    analyzer.analyze(images[0], Options())
    cpu, end = time.process_time(), time.perf_counter() + seconds

    def work(number: int) -> None:
        while time.perf_counter() < end:
            analyzer.analyze(images[done[number] % len(images)], Options())
            done[number] += 1

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return Rate(sum(done) / seconds, (time.process_time() - cpu) / sum(done) * 1000)


def served(url: str, requests: Sequence[bytes], clients: int, seconds: float) -> tuple[Outcome, Rate]:
    """The same over HTTP, in a closed loop; the CPU time is the server's."""
    cpu = server_cpu_s()
    outcome = closed_loop(url, requests, clients, seconds)
    return outcome, Rate(outcome.a_second, (server_cpu_s() - cpu) / max(len(outcome.answered), 1) * 1000)


def middle(rates: Sequence[Rate]) -> Rate:
    """The medians: other programs disturb some turns."""
    return Rate(statistics.median(r.a_second for r in rates), statistics.median(r.cpu_ms for r in rates))


def against_bare(url: str, images: Sequence[bytes], threads: int, seconds: float) -> float:
    """Print rates of closed loops beside the bare pipeline's, taken in turns; the best rate."""
    requests = [request("/predict", image) for image in images]
    alone: dict[int, list[Rate]] = {1: [], threads: []}
    loops: dict[int, list[tuple[Outcome, Rate]]] = {clients: [] for clients in CLIENTS}
    for _ in range(TURNS):
        for number in alone:
            alone[number].append(bare(images, number, seconds / TURNS))
        for clients in CLIENTS:
            loops[clients].append(served(url, requests, clients, seconds / TURNS))
    rates = {number: middle(values) for number, values in alone.items()}
    for number, rate in rates.items():
        print(
            f"bare pipeline, {number} thread{'s' * (number > 1)}: {rate.a_second:7.1f} /s, {rate.cpu_ms:.2f} ms of CPU"
        )
    print(f"{'clients':>8}{'answers/s':>11}{'of bare':>9}{'p50 ms':>9}{'p99 ms':>9}{'refused':>9}", end="")
    print(f"{'CPU ms':>9}{'of bare':>9}{'client':>8}")
    best = 0.0
    for clients, turns in loops.items():
        rate, alike = middle([rate for _, rate in turns]), rates[min(clients, threads)]
        outcome = sorted((outcome for outcome, _ in turns), key=lambda outcome: outcome.a_second)[TURNS // 2]
        p50, p99 = outcome.answered_ms(50, 99)
        print(f"{clients:8}{rate.a_second:11.1f}{rate.a_second / alike.a_second:9.2f}{p50:9.1f}{p99:9.1f}", end="")
        print(f"{len(outcome.refused):9}{rate.cpu_ms:9.2f}{alike.cpu_ms / rate.cpu_ms:9.2f}{outcome.client_share:8.1%}")
        best = max(best, rate.a_second)
    return best


def ideal(times_s: Sequence[float], servers: int, a_second: float) -> float:
    """p99/p50 of a queue that costs nothing: so many servers, requests at random times, each answered in turn."""
    free, now, waits, gaps = [0.0] * servers, 0.0, list[float](), random.Random(0)  # noqa: S311 # arrivals
    for number in range(300_000):
        now += gaps.expovariate(a_second)
        end = max(now, free[0]) + times_s[number % len(times_s)]
        heapq.heapreplace(free, end)
        waits.append(end - now)
    p50, p99 = percentiles(waits, 50, 99)
    return p99 / p50


def work_s(images: Sequence[bytes], servers: int, peak: float) -> list[float]:
    """How long each picture takes one of `servers` that answer `peak` a second: the pipeline's times, scaled."""
    analyzer, times = opened_analyzer(), [math.inf] * len(images)
    for _ in range(3):
        for number, image in enumerate(images):
            started = time.perf_counter()
            analyzer.analyze(image, Options())
            times[number] = min(times[number], time.perf_counter() - started)
    return [one * servers / peak / statistics.mean(times) for one in times]


def at_rates(url: str, requests: Sequence[bytes], peak: float, seconds: float, alone_s: Sequence[float]) -> None:
    """Open loop: requests that come at random times, whatever is answered; beside a queue without costs."""
    print(f"\nopen loop, requests at random times; latency from when each was due; peak {peak:.0f} /s")
    print(
        f"{'of peak':>8}{'p50':>8}{'p90':>8}{'p99':>8}{'p99.9':>8} ms{'p99/p50':>9}{'ideal':>7}{'refused':>9}{'lost':>6}"
    )
    threads = Settings().workers or available_cpus()
    for share in (0.5, 0.8, 0.95):
        outcome = open_loop(url, requests, peak * share, seconds)
        p50, p90, p99, p999 = outcome.answered_ms(50, 90, 99, 99.9)
        print(
            f"{share:8.0%}{p50:8.1f}{p90:8.1f}{p99:8.1f}{p999:8.1f}   {p99 / p50:9.1f}"
            f"{ideal(alone_s, threads, peak * share):7.1f}{len(outcome.refused):9}{outcome.lost:6}"
        )


def overload(url: str, requests: Sequence[bytes], peak: float, seconds: float) -> None:
    """More than can be answered, from clients that ignore Retry-After, while another asks /livez."""
    print(f"\noverload: {'offered':>9}{'answered':>10}{'of peak':>9}{'refusal p50':>13}{'p99 ms':>8}{'/livez p99':>12}")
    for times in (2, 10):
        with watching(url) as lives:
            outcome = open_loop(url, requests, peak * times, seconds)
        p50, p99 = percentiles(outcome.refused, 50, 99)
        print(
            f"{'':10}{f'{times} x peak':>9}{len(outcome.answered) / seconds:10.1f}{outcome.a_second / peak:9.2f}"
            f"{p50:13.1f}{p99:8.1f}{percentiles(lives, 99)[0]:9.1f} ms   lost {outcome.lost}, "
            f"client {outcome.client_share:.0%} of a core"
        )


@contextmanager
def watching(url: str) -> Iterator[list[float]]:
    """Ask /livez ten times a second meanwhile; returns the latencies in ms."""
    stop, lives = threading.Event(), list[float]()

    async def look() -> None:
        while not stop.is_set():
            outcome = await asyncio.to_thread(closed_loop, url, [request("/livez")], 1, 0.001)
            lives.extend(outcome.answered)
            await asyncio.sleep(0.1)

    thread = threading.Thread(target=lambda: run_loop(look()))
    thread.start()
    try:
        yield lives
    finally:
        stop.set()
        thread.join()


def beside_huge_ones(url: str, requests: Sequence[bytes], peak: float, seconds: float) -> None:
    """Small pictures while clients in the background send pictures of 24 megapixels without pause."""
    huge = request("/predict", scene_jpeg(6000, 4000))
    one, one_99 = open_loop(url, requests, peak * 0.1, seconds).answered_ms(50, 99)
    print("\nsmall pictures at 10 % of the peak, beside clients that send pictures of 24 megapixels without pause")
    print(f"  none       p50 {one:6.1f} ms         p99 {one_99:6.1f} ms")
    for clients in (1, 8):
        thread = threading.Thread(target=closed_loop, args=(url, [huge], clients, seconds))
        thread.start()
        other, other_99 = open_loop(url, requests, peak * 0.1, seconds).answered_ms(50, 99)
        thread.join()
        print(
            f"  {clients} client{'s' * (clients > 1):1}  p50 {other:6.1f} ms x{other / one:4.1f}   "
            f"p99 {other_99:6.1f} ms x{other_99 / one_99:4.1f}"
        )


def two_against_one(requests: Sequence[bytes], seconds: float) -> None:
    """The service and this client on one core with one worker, and on two with two."""
    allowed = sorted(os.sched_getaffinity(0))
    print("\n16 clients; the service and they share the cores")
    rates = list[float]()
    for cores in range(1, min(len(allowed), 2) + 1):
        os.sched_setaffinity(0, allowed[:cores])
        try:
            with server(MIEN_WORKERS=str(cores)) as url:
                closed_loop(url, requests, 16, 0.5)
                rate = served(url, requests, 16, seconds)[1]
        finally:
            os.sched_setaffinity(0, allowed)
        rates.append(rate.a_second)
        print(
            f"  {cores} of the cores: {rate.a_second:6.1f} /s, {rate.cpu_ms:.2f} ms of CPU, x{rates[-1] / rates[0]:.2f}"
        )


def memory(url: str, images: Sequence[bytes], most: int) -> None:
    """Memory of the server while it answers mixed requests."""
    mixed = [
        *(request("/predict", image) for image in images[:16]),
        request("/predict", scene_jpeg(1920, 1080)),
        request("/predict", b"\xff\xd8\xff broken"),
        request("/predict?detect=false", images[0]),
    ]
    print("\nmemory, mixed requests")
    answered = 0
    while answered < most:
        outcome = closed_loop(url, mixed, 4, 5)
        answered += sum(map(len, outcome.by_status.values()))
        print(f"  after {answered:6} requests {memory_mb():6.0f} MB")
    time.sleep(2)  # a worker that has rested for a second gives memory back
    print(f"  after two seconds without any {memory_mb():4.0f} MB")


def main() -> None:
    """Print every comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, default=Path("photos"), help="a folder of JPEGs, where there is one")
    parser.add_argument("--seconds", type=float, default=9, help="seconds for each figure (%(default)s)")
    parser.add_argument("--requests", type=int, default=2000, help="mixed requests for the memory figures")
    options = parser.parse_args()
    images = pictures(options.photos)
    threads = Settings().workers or available_cpus()
    analyzer = opened_analyzer()
    print(f"{len(images)} pictures, {analyzer.detector.name}, {threads} workers, {os.cpu_count()} CPUs with the client")
    with server() as url:
        closed_loop(url, [request("/predict", images[0])], 4, 1)
        peak = against_bare(url, images, threads, options.seconds)
        requests = [request("/predict", image) for image in images]
        at_rates(url, requests, peak, options.seconds, work_s(images, threads, peak))
        overload(url, requests, peak, options.seconds)
        beside_huge_ones(url, requests, peak, options.seconds)
        memory(url, images, options.requests)
    two_against_one(requests, options.seconds / 2)


if __name__ == "__main__":
    main()
