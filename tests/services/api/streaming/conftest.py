"""What tests of /stream share: a server and a frame."""

from collections.abc import Callable, Iterator

import pytest
from PIL import Image

from tests.conftest import running_server

Encode = Callable[..., bytes]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_server(max_upload_bytes=2_000_000, max_sessions=6) as http:
        yield http.replace("http", "ws") + "/stream"


@pytest.fixture(scope="module")
def frame(scene: Image.Image, encode: Encode) -> bytes:
    return encode(scene.resize((320, 240)), "JPEG")
