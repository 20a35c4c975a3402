"""/stream with a real client against a real server: the protocol."""

import contextlib
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from shared.emotions import EMOTIONS
from tests.services.api.streaming.talking import close_of, metric, opened, receive

Encode = Callable[..., bytes]


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
        wanted = {"min_confidence": 0.999, "smoothing": 100, "answer": "labels", "prior": "natural"}
        ws.send(json.dumps({"type": "configure", **wanted}))
        assert receive(ws) == {"type": "configured", "max_faces": 32, "min_face": 20, **wanted}
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
