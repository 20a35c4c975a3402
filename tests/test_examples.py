"""Every example runs, against a real server."""

import csv
import functools
import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, expect
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from shared.emotions import EMOTIONS
from tests.browser.conftest import SLOW_MS, launch, playwright, video, with_camera
from tests.conftest import ROOT, running_server

__all__ = ["launch", "playwright", "video", "with_camera"]  # fixtures of the browser's tests


FACE = {
    "id": 1,
    "box": {"x": 10, "y": 10, "width": 90, "height": 110},
    "emotion": "happy",
    "probabilities": dict.fromkeys(EMOTIONS, 0.1) | {"happy": 0.4},
}


@pytest.fixture(scope="module")
def files() -> Iterator[str]:
    """The URL from which the examples are served, as a page of somebody else's."""
    handler = functools.partial(QuietHandler, directory=ROOT / "examples")
    with http.server.ThreadingHTTPServer(("localhost", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def server(files: str) -> Iterator[str]:
    with running_server(detect_side_px=320, allowed_origins=files) as url:
        yield url


@pytest.fixture
def film(scene: Image.Image, tmp_path: Path) -> Path:
    """A second of the astronaut, who moves a little."""
    picture = cv2.cvtColor(np.asarray(scene), cv2.COLOR_RGB2BGR)
    path = tmp_path / "film.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 15, (640, 480))
    for number in range(15):
        writer.write(np.roll(picture, 3 * number, axis=1))
    writer.release()
    return path


def stream_video(*arguments: object, status: int = 0) -> str:
    command = [sys.executable, str(ROOT / "examples/stream_video.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def test_a_film_becomes_a_labelled_film_a_table_and_a_plot(server: str, film: Path, tmp_path: Path) -> None:
    url = server.replace("http", "ws") + "/stream"
    said = stream_video(film, "--url", url, "--out", tmp_path / "talk")
    assert re.search(r"15 readings of 1 faces", said)
    with (tmp_path / "talk.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["seconds"]) for row in rows] == pytest.approx([n / 15 for n in range(15)], abs=1e-3)
    assert {row["emotion"] for row in rows} == {"happy"}
    assert {row["face"] for row in rows} == {"1"}
    labelled = cv2.VideoCapture(str(tmp_path / "talk.mp4"))
    assert labelled.get(cv2.CAP_PROP_FRAME_COUNT) == 15
    assert labelled.get(cv2.CAP_PROP_FPS) == pytest.approx(15, abs=0.1)
    there, picture = labelled.read()
    original = cv2.VideoCapture(str(film)).read()[1]
    assert there
    assert np.abs(picture.astype(int) - original).max() > 60  # a box was drawn
    with Image.open(tmp_path / "talk.png") as plot:
        assert plot.width > 800


# Seconds of a film of variable rate, as telephones and screen recorders make them.
TIMES = [0, 0.12, *(n / 10 for n in range(2, 11)), *(n / 2 for n in range(3, 11))]


@pytest.fixture
def variable(scene: Image.Image, tmp_path: Path) -> Path:
    """Nineteen frames of the astronaut at TIMES; from 3 s on she has gone."""
    path = tmp_path / "variable.mkv"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 322, 240, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for at in TIMES:
            picture = scene.resize((322, 240)) if at < 3 else Image.new("RGB", (322, 240), "gray")
            frame = av.VideoFrame.from_image(picture)
            frame.pts, frame.time_base = round(at * 1000), Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


@contextmanager
def slow(server: str) -> Iterator[str]:
    """The stream of `server`, each answer 50 ms late."""

    def forward(socket: ServerConnection) -> None:
        with connect(server.replace("http", "ws") + "/stream", compression=None) as onward:
            socket.send(onward.recv())
            for message in socket:
                onward.send(message)
                if isinstance(message, bytes):
                    time.sleep(0.05)
                    socket.send(onward.recv())

    with serve(forward, "localhost", 0, max_size=None) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield f"ws://localhost:{proxy.socket.getsockname()[1]}"


def test_the_same_film_gives_the_same_table_at_any_speed_with_each_frames_own_time(
    server: str, variable: Path, tmp_path: Path, with_camera: Browser
) -> None:
    stream_video(variable, "--url", server.replace("http", "ws") + "/stream", "--out", tmp_path / "fast")
    with slow(server) as url:
        stream_video(variable, "--url", url, "--out", tmp_path / "slow")
    assert (tmp_path / "fast.csv").read_bytes() == (tmp_path / "slow.csv").read_bytes()
    with (tmp_path / "fast.csv").open() as file:
        assert [float(row["seconds"]) for row in csv.DictReader(file)] == [at for at in TIMES if at < 3]
    with av.open(str(tmp_path / "fast.mp4")) as film:
        assert [frame.time for frame in film.decode(video=0)] == pytest.approx(TIMES, abs=1e-3)
    page = with_camera.new_page()
    page.goto((tmp_path / "fast.mp4").as_uri())
    page.wait_for_function("document.querySelector('video').readyState >= 2")
    width, seconds = page.evaluate(
        "(({videoWidth, duration}) => [videoWidth, duration])(document.querySelector('video'))"
    )
    page.close()
    assert width == 322
    assert seconds == pytest.approx(5.5, abs=0.01)


def test_a_source_or_server_that_is_not_there_is_told(film: Path, tmp_path: Path, server: str) -> None:
    url = server.replace("http", "ws") + "/stream"
    assert "cannot be opened" in stream_video(tmp_path / "none.mp4", "--url", url, status=1)
    (tmp_path / "talk.csv").write_text("of yesterday")
    talk = ("--out", tmp_path / "talk")
    refused = stream_video(film, "--url", "ws://localhost:9/stream", *talk, status=1)
    assert "error: ws://localhost:9/stream" in refused
    assert "Traceback" not in refused
    assert "Traceback" not in stream_video(film, "--url", "localhost:8000", *talk, status=1)
    assert (tmp_path / "talk.csv").read_text() == "of yesterday"
    (tmp_path / "file").touch()
    assert "cannot be written" in stream_video(film, "--url", url, "--out", tmp_path / "file/talk", status=1)


def test_what_was_read_before_the_server_went_is_kept(film: Path, tmp_path: Path) -> None:
    answer = {"type": "result", "faces": [FACE]}

    def three_answers(socket: ServerConnection) -> None:
        socket.send(json.dumps({"type": "ready"}))
        for _ in range(3):
            socket.recv()  # its time
            socket.recv()
            socket.send(json.dumps(answer))
        socket.close(1001, "the service is stopping")

    with serve(three_answers, "localhost", 0) as lost:
        threading.Thread(target=lost.serve_forever, daemon=True).start()
        url = f"ws://localhost:{lost.socket.getsockname()[1]}/stream"
        said = stream_video(film, "--url", url, "--out", tmp_path / "new/talk", status=1)
    assert "3 readings of 1 faces" in said
    assert "the service is stopping" in said
    with (tmp_path / "new/talk.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 3
    assert cv2.VideoCapture(str(tmp_path / "new/talk.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert (tmp_path / "new/talk.png").exists()


def test_curl_sends_a_picture_in_three_ways(server: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl; `apt-get install curl` installs it")
    command = ["sh", "examples/curl.sh", "services/api/web/example.jpg", server]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [answer["faces"][0]["emotion"] for answer in answers[:3]] == ["happy"] * 3
    assert answers[3]["status"] == "ok"


def test_the_ten_lines_for_a_page_of_your_own(server: str, files: str, with_camera: Browser) -> None:
    context = with_camera.new_context(permissions=["camera"])
    page = context.new_page()
    page.goto(f"{files}/page.html?server={server.removeprefix('http://')}")
    expect(page.locator("#answer")).to_have_text("happy", timeout=SLOW_MS)
    context.close()
