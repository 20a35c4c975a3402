"""`python -m benchmarks.archive PHOTOS`: archives against the bare pipeline, as ratios within this run; and memory on long films."""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from fractions import Fraction
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Literal

import av
import cv2
import numpy as np

from benchmarks.scenes import scene_jpeg
from services.api.settings import Settings
from services.batch.job import Job
from services.batch.plan import extend_plan, shards
from services.batch.scoring import Scorer
from services.batch.sources import kind_of, list_sources
from services.batch.storage import Output
from shared.analysis import Options
from shared.analyzer import Analyzer
from shared.assembly import open_analyzer
from shared.pictures import BgrImage, ImageLimits
from shared.pipeline.decode import decode


def analyzer() -> Analyzer:
    cv2.setNumThreads(1)
    settings = Settings()
    return open_analyzer(settings.model, settings.detector, settings.detector_files)


def bare(paths: list[str], ready: Barrier, cpu: "Queue[float]") -> None:
    """Read each file and analyze it, and nothing else."""
    os.nice(15)  # as Ray's workers: the machine's other work must not favour either
    pipeline = analyzer()
    pipeline.analyze(Path(paths[0]).read_bytes(), Options())
    ready.wait()
    before = time.process_time()
    for path in paths:
        pipeline.analyze(Path(path).read_bytes(), Options())
    cpu.put(time.process_time() - before)


def bare_rate(paths: list[str], cores: int) -> tuple[float, float]:
    """Photos a second of as many processes as cores, without their start; and CPU seconds per photo."""
    ready = multiprocessing.Barrier(cores + 1)
    cpu: Queue[float] = multiprocessing.Queue()
    workers = [multiprocessing.Process(target=bare, args=(paths[n::cores], ready, cpu)) for n in range(cores)]
    for worker in workers:
        worker.start()
    ready.wait()
    started = time.perf_counter()
    spent = sum(cpu.get() for _ in workers)
    took = time.perf_counter() - started
    for worker in workers:
        worker.join()
    return len(paths) / took, spent / len(paths)


def score(source: Path, out: Path, cores: int) -> list[dict[str, float]]:
    """The manifests of a job's shards, in the order in which they were finished."""
    command = [sys.executable, "-m", "services.batch", "score", str(source), "--out", str(out), "--cpus", str(cores)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    files = sorted((out / "shards").glob("*.json"), key=lambda path: path.stat().st_mtime)
    return [json.loads(path.read_text()) | {"at": path.stat().st_mtime} for path in files]


def archive_rate(folder: Path, out: Path, cores: int) -> tuple[float, float, float]:
    """Photos a second from the first worker's beginning to the last shard; CPU seconds per photo; the whole command's rate."""
    started = time.time()
    scored = score(folder, out, cores)
    took = time.time() - started
    began = min(shard["at"] - shard["seconds"] for shard in scored)
    done = sum(shard["sources"] for shard in scored)
    return done / (scored[-1]["at"] - began), sum(shard["cpu_seconds"] for shard in scored) / done, done / took


def film(path: Path, frames: int, picture: BgrImage | None = None, codec: Literal["mpeg4", "h264"] = "mpeg4") -> Path:
    """A film of `picture`, by default a small face, that moves."""
    if picture is None:
        scene = decode(scene_jpeg(512, 512), ImageLimits()).pixels
        picture = np.asarray(cv2.resize(scene[:256, 90:346], (96, 96)), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt = "yuv420p"
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.roll(picture, number % 9, axis=1), format="bgr24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def many(photos: Iterable[Path], folder: Path, count: int) -> list[str]:
    """`count` files in `folder`, links to `photos` again and again."""
    folder.mkdir()
    photos = list(photos)
    for number in range(count):
        photo = photos[number % len(photos)].resolve()
        (folder / f"{number:06d}{photo.suffix}").symlink_to(photo)
    return [str(path) for path in sorted(folder.iterdir())]


def costs(work: Path, count: int) -> None:
    """Print what a picture of each kind costs: CPU time of one worker, with reading and decoding."""
    reader = analyzer()
    kinds: list[tuple[str, Path, Job]] = []
    for width, height in ((350, 350), (4000, 3000)):
        folder = work / f"{width}x{height}"
        folder.mkdir()
        for number in range(count if width < 1000 else count // 10):
            (folder / f"{number:06d}.jpg").write_bytes(scene_jpeg(width, height))
        kinds.append((f"a photo of {width}x{height}", folder, Job()))
    for width, height in ((640, 480), (1280, 720)):
        picture = decode(scene_jpeg(width, height), ImageLimits(target_side_px=width)).pixels
        path = film(work / f"{width}.mp4", count, picture, "h264")
        kinds.append((f"a frame of {width}x{height}", path, Job()))
        kinds.append((f"a frame of {width}x{height} with --every 0.2s", path, Job(every_s=0.2)))
    for number, (name, source, job) in enumerate(kinds):
        output = Output.at(str(work / f"cost{number}"))
        extend_plan(output, list_sources([str(source)]))
        done = pictures = 0.0
        for shard in shards(output):
            Scorer(job, output, reader).score(shard)
            manifest = output.read_json(shard.manifest)
            done, pictures = done + manifest["cpu_seconds"], pictures + manifest["pictures"]
        print(f"  {name:42} {done / pictures * 1000:6.1f} ms of CPU   {3600 * pictures / done:9,.0f} an hour of a core")


def main() -> None:
    """Print rates and memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path, help="a folder of photos")
    parser.add_argument("--count", type=int, default=2000, help="photos to score, the folder's again and again")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--frames", type=int, nargs="*", default=[2000, 20000], help="films to compare memory on")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        photos = sorted(path for path in options.photos.iterdir() if kind_of(path.name) == "photo")
        paths = many(photos, work / "in", options.count)
        model = analyzer().model
        print(f"{options.count} photos on {options.cores} cores; {model.name} {model.version}, {model.detector}")
        alone, ours = [], []
        for turn in range(options.turns):  # in turns, since a machine's speed varies
            alone.append(bare_rate(paths, options.cores))
            ours.append(archive_rate(work / "in", work / f"out{turn}", options.cores))
        (rate, cpu), (steady, spent, whole) = np.median(alone, axis=0), np.median(ours, axis=0)
        print(
            f"  bare pipeline, one process per core {rate:7.1f}/s   x1.00   {cpu * 1000:6.2f} ms of CPU a photo  x1.00"
        )
        print(
            f"  archive, first photo to last shard  {steady:7.1f}/s   x{steady / rate:.2f}   {spent * 1000:6.2f} ms of CPU a photo  x{spent / cpu:.2f}"
        )
        print(f"  the whole command, with Ray's start {whole:7.1f}/s   x{whole / rate:.2f}")
        costs(work, 150)
        held = []
        for frames in options.frames:
            (shard,) = score(film(work / f"{frames}.mp4", frames), work / f"out{frames}", 1)
            held.append(shard["peak_memory_mb"])
            print(
                f"  a film of {frames:6d} frames: {frames / shard['seconds']:6.1f} frames/s, worker's peak {held[-1]:.0f} MB   x{held[-1] / held[0]:.2f}"
            )


if __name__ == "__main__":
    main()
