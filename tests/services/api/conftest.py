"""Services that hostile clients meet."""

import io
from collections.abc import Iterator

import pytest
from PIL import Image

from tests.conftest import running_process
from tests.services.api.hostile import MB, OPENED, Client


@pytest.fixture(autouse=True)
def no_socket_left_open() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


@pytest.fixture(scope="module")
def service() -> Iterator[Client]:
    """One service for all tests that leave it as they found it."""
    with running_process(workers=2, detect_side_px=320, max_pending_bytes=100 * MB, timeout_s=60) as (url, process):
        yield Client(url, process)


@pytest.fixture(scope="module")
def slow() -> bytes:
    """A picture that takes its whole time in earnest: 49 megapixels, to be drawn on and encoded again."""
    buffer = io.BytesIO()
    Image.new("RGB", (7000, 7000), "gray").save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
