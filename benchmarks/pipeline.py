"""`python -m benchmarks.pipeline`: what each stage costs, and what its choices buy, on one thread."""

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from benchmarks.scenes import scene_jpeg
from services.api.settings import Settings
from shared.analyzer import Options
from shared.assembly import available_detectors, open_analyzer
from shared.pipeline.decode import ImageLimits, decode


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
    print(f"memory of this process: {resident_mb():.0f} MB")


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
