"""How sessions of /stream end: limits, refusals, silence, and a stopping service."""

import base64
import contextlib
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection
from websockets.typing import Origin, Subprotocol

from tests.conftest import running_server
from tests.services.api.streaming.talking import close_of, drain, metric, opened, receive

Encode = Callable[..., bytes]


def test_a_frame_of_too_many_pixels_is_an_error_and_one_of_too_many_bytes_the_end(url: str, encode: Encode) -> None:
    huge = encode(Image.new("L", (16_385, 20)), "PNG")
    with opened(url) as ws:
        receive(ws)
        ws.send(huge)
        assert receive(ws)["code"] == "image_too_large"
    with opened(url) as ws:
        # The head of a frame of 20 MB is enough. Who sends on while the server closes may lose the connection before the
        # code is read, so the rest is kept back here.
        ws.socket.sendall(b"\x82\xff" + (20_000_000).to_bytes(8, "big") + bytes(4))
        assert close_of(ws)[0] == 1009
    with opened(url) as ws:
        with contextlib.suppress(ConnectionClosed):
            ws.send(b"\xff" * 20_000_000)
        with pytest.raises(ConnectionClosed):
            drain(ws, within_s=10)
    with opened(url) as ws:
        assert receive(ws)["type"] == "ready"


def test_more_sessions_than_allowed_are_asked_to_come_later(url: str) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(6):
            receive(stack.enter_context(opened(url)))
        code, reason = close_of(stack.enter_context(opened(url)))
        assert code == 1013
        assert "sessions" in reason
    deadline = time.monotonic() + 10
    while metric(url, "mien_stream_sessions") > 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    with opened(url) as ws:
        assert receive(ws)["type"] == "ready"


def test_a_client_that_vanishes_or_never_reads_harms_nobody(url: str, frame: bytes) -> None:
    stop = threading.Event()

    def flood(ws: ClientConnection) -> None:
        with contextlib.suppress(Exception):
            while not stop.is_set():
                ws.send(frame)

    with opened(url) as vanishing, opened(url) as silent, opened(url) as ws:
        vanishing.send(frame)
        vanishing.socket.close()
        sender = threading.Thread(target=flood, args=[silent], daemon=True)
        sender.start()
        receive(ws)
        for number in range(1, 6):
            ws.send(frame)
            assert receive(ws)["frame"] == number
        stop.set()
        silent.socket.close()
        sender.join(timeout=10)


def test_pages_of_other_origins_are_refused(url: str) -> None:
    for origin in ("https://elsewhere.example", "http://[x"):
        with opened(url, origin=Origin(origin)) as ws:
            code, reason = close_of(ws)
        assert code == 1008
        assert "origin" in reason
    same = url.replace("ws://", "http://").removesuffix("/stream")
    with opened(url, origin=Origin(same)) as ws:
        assert receive(ws)["type"] == "ready"


def test_keys_by_header_subprotocol_or_first_message(frame: bytes) -> None:
    with running_server(api_keys="sesame,thüre") as http:
        url = http.replace("http", "ws") + "/stream"
        encoded = base64.urlsafe_b64encode("thüre".encode()).decode().rstrip("=")
        protocols = [Subprotocol("mien.v1"), Subprotocol(f"mien.key.{encoded}")]
        with opened(url, subprotocols=protocols) as ws:
            assert receive(ws)["type"] == "ready"
            assert ws.subprotocol == "mien.v1"
        with opened(url, additional_headers={"X-API-Key": "sesame"}) as ws:
            assert receive(ws)["type"] == "ready"
        with opened(url) as ws:
            ws.send(json.dumps({"type": "authenticate", "key": "sesame"}))
            assert receive(ws)["type"] == "ready"
        with opened(url, additional_headers={"X-API-Key": "wrong"}) as ws:  # the refusal comes without waiting
            assert close_of(ws, within_s=4) == (1008, "The API key is wrong.")
        with opened(url) as ws:
            ws.send(json.dumps({"type": "authenticate", "key": "wrong"}))
            assert close_of(ws) == (1008, "The API key is wrong.")
        for first in (json.dumps({"type": "configure"}), frame):
            with opened(url) as ws:
                ws.send(first)
                code, reason = close_of(ws)
                assert code == 1008
                assert "needs an API key" in reason
        with opened(url) as ws:  # says nothing
            assert close_of(ws)[1].startswith("This service needs an API key, as X-API-Key")


def test_an_idle_session_is_closed_and_its_place_freed(frame: bytes) -> None:
    with running_server(max_sessions=1, idle_timeout_s=1) as http:
        url = http.replace("http", "ws") + "/stream"
        with opened(url) as ws:
            receive(ws)
            for _ in range(3):  # a slow client is not an idle one
                time.sleep(0.6)
                ws.send(frame)
                assert receive(ws)["type"] == "result"
            assert close_of(ws) == (1001, "No message for 1 s.")
        with opened(url) as ws:
            assert receive(ws)["type"] == "ready"


def test_stopping_closes_sessions_with_a_reason(frame: bytes) -> None:
    with contextlib.ExitStack() as stack:
        with running_server() as http:
            ws = stack.enter_context(opened(http.replace("http", "ws") + "/stream"))
            receive(ws)
            ws.send(frame)
            receive(ws)
        assert close_of(ws) == (1001, "The service is stopping.")


def test_why_it_is_not_ready_is_the_reason_of_the_close(tmp_path: Path) -> None:
    with running_server(model=tmp_path / "none") as http, opened(http.replace("http", "ws") + "/stream") as ws:
        code, reason = close_of(ws)
        assert code == 1013
        assert reason.startswith("Not ready: There is no model in")
