"""Answers on kept connections leave at once: none waits for the client's delayed acknowledgement (40 ms)."""

import json
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from websockets.sync.client import connect

from tests.conftest import running_process, running_server
from tests.services.api.test_life import listening_ports

pytestmark = pytest.mark.skipif(
    not hasattr(socket, "TCP_QUICKACK"), reason="only Linux lets a client acknowledge at once"
)
ROUNDS = 12


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    with running_server() as url:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        yield parts.hostname, parts.port


def acknowledge(client: socket.socket, at_once: bool) -> None:
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, at_once)


def slowdown(ask: Callable[[bool], object]) -> float:
    """How much longer answers take for a client that puts acknowledgements off than for one that doesn't."""
    times: dict[bool, list[float]] = {True: [], False: []}
    for number in range(2 * ROUNDS):
        at_once = number % 2 == 0
        started = time.perf_counter()
        ask(at_once)
        times[at_once].append(time.perf_counter() - started)
    return statistics.median(times[False]) / statistics.median(times[True])


def test_a_kept_connection_gets_its_answers_at_once(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as client:

        def ask(at_once: bool) -> None:
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            acknowledge(client, at_once)
            answer = b""
            while not answer.endswith(b"}"):
                answer += client.recv(4096)

        assert slowdown(ask) < 5


def test_a_video_session_gets_its_answers_at_once(address: tuple[str, int]) -> None:
    with connect(f"ws://{address[0]}:{address[1]}/stream", compression=None) as session:
        session.recv()

        def ask(at_once: bool) -> None:  # two answers: the second must not wait until the first is acknowledged
            for _ in range(2):
                session.send(json.dumps({"type": "configure", "max_faces": 1}))
            acknowledge(session.socket, at_once)
            assert [json.loads(session.recv())["type"] for _ in range(2)] == ["configured"] * 2

        assert slowdown(ask) < 5


def test_the_metrics_port_answers_at_once() -> None:
    with running_process(metrics_port=0) as (url, process):
        (port,) = listening_ports(process.pid) - {urlsplit(url).port}

        def ask(at_once: bool) -> None:
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
                acknowledge(client, at_once)
                while client.recv(65536):
                    pass

        assert slowdown(ask) < 5
