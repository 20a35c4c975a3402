"""What tests share: scenes made from a public-domain photo, the shipped model, a running application."""

import io
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from services.api.app import create_app
from services.api.settings import Settings
from shared.boxes import Box, intersection_over_union
from shared.choices import Choices
from shared.manifest import ModelManifest

ROOT = Path(__file__).parents[1]
SHIPPED_MODEL = ROOT / "models/default"
# The astronaut's face in the scene below, as a person would draw the box: left, top, right, bottom.
SCENE_FACE = (225, 50, 335, 168)


@pytest.fixture(scope="session")
def scene() -> Image.Image:
    """The astronaut of scikit-image (public domain), one smiling face, 640x480."""
    from skimage import data

    return Image.fromarray(cv2.resize(data.astronaut(), (640, 480), interpolation=cv2.INTER_AREA))


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    """Encode a picture: encode(image, "PNG", …)."""

    def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    return encoded


@pytest.fixture(scope="session")
def jpeg(scene: Image.Image, encode: Callable[..., bytes]) -> bytes:
    """The scene as a JPEG."""
    return encode(scene, "JPEG", quality=90)


@pytest.fixture(scope="session")
def yunet_model() -> Path:
    """YuNet's file, where this machine has it."""
    path = Path(os.environ.get("MIEN_YUNET_MODEL", ROOT / "models/yunet/face_detection_yunet_2023mar.onnx"))
    if not path.is_file():
        message = f"no YuNet at {path}; `make yunet` fetches it, MIEN_YUNET_MODEL names another place"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The shipped model with Haar, whatever this machine's environment says."""
    for name in [name for name in os.environ if name.startswith("MIEN_")]:
        monkeypatch.delenv(name)
    return Settings(model=SHIPPED_MODEL, detector="haar", workers=2)


@contextmanager
def application() -> Iterator[TestClient]:
    """The application, started with the shipped model and Haar, whatever this machine's environment says."""
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith("MIEN_")]:
            environment.delenv(name)
        settings = Settings(model=SHIPPED_MODEL, detector="haar", workers=2)
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    """The application, started with the shipped model."""
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


def samples(client: TestClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The metrics of an application, by name and labels."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(client: TestClient, name: str, **labels: str) -> float:
    """One metric of an application; 0 where it is absent."""
    return samples(client).get((name, frozenset(labels.items())), 0.0)


def assert_problem(response: Any, status: int, code: str) -> dict[str, Any]:
    """The problem in an answer, which must have this status and code."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert set(problem) == {"type", "title", "status", "detail", "code", "request_id"}
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["request_id"] == response.headers["x-request-id"]
    assert "Traceback" not in response.text
    return dict(problem)


def faulty(fault: str) -> list[str]:
    """The command of a worker with a fault of tests/fake_worker.py."""
    return [sys.executable, "-m", "tests.fake_worker", fault]


@contextmanager
def running_process(
    stderr: int | IO[str] = subprocess.DEVNULL, environment: dict[str, str] | None = None, **settings: object
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """URL and process of `python -m services.api` with these settings on a free port; it must end with status 0."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MIEN_")}
    defaults = {"port": 0, "model": SHIPPED_MODEL, "detector": "haar"}
    clean |= {f"MIEN_{name.upper()}": str(value) for name, value in (defaults | settings).items()}
    server = subprocess.Popen(
        [sys.executable, "-m", "services.api"],
        cwd=ROOT,
        env=clean | (environment or {}),
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )
    watchdog = threading.Timer(300, server.kill)
    watchdog.start()
    try:
        assert server.stdout is not None
        found = re.search(r"page (http://\S+?)/ ", server.stdout.readline())
        assert found, "the server did not say where it listens"
        yield found[1], server
    finally:
        server.terminate()
        status = server.wait(timeout=30)
        watchdog.cancel()
        if server.stdout is not None:
            server.stdout.close()
    assert status == 0


@contextmanager
def running_server(**settings: Any) -> Iterator[str]:
    """The URL of a running service with these settings."""
    with running_process(**settings) as (url, _):
        yield url


def overlap(box: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> float:
    """Intersection over union of two boxes given as left, top, right, bottom."""
    one, two = (Box(b[0], b[1], b[2] - b[0], b[3] - b[1]) for b in (box, other))
    return intersection_over_union(one, two)


def shipped_golden(manifest: ModelManifest) -> npt.NDArray[np.float32]:
    """(7,) what a model says of its golden face unless asked otherwise."""
    name = manifest.default_answer
    natural = np.array([manifest.answers[name].golden], np.float32)
    return np.asarray(Choices.of(manifest).weighed(natural, name, None)[0])


@pytest.fixture
def noise_rng() -> np.random.Generator:
    """A generator that gives the same each time."""
    return np.random.default_rng(7)
