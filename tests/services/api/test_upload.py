"""Images in forms, JSON and raw bodies, and what is wrong with those that are not."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from fastapi.testclient import TestClient
from starlette.requests import Request

from services.api.app import create_app
from services.api.faults import PayloadTooLarge
from services.api.service import Service
from services.api.settings import Settings
from services.api.telemetry import Telemetry
from services.api.upload import image_of, in_bytes

LIMIT = 3_000_000


@pytest.fixture
def small(settings: Settings) -> Iterator[TestClient]:
    limits = {"max_upload_bytes": LIMIT, "max_batch_files": 2}
    with TestClient(create_app(settings.model_copy(update=limits))) as client:
        yield client


def problem(client: TestClient, path: str, **request: object) -> tuple[int, str, str]:
    answer = client.post(path, **request).json()
    return answer["status"], answer["code"], answer["detail"]


def test_sizes_are_told_as_people_read_them() -> None:
    assert [in_bytes(size) for size in (9000, 10_000_000, 11_240_000)] == ["9,000 bytes", "10 MB", "11.2 MB"]


@pytest.mark.parametrize("form", [True, False])
def test_an_upload_that_is_too_large_is_told_both_numbers(form: bool, small: TestClient) -> None:
    body = b"\xff" * (LIMIT + 200_000)
    request = {"files": {"file": body}} if form else {"content": body}
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
    service = Service(settings.model_copy(update={"max_upload_bytes": 2000}), Telemetry())

    async def scenario() -> None:
        async with image_of(request_of([b"abc", b"de"], content_length="5"), service) as image:
            assert image == b"abcde"
            assert service.uploading == 5
        with pytest.raises(PayloadTooLarge):
            async with image_of(request_of([b"x" * 1500] * 2), service):
                pass
        assert service.uploading == 0

    asyncio.run(scenario())
    service.workers.close()
