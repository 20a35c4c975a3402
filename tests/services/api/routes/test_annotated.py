"""POST /predict/annotated: the image with its faces drawn on it."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from services.api.app import create_app
from services.api.settings import Settings
from tests.conftest import SCENE_FACE, assert_problem

Encode = Callable[..., bytes]
JPEG = {"Content-Type": "image/jpeg"}


def test_points_are_a_parameter_of_the_annotated_image_only(client: TestClient, jpeg: bytes) -> None:
    assert client.post("/predict/annotated?points=true", content=jpeg, headers=JPEG).status_code == 200
    assert_problem(client.post("/predict?points=true", content=jpeg, headers=JPEG), 422, "invalid_parameter")


def test_the_annotated_image_is_the_image_with_its_faces_drawn(
    client: TestClient, scene: Image.Image, encode: Encode
) -> None:
    large = encode(scene.resize((1920, 1440)), "JPEG")
    response = client.post("/predict/annotated", content=large, headers=JPEG)
    assert response.headers["content-type"] == "image/jpeg"
    as_png = client.post("/predict/annotated", content=large, headers=JPEG | {"Accept": "image/png"})
    assert as_png.headers["content-type"] == "image/png"
    assert as_png.content.startswith(b"\x89PNG")
    drawn = np.asarray(Image.open(io.BytesIO(response.content)).convert("RGB")).astype(int)
    assert drawn.shape == (1440, 1920, 3)
    changed = np.abs(drawn - np.asarray(scene.resize((1920, 1440)))).max(axis=2) > 80
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    left, top, right, bottom = (value * 3 for value in SCENE_FACE)
    assert left - 60 < columns[0] < columns[-1] < right + 200
    assert top - 150 < rows[0] < rows[-1] < bottom + 60
    assert_problem(client.post("/predict/annotated", content=b"text", headers=JPEG), 415, "unsupported_image")


def test_its_log_line_has_the_timings(client: TestClient, jpeg: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "mien.access"):
        client.post("/predict/annotated", content=jpeg, headers=JPEG)
    (record,) = [record for record in caplog.records if record.name == "mien.access"]
    assert set(record.__dict__["timings_ms"]) == {"queue", "decode", "detect", "crop", "classify"}


def test_clients_that_know_no_image_types_can_ask_for_bytes(client: TestClient, jpeg: bytes) -> None:
    headers = JPEG | {"Accept": "application/octet-stream"}
    response = client.post("/predict/annotated", content=jpeg, headers=headers)
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.content.startswith(b"\xff\xd8\xff")


def test_a_phone_photo_of_48_megapixels_is_drawn_on_within_the_default_memory(
    settings: Settings, scene: Image.Image, encode: Encode
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # as phones are held
    photo = encode(scene.resize((8064, 6048)).transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=80)
    with TestClient(create_app(settings.model_copy(update={"timeout_s": 120}))) as client:  # on a busy machine
        response = client.post("/predict/annotated", content=photo, headers=JPEG)
    assert response.status_code == 200, response.text
    assert Image.open(io.BytesIO(response.content)).size == (8064, 6048)
