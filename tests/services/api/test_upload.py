"""Images in forms, JSON and raw bodies, and what is wrong with those that are not."""

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.requests import Request

from services.api.app import create_app
from services.api.faults import PayloadTooLarge
from services.api.service import Service
from services.api.settings import Settings
from services.api.telemetry import Telemetry
from services.api.upload import image_of, in_bytes
from tests.conftest import application, assert_problem

LIMIT = 3_000_000

JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    """One application for all tests that only ask."""
    with application() as client:
        yield client


@pytest.fixture
def small(settings: Settings) -> Iterator[TestClient]:
    limits = {"max_upload_bytes": LIMIT, "max_batch_files": 2}
    with TestClient(create_app(settings.model_copy(update=limits))) as client:
        yield client


def problem(client: TestClient, path: str, **request: Any) -> tuple[int, str, str]:
    answer = client.post(path, **request).json()
    return answer["status"], answer["code"], answer["detail"]


def test_sizes_are_told_as_people_read_them() -> None:
    assert [in_bytes(size) for size in (9000, 10_000_000, 11_240_000)] == ["9,000 bytes", "10 MB", "11.2 MB"]


@pytest.mark.parametrize("form", [True, False])
def test_an_upload_that_is_too_large_is_told_both_numbers(form: bool, small: TestClient) -> None:
    body = b"\xff" * (LIMIT + 200_000)
    request: dict[str, Any] = {"files": {"file": body}} if form else {"content": body}
    status, code, detail = problem(small, "/predict", **request)
    assert (status, code) == (413, "payload_too_large")
    assert detail.startswith("The upload is 3.2 MB; at most 3 MB are allowed.")


def test_text_beside_the_files_of_a_batch_is_told(small: TestClient) -> None:
    files = [("files", ("a.jpg", b"x")), ("files", (None, "just text"))]
    status, code, detail = problem(small, "/predict/batch", files=files)
    assert (status, code) == (422, "invalid_form")
    assert detail == "1 of the 2 fields 'files' are text, not files."


def test_too_many_files_are_told_the_limit(small: TestClient) -> None:
    assert problem(small, "/predict/batch", files=[("files", b"x")] * 3) == (
        422,
        "invalid_form",
        "The form has too many files; the limit is 2.",
    )
    _, code, detail = problem(small, "/predict", files=[("file", b"x")] * 2)
    assert code == "invalid_form"
    assert "the limit is 1. Use /predict/batch" in detail


def request_of(chunks: list[bytes], **headers: str) -> Request:
    async def body() -> AsyncIterator[dict[str, object]]:
        for chunk in chunks:
            yield {"type": "http.request", "body": chunk, "more_body": True}
        yield {"type": "http.request", "body": b"", "more_body": False}

    messages = body()
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": raw, "method": "POST"}, lambda: anext(messages))


def test_capacity_is_held_while_the_image_is_used_and_freed_after_a_fault(settings: Settings) -> None:
    async def scenario() -> None:
        service = Service(settings.model_copy(update={"max_upload_bytes": 2000}), Telemetry())
        await service.load()
        with service.budget.holding() as held:
            image = await image_of(request_of([b"abc", b"de"], content_length="5"), service, held)
            assert image.data == b"abcde"
            assert service.budget.used == 5
        with pytest.raises(PayloadTooLarge), service.budget.holding() as held:
            await image_of(request_of([b"x" * 1500] * 2), service, held)
        assert service.budget.used == 0
        await service.close()

    asyncio.run(scenario())


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


def test_more_bytes_at_once_than_may_arrive_are_refused_before_they_are_read(settings: Settings, jpeg: bytes) -> None:
    with TestClient(create_app(settings.model_copy(update={"max_pending_bytes": len(jpeg) - 1}))) as client:
        response = client.post("/predict", content=jpeg, headers=JPEG)
        assert_problem(response, 503, "overloaded")
        assert response.headers["retry-after"]
    with TestClient(create_app(settings.model_copy(update={"max_pending_bytes": len(jpeg)}))) as client:
        assert [client.post("/predict", content=jpeg, headers=JPEG).status_code for _ in range(3)] == [200] * 3
