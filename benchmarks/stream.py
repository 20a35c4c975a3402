"""`python -m benchmarks.stream`: video sessions against a real server; every figure is a ratio within this run."""

import argparse
import asyncio
import io
import itertools
import json
import os
import time
from collections import defaultdict
from dataclasses import dataclass, field

import cv2
import httpx2
import numpy as np
from PIL import Image
from websockets.asyncio.client import connect

from benchmarks.pipeline import milliseconds
from benchmarks.scenes import scene_jpeg
from benchmarks.server import memory_mb, metric, server, server_cpu_s
from services.api.cpus import available_cpus
from services.api.settings import Settings
from shared.analysis import Options
from shared.analyzer import Analyzer
from shared.assembly import open_analyzer
from shared.pictures import ImageLimits
from shared.pipeline.decode import decode
from shared.tracking import Tracker

SESSIONS = 8
OVERLOAD = 3


@dataclass(slots=True)
class Client:
    """What one session saw: lags in ms, frames sent, answered and dropped."""

    lags: list[float] = field(default_factory=list)
    sent: int = 0
    dropped: int = 0


async def session(url: str, frame: bytes, a_second: float, seconds: float) -> Client:
    """Send `frame` so often for so long, whatever is answered."""
    client = Client()
    sent_at: dict[int, float] = {}
    async with connect(url, compression=None, max_size=None) as socket:
        await socket.recv()
        end = time.perf_counter() + seconds

        async def read() -> None:
            async for text in socket:
                answer = json.loads(text)
                client.lags.append((time.perf_counter() - sent_at[answer["frame"]]) * 1000)
                client.dropped += answer["dropped"]

        reader = asyncio.create_task(read())
        due = time.perf_counter()
        while time.perf_counter() < end:
            client.sent += 1
            sent_at[client.sent] = time.perf_counter()
            await socket.send(frame)
            due += 1 / a_second
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await asyncio.sleep(1.5)
        reader.cancel()
    return client


def one_session(url: str, frame: bytes, seconds: float) -> None:
    """One webcam: whether every frame is answered, and how much later than by /predict."""
    times = []
    with httpx2.Client() as http:
        for _ in range(60):
            started = time.perf_counter()
            http.post(f"{url}/predict", content=frame, headers={"Content-Type": "image/jpeg"}).raise_for_status()
            times.append((time.perf_counter() - started) * 1000)
            time.sleep(1 / 15)
    predict = float(np.median(times[10:]))
    client = asyncio.run(session(stream_url(url), frame, 15, seconds))
    p50, p95 = np.percentile(client.lags, [50, 95])
    print("\none session, 640x480 at 15 frames a second")
    print(f"  answered {len(client.lags)} of {client.sent}, dropped {client.dropped}")
    print(f"  /predict, unloaded {predict:7.1f} ms   x1.00")
    print(f"  lag p50            {p50:7.1f} ms   x{p50 / predict:.2f}")
    print(f"  lag p95            {p95:7.1f} ms   x{p95 / predict:.2f}")


def many_sessions(url: str, frame: bytes, seconds: float) -> None:
    """Eight sessions that offer three times what the machine can do: shares, lag, drops, memory."""
    analyzer = served_analyzer()
    work = milliseconds(lambda: analyzer.analyze(frame, Options()))
    workers = Settings().workers or available_cpus()
    a_second = workers * 1000 / work * OVERLOAD / SESSIONS

    async def all_of_them(seconds: float) -> list[Client]:
        return list(
            await asyncio.gather(*(session(stream_url(url), frame, a_second, seconds) for _ in range(SESSIONS)))
        )

    asyncio.run(all_of_them(2))
    memory = memory_mb()
    clients = asyncio.run(all_of_them(seconds))
    answered = np.array([len(client.lags) for client in clients])
    lag = float(np.percentile([value for client in clients for value in client.lags], 95))
    turn = SESSIONS * seconds * 1000 / answered.sum()  # how long one frame of every session takes
    sent, dropped = sum(client.sent for client in clients), sum(client.dropped for client in clients)
    print(f"\n{SESSIONS} sessions, {a_second:.0f} frames a second each: {OVERLOAD} times what {workers} workers can do")
    print(f"  answered {answered.sum()} of {sent}, dropped {dropped}")
    print(f"  each session's share, relative to the mean: {(answered / answered.mean()).round(2).tolist()}")
    print(f"  one frame of every session {turn:7.1f} ms   x1.00")
    print(f"  lag p95                    {lag:7.1f} ms   x{lag / turn:.2f}")
    print(f"  memory {memory:.0f} MB before, {memory_mb():.0f} MB after: x{memory_mb() / memory:.2f}")
    print(f"  the server counted {metric(url, 'mien_stream_frames_dropped_total', reason='newer'):.0f} dropped frames")


def smoothing(seconds: float) -> None:
    """A face that does not change, with noise and jitter: how often the shown emotion changes, raw and smoothed."""
    analyzer, rng = served_analyzer(), np.random.default_rng(0)
    picture = decode(scene_jpeg(640, 480), ImageLimits()).pixels
    face = cv2.GaussianBlur(picture, (0, 0), 4)  # as out of focus: two emotions are close, and noise decides
    tracker, seen = Tracker(Settings().smoothing_ms / 1000), defaultdict(list)
    for number in range(int(seconds * 30)):
        shifted = np.roll(face, rng.integers(-3, 4, 2), axis=(0, 1)).astype(np.float32)
        noisy = np.clip(shifted * rng.uniform(0.8, 1.1) + rng.normal(0, 14, face.shape), 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noisy[:, :, ::-1]).save(buffer, "JPEG", quality=60)
        for tracked in tracker.update(analyzer.analyze(buffer.getvalue(), Options()).faces, number / 15):
            seen[tracked.id].append((tracked.face.emotion, tracked.emotion))
    longest = max(seen.values(), key=len)
    raw, shown = (sum(a != b for a, b in itertools.pairwise(values)) for values in zip(*longest, strict=True))
    print(f"\nsmoothing, {len(longest)} noisy frames of one still face")
    print(f"  changes of the raw top emotion   {raw:4d}   x1.00")
    print(f"  changes of the shown emotion     {shown:4d}   x{shown / max(raw, 1):.2f}")


def webcams_a_core(frame: bytes, seconds: float) -> None:
    """How many webcams of 640x480 at 15 frames a second one core follows; the clients are on the other cores."""
    first, *others = sorted(os.sched_getaffinity(0))
    print(
        f"\nwebcams on one core, 640x480 at 15 frames a second{'':4}answered   lag p50  p95 ms  CPU a frame, ms  webcams"
    )
    with server(core=first, MIEN_WORKERS="1") as url:
        os.sched_setaffinity(0, others or [first])

        async def all_of_them(number: int) -> list[Client]:
            return list(await asyncio.gather(*(session(stream_url(url), frame, 15, seconds) for _ in range(number))))

        for number in (1, 2, 4, 6, 8, 10):
            cpu = server_cpu_s()
            clients = asyncio.run(all_of_them(number))
            cpu_s = server_cpu_s() - cpu
            lags = [lag for client in clients for lag in client.lags]
            p50, p95 = np.percentile(lags, [50, 95])
            answered = len(lags) / sum(client.sent for client in clients)
            print(f"{number:8}{'':45}{answered:9.1%}{p50:10.1f}{p95:8.1f}", end="")
            print(f"{cpu_s / len(lags) * 1000:17.2f}{len(lags) / cpu_s / 15:9.1f}")
        os.sched_setaffinity(0, [first, *others])


def served_analyzer() -> Analyzer:
    """The analyzer of the environment's model and detector."""
    settings = Settings()
    return open_analyzer(settings.model, settings.detector, settings.detector_files)


def stream_url(url: str) -> str:
    """Where the same server streams."""
    return url.replace("http", "ws", 1) + "/stream"


def main() -> None:
    """Print every comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15)
    seconds = parser.parse_args().seconds
    frame = scene_jpeg(640, 480)
    with server() as url:
        one_session(url, frame, seconds)
        many_sessions(url, frame, seconds)
    smoothing(seconds)
    webcams_a_core(frame, seconds / 3)


if __name__ == "__main__":
    main()
