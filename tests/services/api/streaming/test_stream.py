"""/stream with a real client against a real server: the protocol, its limits and its closes."""

import base64
import contextlib
import json
import re
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from shared.emotions import EMOTIONS
from tests.conftest import running_server

Encode = Callable[..., bytes]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_server(max_upload_bytes=2_000_000, max_sessions=6) as http:
        yield http.replace("http", "ws") + "/stream"


@pytest.fixture(scope="module")
def frame(scene: Image.Image, encode: Encode) -> bytes:
    return encode(scene.resize((320, 240)), "JPEG")


def opened(url: str, **options: Any) -> ClientConnection:
    return connect(url, open_timeout=20, close_timeout=5, compression=None, **options)


def receive(ws: ClientConnection, within_s: float = 20) -> dict[str, Any]:
    return dict(json.loads(ws.recv(timeout=within_s)))


def close_of(ws: ClientConnection, within_s: float = 20) -> tuple[int, str]:
    """The code and reason with which the server closes, whatever it says before."""
    with pytest.raises(ConnectionClosed) as closed:
        drain(ws, within_s)
    frame = closed.value.rcvd
    assert frame is not None, "the connection was cut"
    return frame.code, frame.reason


def drain(ws: ClientConnection, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        ws.recv(timeout=within_s)


def metric(url: str, name: str, **labels: str) -> float:
    text = urllib.request.urlopen(url.replace("ws://", "http://").replace("/stream", "/metrics")).read().decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return 0.0


def test_ready_comes_first_and_says_what_there_is(url: str) -> None:
    with opened(url) as ws:
        ready = receive(ws)
    assert ready["type"] == "ready"
    assert ready["protocol"] == 1
    assert ready["labels"] == list(EMOTIONS)
    assert ready["limits"]["max_frame_bytes"] == 2_000_000
    assert ready["model"]["name"] == "default"


def test_each_frame_is_answered_in_order_by_the_same_face(url: str, frame: bytes) -> None:
    with opened(url) as ws:
        receive(ws)
        answers = []
        for _ in range(4):
            ws.send(frame)
            answers.append(receive(ws))
    assert [answer["frame"] for answer in answers] == [1, 2, 3, 4]
    assert [answer["dropped"] for answer in answers] == [0, 0, 0, 0]
    for answer in answers:
        assert answer["image"] == {"width": 320, "height": 240}
        assert re.fullmatch("[0-9a-f]{12}", answer["model"])
        (face,) = answer["faces"]
        assert set(face) == {
            "id",
            "box",
            "confidence",
            "emotion",
            "probabilities",
            "raw_probabilities",
            "landmarks",
            "roll_deg",
        }
        assert (face["id"], face["emotion"]) == (1, "happy")
        assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert {"queue", "decode", "detect", "crop", "classify", "lag"} == set(answer["timings_ms"])


def test_a_flood_is_answered_by_the_newest_and_the_rest_is_counted(url: str, frame: bytes, encode: Encode) -> None:
    blank = encode(Image.new("RGB", (320, 240), "gray"), "JPEG")
    before = metric(url, "mien_stream_frames_dropped_total", reason="newer")
    with opened(url) as ws:
        receive(ws)
        for _ in range(299):
            ws.send(blank)
        ws.send(frame)
        answers = [receive(ws)]
        while answers[-1]["frame"] < 300:
            answers.append(receive(ws))
    assert len(answers) < 250
    assert sum(answer["dropped"] for answer in answers) + len(answers) == 300
    assert answers[-1]["faces"][0]["emotion"] == "happy"
    assert metric(url, "mien_stream_frames_dropped_total", reason="newer") > before


def test_ten_thousand_tiny_frames_at_once_do_no_harm(url: str, frame: bytes) -> None:
    with opened(url) as flood, opened(url) as other:
        receive(flood)
        receive(other)
        with contextlib.suppress(ConnectionClosed):
            for _ in range(10_000):
                flood.send(b"x")
        other.send(frame)
        assert receive(other)["faces"][0]["emotion"] == "happy"
        answered, dropped, last = 0, 0, 0
        while last < 10_000 and answered < 5:
            error = receive(flood)
            assert error["code"] == "unsupported_image"
            answered, dropped, last = answered + 1, dropped + error["dropped"], error["frame"]
            assert answered + dropped == last
        if answered == 5:
            assert close_of(flood)[0] == 1003


def timed(ws: ClientConnection, frame: bytes, time_ms: float) -> dict[str, Any]:
    ws.send(json.dumps({"type": "frame", "time_ms": time_ms}))
    ws.send(frame)
    return receive(ws)


def test_smoothing_and_identity_follow_the_time_of_the_film(url: str, frame: bytes, encode: Encode) -> None:
    blank = encode(Image.new("RGB", (320, 240), "gray"), "JPEG")
    with opened(url) as ws:
        receive(ws)
        answers = [timed(ws, frame, time_ms) for time_ms in (0, 40, 40)]
        assert [answer["time_ms"] for answer in answers] == [0, 40, 40]
        assert timed(ws, blank, 500)["faces"] == []
        assert timed(ws, frame, 700)["faces"][0]["id"] == 1
        assert timed(ws, frame, 60_000)["faces"][0]["id"] == 2, "a minute of the film passed, however fast it was sent"


def test_a_time_that_runs_backwards_is_an_error_for_that_frame(url: str, frame: bytes) -> None:
    with opened(url) as ws:
        receive(ws)
        timed(ws, frame, 1200.5)
        error = timed(ws, frame, 1000)
        assert (error["type"], error["frame"], error["code"]) == ("error", 2, "bad_time")
        assert "1000 ms" in error["detail"]
        assert "1200.5 ms" in error["detail"]
        ws.send(frame)
        assert receive(ws)["code"] == "bad_time"
        assert timed(ws, frame, 1300)["faces"][0]["id"] == 1


def test_frames_without_a_time_follow_the_clock(url: str, frame: bytes) -> None:
    with opened(url) as ws:
        receive(ws)
        ws.send(frame)
        assert receive(ws)["time_ms"] is None
        assert timed(ws, frame, 0)["code"] == "bad_time"


def test_configure_changes_this_session(url: str, frame: bytes) -> None:
    with opened(url) as ws:
        receive(ws)
        ws.send(json.dumps({"type": "configure", "min_confidence": 0.999, "smoothing": 100}))
        configured = receive(ws)
        assert configured == {
            "type": "configured",
            "max_faces": 32,
            "min_confidence": 0.999,
            "min_face": 0,
            "smoothing": 100,
        }
        ws.send(frame)
        assert receive(ws)["faces"] == []
        ws.send(json.dumps({"type": "configure", "min_confidence": 0.5, "max_faces": 500}))
        assert receive(ws)["max_faces"] == 32
        ws.send(frame)
        assert len(receive(ws)["faces"]) == 1


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("hello", "JSON"),
        ('{"type": "configure", "smoothness": 3}', "smoothness"),
        ('{"type": "configure", "smoothing": NaN}', "smoothing"),
        ('{"type": "configure", "min_confidence": 2}', "min_confidence"),
        ('{"type": "dance"}', "dance"),
        ('{"type": "frame", "time_ms": -1}', "time_ms"),
        ('{"type": "frame", "time_ms": NaN}', "time_ms"),
        ("[]", "object"),
        ("{}", "type"),
    ],
)
def test_a_text_that_is_no_command_is_told_and_the_session_goes_on(
    text: str, named: str, url: str, frame: bytes
) -> None:
    with opened(url) as ws:
        receive(ws)
        ws.send(text)
        error = receive(ws)
        assert (error["type"], error["code"]) == ("error", "bad_message")
        assert named in error["detail"]
        ws.send(frame)
        assert receive(ws)["type"] == "result"


def test_a_frame_that_is_no_image_is_told_by_its_number_and_the_session_goes_on(url: str, frame: bytes) -> None:
    with opened(url) as ws:
        receive(ws)
        for number, (data, code) in enumerate(
            [(b"no image", "unsupported_image"), (frame[:2000], "undecodable_image"), (b"", "undecodable_image")], 1
        ):
            ws.send(data)
            error = receive(ws)
            assert error.pop("detail")
            assert error == {"type": "error", "frame": number, "dropped": 0, "code": code}
        assert metric(url, "mien_errors_total", code="unsupported_image") > 0
        ws.send(frame)
        assert receive(ws)["frame"] == 4


def test_five_errors_in_a_row_end_the_session(url: str, frame: bytes) -> None:
    with opened(url) as ws:
        receive(ws)
        for data in [b"x"] * 4 + [frame] + [b"x"] * 4:
            ws.send(data)
            receive(ws)
        ws.send("x")
        assert receive(ws)["code"] == "bad_message"
        assert close_of(ws)[0] == 1003


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
        with opened(url, additional_headers={"X-API-Key": "wrong"}) as ws:  # is told at once
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
