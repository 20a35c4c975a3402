"""Connections made to cost, each against the running service: what the others notice is what counts."""

import contextlib
import json
import struct
import threading
import time

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.conftest import running_process
from tests.services.api.hostile import HANDSHAKE, MB, Client, in_threads, problem_of


def test_websocket_text_is_refused_by_its_length(service: Client) -> None:
    with service.watched():
        for text in ("[" * 9_900_000, '{"type":"configure","x":' + "[" * 5000):
            with connect(service.url.replace("http", "ws") + "/stream", max_size=None) as session:
                session.recv(timeout=20)
                with contextlib.suppress(ConnectionClosed):
                    session.send(text)
                with pytest.raises(ConnectionClosed) as closed:
                    session.recv(timeout=20)
                if closed.value.rcvd is not None:
                    assert closed.value.rcvd.code == 1009


def test_text_before_the_key_is_small(jpeg: bytes) -> None:
    with running_process(api_keys="sesame", detect_side_px=320, workers=1) as (url, process):
        client = Client(url, process)
        stream = url.replace("http", "ws") + "/stream"

        def shout() -> None:
            with connect(stream) as session:
                session.send("[" * 9_900_000)
                session.recv(timeout=20)

        with contextlib.ExitStack() as stack, client.watched():
            for _ in range(40):
                stack.enter_context(connect(stream))  # and say nothing
            for thread in in_threads(8, shout):
                thread.join()
            with connect(stream, additional_headers={"X-API-Key": "sesame"}) as session:
                assert json.loads(session.recv(timeout=20))["type"] == "ready"


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ([f"X-Long: {'x' * 9000}"], 431),
        ([f"X-{number}: y" for number in range(140)], 431),
        ([f"X-{number}: {'y' * 5000}" for number in range(20)], 431),
        (["Sec-WebSocket-Key: again"], 400),
        (["X-Odd: \x01"], 400),
    ],
)
def test_an_odd_handshake_is_refused_and_ends_with_its_connection(
    more: list[str], status: int, service: Client, jpeg: bytes
) -> None:
    connection = service.raw("\r\n".join([*HANDSHAKE, *more, "", ""]).encode())
    answer = connection.recv(65_536)
    assert int(answer.split()[1]) == status
    assert connection.recv(65_536) == b"" or status == 400
    connection.close()
    assert service.predict(jpeg) == 200  # and the service's own end, below, is status 0


def test_clients_that_never_read_are_not_written_for(service: Client) -> None:
    """Pings by the megabyte: their pongs would pile up."""
    with service.watched(grows_by=60 * MB):
        connections = []
        for _ in range(4):
            connections.append(service.raw("\r\n".join([*HANDSHAKE, "", ""]).encode(), takes=4096))
            connections[-1].settimeout(1)
        ping = b"\x89\xfd" + b"\0" * 4 + b"x" * 125
        for connection in connections:
            with contextlib.suppress(OSError):
                for _ in range(200):
                    connection.sendall(ping * 100)


def test_frames_that_arrive_count_in_the_memory(service: Client, jpeg: bytes) -> None:
    """Twenty sessions that each send the greater part of 9 MB, where 100 MB may be held."""
    begun = b"\x82\xff" + struct.pack(">Q", 9_000_000) + b"\0" * 4 + b"\0" * 8_000_000

    def session() -> None:
        connection = service.raw("\r\n".join([*HANDSHAKE, "", ""]).encode())
        connection.recv(4096)
        time.sleep(0.1)
        connection.sendall(begun)
        time.sleep(3)

    with service.watched(grows_by=250 * MB, livez_within_s=1):
        for thread in in_threads(20, session):
            thread.join()
    assert service.predict(jpeg) == 200


def test_video_leaves_places_for_requests(service: Client, jpeg: bytes) -> None:
    stop = threading.Event()
    answered: list[int] = []

    def film() -> None:
        count = 0
        with connect(service.url.replace("http", "ws") + "/stream") as session:
            session.recv(timeout=30)
            while not stop.is_set():
                session.send(jpeg)
                session.recv(timeout=60)
                count += 1
        answered.append(count)

    threads = in_threads(24, film)
    time.sleep(1)
    statuses = [service.predict(jpeg) for _ in range(10)]
    time.sleep(2)
    stop.set()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 10
    assert len(answered) == 24
    assert max(answered) <= 3 * min(answered) + 3


def test_requests_sent_far_ahead_are_refused(service: Client) -> None:
    with service.watched():
        for connection in [service.raw(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 20_000) for _ in range(4)]:
            with contextlib.suppress(OSError):
                while connection.recv(65_536):
                    pass


def test_floods_of_tiny_pieces_do_not_keep_the_loop_busy(service: Client) -> None:
    pieces = b"1\r\nx\r\n" * 40_000
    chunked = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    command = json.dumps({"type": "configure", "smoothing": 5}).encode()
    frame = b"\x81" + bytes([0x80 | len(command)]) + b"\0" * 4 + command

    def body() -> None:
        connection = service.raw(chunked + pieces * 4)
        assert problem_of(connection)["code"] == "tiny_pieces"

    def flood(data: bytes) -> None:
        connection = service.raw("\r\n".join([*HANDSHAKE, "", ""]).encode())
        connection.settimeout(2)
        for _ in range(20):
            connection.sendall(data)

    with service.watched():
        threads = in_threads(4, body)
        threads += in_threads(4, lambda: flood(frame * 2000))
        threads += in_threads(4, lambda: flood(b"\x02\x81\0\0\0\0x" + b"\x00\x81\0\0\0\0x" * 10_000))
        for thread in threads:
            thread.join()
