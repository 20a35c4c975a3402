"""Connections made to cost, each against the running service: what the others notice is what counts."""

import contextlib
import json
import struct
import threading
import time
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

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


def test_a_handshake_that_brings_a_body_is_refused_and_holds_nothing(service: Client) -> None:
    for more in ("Content-Length: 100", "Transfer-Encoding: chunked"):
        connection = service.raw("\r\n".join([*HANDSHAKE, more, "", ""]).encode())
        assert problem_of(connection)["code"] == "bad_request"
        assert connection.recv(4096) == b""


def test_silent_sessions_and_strangers_leave_room_for_others() -> None:
    limits: dict[str, Any] = {"api_keys": "sesame", "max_sessions": 1, "idle_timeout_s": 0.7}
    with running_process(workers=1, detect_side_px=320, **limits) as (url, process), contextlib.ExitStack() as stack:
        Client(url, process).wait_until_ready()

        def session(key: str = "") -> ClientConnection:
            headers = {"X-API-Key": key} if key else {}
            return stack.enter_context(connect(url.replace("http", "ws") + "/stream", additional_headers=headers))

        def end(closed: ClientConnection) -> tuple[int, str]:
            with pytest.raises(ConnectionClosed) as told:
                closed.recv(timeout=20)
            assert told.value.rcvd
            return told.value.rcvd.code, told.value.rcvd.reason

        strangers = [session() for _ in range(24)]
        assert (1013, "Too many connections are waiting to authenticate.") in [end(stranger) for stranger in strangers]
        first = session("sesame")
        assert json.loads(first.recv(timeout=20))["type"] == "ready"
        assert end(session("sesame")) == (1013, "All 1 sessions are in use.")
        assert end(first) == (1001, "No message for 0.7 s.")
        assert json.loads(session("sesame").recv(timeout=20))["type"] == "ready"


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


def test_frames_as_fast_as_they_can_be_sent_leave_turns_for_others(service: Client) -> None:
    frame = b"\x82\xff" + struct.pack(">Q", 9_900_000) + b"\0" * 4 + b"\xff" * 9_900_000

    def session() -> None:
        connection = service.raw("\r\n".join([*HANDSHAKE, "", ""]).encode())
        for _ in range(3):
            connection.sendall(frame)

    with service.watched(grows_by=250 * MB):
        for thread in in_threads(8, session):
            thread.join()


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
