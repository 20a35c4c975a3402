"""What tests with hostile clients share."""

import contextlib
import http.client
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed

from tests.conftest import ROOT, SHIPPED_MODEL

MB = 1_000_000
OPENED: list[socket.socket] = []


class Client:
    """What a test asks of one running service."""

    def __init__(self, url: str, process: "subprocess.Popen[str]") -> None:
        self.url, self.process = url, process
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        self.address = (parts.hostname, parts.port)

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(*self.address, timeout=60)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def wait_until_ready(self) -> None:
        """Until /readyz answers 200; a service that does not listen yet is given time."""
        deadline = time.monotonic() + 30 * patience()
        while True:
            with contextlib.suppress(OSError):
                if self.ask("GET", "/readyz")[0] == 200:
                    return
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def predict(self, image: bytes, path: str = "/predict") -> int:
        return self.ask("POST", path, image, Content_Type="image/jpeg")[0]

    def pending(self) -> float:
        """What the service says of its memory budget, in bytes."""
        metrics = self.ask("GET", "/metrics")[2].decode()
        return float(metrics.partition("\nmien_pending_bytes ")[2].split()[0])

    def raw(self, data: bytes, takes: int | None = None) -> socket.socket:
        """A connection that has sent `data`; its system takes no more than about `takes` bytes until they are read."""
        connection = socket.socket()
        OPENED.append(connection)
        connection.settimeout(30)
        if takes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, takes)
        connection.connect(self.address)
        connection.sendall(data)
        return connection

    def memory(self) -> int:
        """Resident bytes of the service and its workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return sum(_resident(pid) for pid in (str(self.process.pid), *children))

    @contextlib.contextmanager
    def watched(self, livez_within_s: float = 0.5, grows_by: int = 150 * MB) -> Iterator[None]:
        """Ask /livez all the while: it answers in time, and the memory grows by no more than a bound."""
        worst, peak, before = 0.0, 0, self.memory()
        done = threading.Event()

        def watch() -> None:
            nonlocal worst, peak
            while not done.is_set():
                started = time.monotonic()
                assert self.ask("GET", "/livez")[0] == 200
                worst, peak = max(worst, time.monotonic() - started), max(peak, self.memory())
                done.wait(0.05)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
        assert worst < livez_within_s * patience(), f"/livez took {worst:.2f} s"
        assert peak - before < grows_by, f"memory grew by {(peak - before) / MB:.0f} MB"


def _resident(pid: str) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):  # a worker that was just replaced
        return 0


def patience() -> float:
    """How much slower than an idle machine this one is: its load for each CPU, at least 1."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def head(path: str, length: int, *more: str, method: str = "POST") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {length}", *more]
    return "\r\n".join([*lines, "", ""]).encode()


def problem_of(connection: socket.socket) -> dict[str, Any]:
    """The problem that a raw connection is answered."""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    assert answer.headers["content-type"] == "application/problem+json"
    problem = json.loads(answer.read())
    assert problem["status"] == answer.status
    return dict(problem)


def in_threads(count: int, work: Callable[[], object]) -> list[threading.Thread]:
    def quietly() -> None:
        with contextlib.suppress(OSError, ConnectionClosed, http.client.HTTPException):
            work()

    threads = [threading.Thread(target=quietly, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


HANDSHAKE = (
    "GET /stream HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)  # fmt: skip


def tiny_webp(side: int) -> bytes:
    """34 bytes that say they are a picture of side x 16,383 pixels."""
    bits = (16_383 - 1) | (side - 1) << 14
    payload = b"\x2f" + struct.pack("<I", bits) + b"\0" * 9
    return b"RIFF" + struct.pack("<I", 4 + 8 + len(payload)) + b"WEBPVP8L" + struct.pack("<I", len(payload)) + payload


SERVICE = (sys.executable, "-m", "services.api")


def start(environment: dict[str, str], command: Sequence[str] = SERVICE, **options: Any) -> "subprocess.Popen[str]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MIEN_")}
    return subprocess.Popen(command, cwd=ROOT, env=clean | environment, text=True, **options)


@contextlib.contextmanager
def limited(ulimit: str, workers: int, **options: Any) -> Iterator[Client]:
    """A service under a limit of the shell, `-n 128` for instance, that is ready; killed if the block does not end it."""
    port = free_port()
    environment = {
        "MIEN_PORT": str(port),
        "MIEN_MODEL": str(SHIPPED_MODEL),
        "MIEN_DETECTOR": "haar",
        "MIEN_WORKERS": str(workers),
    }
    process = start(environment, ["bash", "-c", f"ulimit {ulimit}; exec {' '.join(SERVICE)}"], **options)
    client = Client(f"http://127.0.0.1:{port}", process)
    try:
        client.wait_until_ready()
        yield client
    finally:
        process.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
