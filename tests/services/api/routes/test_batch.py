"""POST /predict/batch: many images, a status for each."""

from collections.abc import Callable

from fastapi.testclient import TestClient
from PIL import Image

from services.api.app import create_app
from services.api.settings import Settings
from tests.conftest import assert_problem

Encode = Callable[..., bytes]
JPEG = {"Content-Type": "image/jpeg"}


def test_a_batch_has_a_status_for_each_file(client: TestClient, jpeg: bytes, encode: Encode) -> None:
    blank = encode(Image.new("RGB", (320, 240), "gray"), "PNG")
    files = [("files", (name, data)) for name, data in (("a.jpg", jpeg), ("b.txt", b"text"), ("c.png", blank))]
    answer = client.post("/predict/batch", files=files).json()
    assert [result["filename"] for result in answer["results"]] == ["a.jpg", "b.txt", "c.png"]
    assert [result["status"] for result in answer["results"]] == [200, 415, 200]
    assert answer["results"][0]["faces"][0]["emotion"] == "happy"
    assert answer["results"][1]["code"] == "unsupported_image"
    assert "faces" not in answer["results"][1]
    assert answer["results"][2]["faces"] == []


def test_a_batch_of_faces_says_that_nothing_was_detected(client: TestClient, jpeg: bytes) -> None:
    (result,) = client.post("/predict/batch?detect=false", files=[("files", jpeg)]).json()["results"]
    assert result["faces"][0]["confidence"] is None
    assert set(result) == {"filename", "status", "image", "faces", "timings_ms"}


def test_a_batch_is_bounded(settings: Settings, jpeg: bytes) -> None:
    small = settings.model_copy(update={"max_batch_files": 2, "max_upload_bytes": len(jpeg) // 2, "queue_size": 0})
    with TestClient(create_app(small)) as client:
        assert_problem(client.post("/predict/batch", files=[("files", jpeg[:100])] * 3), 422, "invalid_form")
        assert_problem(client.post("/predict/batch", files=[("files", jpeg)] * 3), 413, "payload_too_large")
        assert_problem(client.post("/predict/batch", files={"file": b"x"}), 422, "missing_image")
        assert_problem(client.post("/predict/batch", content=jpeg, headers=JPEG), 415, "unsupported_form")
        too_large = client.post("/predict/batch", files=[("files", jpeg)]).json()["results"][0]
        assert (too_large["status"], too_large["code"]) == (413, "payload_too_large")


def test_a_batch_larger_than_the_queue_is_answered_whole(settings: Settings, jpeg: bytes) -> None:
    with TestClient(create_app(settings.model_copy(update={"queue_size": 0}))) as client:
        results = client.post("/predict/batch", files=[("files", jpeg)] * 10).json()["results"]
    assert [result["status"] for result in results] == [200] * 10
