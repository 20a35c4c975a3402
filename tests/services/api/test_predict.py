"""POST /predict: three forms of an image, and a clear answer to everything that is none."""

import base64
import io
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from services.api.app import create_app
from services.api.settings import Settings
from shared.emotions import EMOTIONS
from shared.manifest import load_manifest
from tests.conftest import SCENE_FACE, SHIPPED_MODEL, overlap, shipped_golden

Encode = Callable[..., bytes]
JPEG = {"Content-Type": "image/jpeg"}


def assert_problem(response: Any, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert set(problem) == {"type", "title", "status", "detail", "code", "request_id"}
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["request_id"] == response.headers["x-request-id"]
    assert "Traceback" not in response.text
    return dict(problem)


def test_a_photo_gives_seven_probabilities_of_one_face(client: TestClient, jpeg: bytes) -> None:
    response = client.post("/predict", files={"file": ("photo.jpg", jpeg, "image/jpeg")})
    assert response.status_code == 200
    answer = response.json()
    assert set(answer) == {"request_id", "model", "image", "faces", "timings_ms"}
    assert answer["image"] == {"width": 640, "height": 480}
    assert answer["model"]["name"] == "default"
    assert answer["model"]["detector"] == "haar"
    assert set(answer["timings_ms"]) == {"queue", "decode", "detect", "crop", "classify"}
    (face,) = answer["faces"]
    assert face["emotion"] == "happy"
    assert tuple(face["probabilities"]) == EMOTIONS
    assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    box = face["box"]
    assert overlap((box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]), SCENE_FACE) > 0.6


def test_the_three_forms_give_the_same(client: TestClient, jpeg: bytes) -> None:
    text = base64.b64encode(jpeg).decode()
    answers = [
        client.post("/predict", files={"file": jpeg}),
        client.post("/predict", content=jpeg, headers=JPEG),
        client.post("/predict", content=jpeg, headers={"Content-Type": "application/octet-stream"}),
        client.post("/predict", json={"image": text}),
        client.post("/predict", json={"image": "data:image/jpeg;base64," + text}),
        client.post("/predict", json={"image": re.sub("(.{76})", r"\1\n", text)}),
    ]
    assert [answer.status_code for answer in answers] == [200] * 6
    assert all(answer.json()["faces"] == answers[0].json()["faces"] for answer in answers)


def test_detect_false_takes_the_picture_as_the_face(client: TestClient, encode: Encode) -> None:
    manifest = load_manifest(SHIPPED_MODEL)
    picture = encode(Image.fromarray(manifest.golden.pixels(48)), "PNG")
    response = client.post("/predict?detect=false", content=picture, headers={"Content-Type": "image/png"})
    (face,) = response.json()["faces"]
    assert list(face["probabilities"].values()) == pytest.approx(
        shipped_golden(manifest), abs=manifest.golden.tolerance
    )
    assert face["confidence"] is face["landmarks"] is face["roll_deg"] is None


def test_no_face_is_an_empty_list(client: TestClient, encode: Encode) -> None:
    response = client.post("/predict", content=encode(Image.new("RGB", (320, 240), "gray")), headers=JPEG)
    assert (response.status_code, response.json()["faces"]) == (200, [])


def test_a_higher_confidence_finds_less(client: TestClient, jpeg: bytes) -> None:
    response = client.post("/predict?min_confidence=0.999", content=jpeg, headers=JPEG)
    assert response.json()["faces"] == []


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("max_faces=0", "max_faces"),
        ("max_faces=many", "max_faces"),
        ("min_confidence=1.1", "min_confidence"),
        ("min_confidence=nan", "min_confidence"),
        ("detect=perhaps", "detect"),
        ("max_face=3", "max_face"),
        ("detect=false&detect=true", "detect is given more than once"),
    ],
)
def test_a_wrong_parameter_is_named(query: str, name: str, client: TestClient, jpeg: bytes) -> None:
    problem = assert_problem(client.post(f"/predict?{query}", content=jpeg, headers=JPEG), 422, "invalid_parameter")
    assert name in problem["detail"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "undecodable_image"),
        (b"a text file, whatever it is called", 415, "unsupported_image"),
        (b"\xff\xd8\xff\xe0 and then nothing", 400, "undecodable_image"),
    ],
)
def test_a_body_that_is_no_image(body: bytes, status: int, code: str, client: TestClient) -> None:
    for request in ({"content": body, "headers": JPEG}, {"files": {"file": ("face.jpg", body, "image/jpeg")}}):
        assert_problem(client.post("/predict", **request), status, code)


def test_half_a_jpeg_is_400(client: TestClient, jpeg: bytes) -> None:
    problem = assert_problem(client.post("/predict", content=jpeg[:9000], headers=JPEG), 400, "undecodable_image")
    assert "truncated or corrupt" in problem["detail"]


def test_pictures_beyond_the_limits(client: TestClient, encode: Encode) -> None:
    narrow = encode(Image.new("L", (30_000, 10)), "PNG")
    assert_problem(client.post("/predict", content=narrow, headers=JPEG), 413, "image_too_large")
    tiny = encode(Image.new("RGB", (1, 1)), "PNG")
    problem = assert_problem(client.post("/predict", content=tiny, headers=JPEG), 422, "image_too_small")
    assert "1x1" in problem["detail"]


@pytest.mark.parametrize("announced", [True, False])
def test_more_bytes_than_allowed_are_413(announced: bool, settings: Settings) -> None:
    small = settings.model_copy(update={"max_upload_bytes": 2000})
    body = b"\xff" * 9000
    with TestClient(create_app(small)) as client:
        content = body if announced else iter([body[:1500], body[1500:]])
        problem = assert_problem(client.post("/predict", content=content, headers=JPEG), 413, "payload_too_large")
        assert "2,000 bytes" in problem["detail"]
        assert_problem(client.post("/predict", files={"file": body}), 413, "payload_too_large")
        text = base64.b64encode(body[:2001]).decode()
        assert_problem(client.post("/predict", json={"image": text}), 413, "payload_too_large")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "image/*"])
def test_what_a_body_is_its_bytes_tell_not_its_type(kind: str, client: TestClient, jpeg: bytes) -> None:
    """curl --data-binary without a header sends application/x-www-form-urlencoded."""
    headers = {"Content-Type": kind} if kind else {}
    assert client.post("/predict", content=jpeg, headers=headers).json()["faces"]
    assert_problem(client.post("/predict", content=b"text", headers=headers), 415, "unsupported_image")


def test_a_form_with_another_field_is_told_the_right_one(client: TestClient, jpeg: bytes) -> None:
    problem = assert_problem(client.post("/predict", files={"image": jpeg}), 422, "missing_image")
    assert "'file'" in problem["detail"]
    assert "'image'" in problem["detail"]


def test_a_text_field_is_not_a_file(client: TestClient) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    body = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\ntext\r\n--b--\r\n'
    problem = assert_problem(client.post("/predict", content=body, headers=headers), 422, "missing_image")
    assert "-F file=@photo.jpg" in problem["detail"]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"--b\r\n"),
        ("multipart/form-data; boundary=b", b"no boundary here"),
        ("application/json", b"{not json"),
    ],
)
def test_a_body_that_is_not_what_its_type_says_is_400(kind: str, body: bytes, client: TestClient) -> None:
    assert_problem(client.post("/predict", content=body, headers={"Content-Type": kind}), 400, "bad_form")


@pytest.mark.parametrize("body", ["{}", '{"image": 7}', '{"picture": "x"}'])
def test_json_without_an_image_is_422(body: str, client: TestClient) -> None:
    response = client.post("/predict", content=body, headers={"Content-Type": "application/json"})
    assert_problem(response, 422, "missing_image")


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"image": "nicht base64 ß"}, "base64"),
        ({"image": "abc"}, "base64"),
        ({"image": "data:image/png,plain"}, "must begin with data:image"),
        ({"image": "https://example.com/a.jpg"}, "does not fetch"),
        ({"image": "x", "other": 1}, "other"),
        ([], "object"),
    ],
)
def test_json_that_holds_no_file_in_base64_is_400(body: object, named: str, client: TestClient) -> None:
    assert named in assert_problem(client.post("/predict", json=body), 400, "bad_form")["detail"]


def test_a_path_that_is_not_there_and_a_method_that_is_not_taken(client: TestClient) -> None:
    assert_problem(client.post("/predictions"), 404, "not_found")
    assert_problem(client.get("/nothing/here"), 404, "not_found")
    assert "use POST" in assert_problem(client.get("/predict"), 405, "method_not_allowed")["detail"]


def test_a_request_id_that_is_sane_is_kept(client: TestClient, jpeg: bytes) -> None:
    given = client.post("/predict", content=jpeg, headers=JPEG | {"X-Request-ID": "trace-42.a_b"})
    assert given.headers["x-request-id"] == given.json()["request_id"] == "trace-42.a_b"
    for bad in ("a b", "x" * 65, "<script>"):
        other = client.post("/predict", content=jpeg, headers=JPEG | {"X-Request-ID": bad})
        assert re.fullmatch("[0-9a-f]{32}", other.headers["x-request-id"])


def test_a_failure_of_our_own_is_500_and_logged_once_with_its_inside(
    client: TestClient, jpeg: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        name = "haar"

        def detect(self, *_: object) -> None:
            raise RuntimeError("secret inside")

    service = client.app.state.service
    object.__setattr__(service.analyzer, "detector", Broken())
    with caplog.at_level("ERROR"):
        response = client.post("/predict", content=jpeg, headers=JPEG)
    problem = assert_problem(response, 500, "internal")
    assert "secret" not in response.text
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.request_id == problem["request_id"]
    assert "secret inside" in str(record.exc_info)
    batch = client.post("/predict/batch", files=[("files", jpeg), ("files", b"text")])
    assert [result["status"] for result in batch.json()["results"]] == [500, 415]
    assert "secret" not in batch.text


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


def test_more_bytes_at_once_than_may_arrive_are_refused_before_they_are_read(settings: Settings, jpeg: bytes) -> None:
    with TestClient(create_app(settings.model_copy(update={"max_pending_bytes": len(jpeg) - 1}))) as client:
        response = client.post("/predict", content=jpeg, headers=JPEG)
        assert_problem(response, 503, "overloaded")
        assert response.headers["retry-after"]
    with TestClient(create_app(settings.model_copy(update={"max_pending_bytes": len(jpeg)}))) as client:
        assert [client.post("/predict", content=jpeg, headers=JPEG).status_code for _ in range(3)] == [200] * 3


def test_a_strange_photo_spoils_neither_the_service_nor_a_batch(
    client: TestClient, encode: Encode, jpeg: bytes
) -> None:
    strip = encode(Image.new("RGB", (16_384, 16)), "PNG")
    response = client.post("/predict?detect=false", content=strip, headers=JPEG)
    assert response.status_code == 200
    assert response.json()["faces"][0]["box"]["width"] == 16_384
