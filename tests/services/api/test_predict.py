"""POST /predict: faces and their emotions, and a clear answer to everything else."""

import base64
import re
from collections.abc import Callable, Iterator

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from services.api.app import create_app
from services.api.settings import Settings
from shared.emotions import EMOTIONS
from shared.manifest import load_manifest
from tests.conftest import SCENE_FACE, SHIPPED_MODEL, application, assert_problem, faulty, overlap, shipped_golden

Encode = Callable[..., bytes]
JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    """One application for all tests that only ask: starting it takes longer than most of them."""
    with application() as client:
        yield client


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
    settings: Settings, jpeg: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with TestClient(create_app(settings, faulty("raises"))) as client:
        with caplog.at_level("ERROR"):
            response = client.post("/predict", content=jpeg, headers=JPEG)
        problem = assert_problem(response, 500, "internal")
        assert "secret" not in response.text
        (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
        assert record.__dict__["request_id"] == problem["request_id"]
        assert "secret inside" in str(record.exc_info)
        batch = client.post("/predict/batch", files=[("files", jpeg), ("files", b"text")])
        assert [result["status"] for result in batch.json()["results"]] == [500, 415]
        assert "secret" not in batch.text


def test_a_strange_photo_spoils_neither_the_service_nor_a_batch(
    client: TestClient, encode: Encode, jpeg: bytes
) -> None:
    strip = encode(Image.new("RGB", (16_384, 16)), "PNG")
    response = client.post("/predict?detect=false", content=strip, headers=JPEG)
    assert response.status_code == 200
    assert response.json()["faces"][0]["box"]["width"] == 16_384
