"""`python -m benchmarks.soak --minutes 60`: a service under mixed traffic, video and hostile clients; what became of it.

Prints a line for each interval, and at the end the answers by status, the slowest /livez and how the memory grew. Errors
of the service (5xx other than 503 and 504) or a /livez above half a second make the exit status 1.
"""

import argparse
import base64
import collections
import contextlib
import json
import random
import socket
import sys
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import httpx2
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from benchmarks.scenes import scene_jpeg
from benchmarks.server import memory_mb, server

_LIVEZ_LIMIT_S = 0.5


class Soak:
    """Clients in threads, and what they saw."""

    def __init__(self, url: str, rest_s: float) -> None:
        self.url, self.stop, self._rest_s = url, threading.Event(), rest_s
        self.statuses: collections.Counter[str] = collections.Counter()
        self.slowest_livez_s = 0.0
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 0)
        self._small, self._large = scene_jpeg(350, 350), scene_jpeg(4032, 3024)

    def run(self, clients: dict[Callable[[], None], int]) -> None:
        """Start so many threads of each client."""
        for client, count in clients.items():
            for _ in range(count):
                threading.Thread(target=self._again_and_again, args=(client,), daemon=True).start()

    def _again_and_again(self, client: Callable[[], None]) -> None:
        while not self.stop.is_set():
            with contextlib.suppress(OSError, httpx2.HTTPError, ConnectionClosed, TimeoutError):
                client()
            self.stop.wait(self._rest_s)

    def _post(self, path: str, **request: object) -> None:
        answer = httpx2.post(f"{self.url}{path}", timeout=30, **request)  # type: ignore[arg-type] # as httpx takes it
        self.statuses[f"{path} {answer.status_code}"] += 1

    def photos(self) -> None:
        """An honest client: mostly small photos, now and then a large one."""
        self._post("/predict", content=self._large if random.random() < 0.05 else self._small)  # noqa: S311 # no secret

    def forms(self) -> None:
        """Batches, drawings and JSON."""
        self._post("/predict/batch", files=[("files", self._small)] * 4)
        self._post("/predict/annotated", files={"file": self._small})
        self._post("/predict", json={"image": base64.b64encode(self._small).decode()})

    def film(self) -> None:
        """A session of some frames."""
        with connect(self.url.replace("http", "ws") + "/stream") as session:
            session.recv(timeout=20)
            for _ in range(50):
                session.send(self._small)
                self.statuses[f"/stream {json.loads(session.recv(timeout=20))['type']}"] += 1

    def broken(self) -> None:
        """Damaged files, and bodies that are none."""
        data = bytearray(self._small)
        for _ in range(20):
            data[random.randrange(len(data))] = random.randrange(256)  # noqa: S311 # no secret
        self._post("/predict", content=bytes(data))
        self._post(
            "/predict", content=b'{"image": "x"' + b',"a":0' * 100_000, headers={"Content-Type": "application/json"}
        )
        self._post("/predict", content=b"\xff\xd8" + b"\xff\xe1\x00\x08Exif\0\0" * 100_000)

    def stalling(self) -> None:
        """Announces much, sends little, reads nothing."""
        with socket.create_connection(self._address, timeout=30) as connection:
            connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n\xff\xd8")
            time.sleep(5)

    def livez(self) -> None:
        """Whether the service is still there."""
        started = time.perf_counter()
        httpx2.get(f"{self.url}/livez", timeout=30).raise_for_status()
        self.slowest_livez_s = max(self.slowest_livez_s, time.perf_counter() - started)
        time.sleep(0.2)


def main() -> int:
    """Run it, and print what became of the service."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--interval-s", type=float, default=30)
    parser.add_argument("--rest-s", type=float, default=0, help="rest of each client between its turns (%(default)s)")
    options = parser.parse_args()
    with server() as url:
        soak, memory = Soak(url, options.rest_s), []
        end = time.monotonic() + 60 * options.minutes
        soak.run({soak.photos: 2, soak.forms: 1, soak.film: 2, soak.broken: 1, soak.stalling: 8, soak.livez: 1})
        while time.monotonic() < end:
            time.sleep(min(options.interval_s, max(0.0, end - time.monotonic())))
            memory.append(memory_mb())
            livez_ms = soak.slowest_livez_s * 1000
            print(
                f"{soak.statuses.total():9,} answers, {memory[-1]:6.0f} MB, slowest /livez {livez_ms:6.0f} ms",
                flush=True,
            )
        soak.stop.set()
        time.sleep(2)
        for name, count in sorted(soak.statuses.items()):
            print(f"  {name:28}{count:9,}")
        half = len(memory) // 2
        growth = (sum(memory[half:]) / max(1, len(memory) - half)) / (sum(memory[:half]) / max(1, half) or 1)
        print(
            f"memory of the second half x{growth:.2f} of the first; slowest /livez {soak.slowest_livez_s * 1000:.0f} ms"
        )
    faults = [name for name in soak.statuses if name.split()[1][0] == "5" and name.split()[1] not in ("503", "504")]
    return 1 if faults or soak.slowest_livez_s > _LIVEZ_LIMIT_S else 0


if __name__ == "__main__":
    sys.exit(main())
