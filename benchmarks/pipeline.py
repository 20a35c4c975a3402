"""`python -m benchmarks.pipeline`: what each stage costs, and what its choices buy, on one thread."""

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from benchmarks.scenes import crowds, labelled, scene_jpeg
from services.api.settings import Settings
from shared.analysis import Options
from shared.analyzer import Analyzer
from shared.assembly import available_detectors, open_analyzer
from shared.pictures import ImageLimits
from shared.pipeline.decode import decode

SIZES = ((350, 350), (640, 480), (1280, 720), (1920, 1080), (4032, 3024))


def milliseconds(function: Callable[[], object], at_least_s: float = 1.0) -> float:
    """Median time of one call, in ms."""
    function()
    times: list[float] = []
    while sum(times) < at_least_s or len(times) < 5:
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return float(np.median(times)) * 1000


def main() -> None:
    """Print a table; the last column is the ratio to the first row of each block."""
    cv2.setNumThreads(1)
    settings = Settings()
    analyzers = {
        name: open_analyzer(settings.model, name, settings.detector_files)
        for name in reversed(available_detectors(settings.detector_files))
    }
    manifest, classifier = analyzers["haar"].manifest, analyzers["haar"].classifier
    small, large = scene_jpeg(640, 480), scene_jpeg(4032, 3024)
    limits = ImageLimits()
    everything = dataclasses.replace(limits, target_side_px=limits.max_side_px)

    print(f"one thread of {os.cpu_count()} CPUs; {manifest.name} {manifest.version} ({manifest.precision})")
    block(
        "decode 12 megapixels", {"whole": lambda: decode(large, everything), "reduced": lambda: decode(large, limits)}
    )
    picture = decode(small, limits).pixels
    block("detect, 640x480", {n: lambda a=a: a.detector.detect(picture, 0.6) for n, a in analyzers.items()})  # type: ignore[misc] # bound now
    faces = np.random.default_rng(0).random((32, manifest.input.size_px, manifest.input.size_px, 1), np.float32)
    block(
        "classify, a face",
        {f"{n} in a batch": lambda n=n: classifier.classify(faces[:n]) for n in (1, 4, 32)},  # type: ignore[misc] # bound now
        per={"4 in a batch": 4, "32 in a batch": 32},
    )
    block("the whole way, 640x480", {n: lambda a=a: a.analyze(small, Options()) for n, a in analyzers.items()})  # type: ignore[misc] # bound now
    growth(analyzers[next(reversed(analyzers))], limits)
    print(f"memory of this process: {resident_mb():.0f} MB")


def cpu_ms(function: Callable[[], object]) -> float:
    """The least CPU time of 15 calls, in ms: other programs on the same cores make it larger, never smaller."""
    times = []
    for _ in range(15):
        started = time.thread_time()
        function()
        times.append(time.thread_time() - started)
    return min(times) * 1000


def growth(analyzer: Analyzer, limits: ImageLimits) -> None:
    """Print the CPU time of each stage for larger pictures and for more faces."""
    one = labelled(Path("no folder"))
    cases = {f"{width}x{height}": scene_jpeg(width, height) for width, height in SIZES}
    cases |= {f"1280x720, {n} faces": crowds(one, n)[n - 1].data for n in (2, 3, 5)}
    print(f"\n{analyzer.detector.name}, ms of CPU{'':5}{'decode':>9}{'detect':>9}{'crop, classify':>16}{'all':>9}")
    for name, data in cases.items():
        pixels = decode(data, limits).pixels
        decoding = cpu_ms(lambda data=data: decode(data, limits))  # type: ignore[misc] # bound now
        detecting = cpu_ms(lambda pixels=pixels: analyzer.detector.detect(pixels, 0.6))  # type: ignore[misc] # bound now
        whole = cpu_ms(lambda data=data: analyzer.analyze(data, Options()))  # type: ignore[misc] # bound now
        print(f"  {name:18}{decoding:9.2f}{detecting:9.2f}{whole - decoding - detecting:16.2f}{whole:9.2f}")


def block(title: str, cases: dict[str, Callable[[], object]], per: dict[str, int] | None = None) -> None:
    """Print one comparison."""
    print(f"\n{title}")
    first = None
    for name, case in cases.items():
        cost = milliseconds(case) / (per or {}).get(name, 1)
        first = first or cost
        print(f"  {name:16} {cost:9.2f} ms   x{cost / first:.2f}")


def resident_mb() -> float:
    """Resident memory of this process in megabytes (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
