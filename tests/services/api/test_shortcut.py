"""The connection gives a small request the answer that the application gives the same request with an Origin."""

import base64
import http.client
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import running_process
from tests.services.api.hostile import Client, head

KEY = "s3cret"
FORM = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n%b\r\n--b--\r\n'
# What a request says, by what it tries; JPEG stands for the picture.
REQUESTS: dict[str, tuple[str, bytes, dict[str, str]]] = {
    "a picture": ("/predict", b"JPEG", {}),
    "parameters": ("/predict?max_faces=1&detect=false", b"JPEG", {}),
    "a form": ("/predict", FORM % b"JPEG", {"Content-Type": "multipart/form-data; boundary=b"}),
    "JSON": ("/predict", b'{"image": "BASE64"}', {"Content-Type": "application/json"}),
    "an id": ("/predict", b"JPEG", {"X-Request-ID": "mine"}),
    "an invalid id": ("/predict", b"JPEG", {"X-Request-ID": "not mine"}),
    "text": ("/predict", b"no picture", {}),
    "a broken picture": ("/predict", b"\xff\xd8\xff broken", {}),
    "a broken form": ("/predict", b"--b\r\n", {"Content-Type": "multipart/form-data; boundary=b"}),
    "another field": ("/predict", FORM.replace(b"file", b"photo"), {"Content-Type": "multipart/form-data; boundary=b"}),
    "an unknown parameter": ("/predict?size=3", b"JPEG", {}),
    "a contradiction": ("/predict?max_faces=1&max_faces=2", b"JPEG", {}),
    "no key": ("/predict", b"JPEG", {"X-API-Key": ""}),
    "a wrong key": ("/predict", b"JPEG", {"X-API-Key": "guessed"}),
    "nothing": ("/predict", b"", {}),
}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "lines"


@pytest.fixture(scope="module")
def service(log: Path) -> Iterator[Client]:
    with (
        log.open("w") as file,
        running_process(file, workers=1, api_keys=KEY, log_format="json", timeout_s=60) as (url, process),
    ):
        yield Client(url, process)


def answer_of(client: Client, path: str, body: bytes, headers: dict[str, str]) -> tuple[Any, ...]:
    """Status, headers and content, without what differs between two equal requests."""
    connection = http.client.HTTPConnection(*client.address, timeout=60)
    for _ in range(2):  # the connection stays open
        connection.request("POST", path, body, {"Content-Type": "image/jpeg", "X-API-Key": KEY} | headers)
        answer = connection.getresponse()
        given, content = dict(answer.getheaders()), json.loads(answer.read())
    connection.close()
    assert given.pop("date", None), (answer.status, given, content)
    assert content.pop("request_id") == given["x-request-id"]
    if given["x-request-id"] != "mine":
        assert len(given.pop("x-request-id")) == 32
    if timings := content.pop("timings_ms", None):  # they are not of one length
        given["content-length"] = content["timings_ms"] = ""
        assert min(timings.values()) >= 0
    return answer.status, given, content


@pytest.mark.parametrize("tried", REQUESTS)
def test_an_answer_does_not_depend_on_who_gives_it(service: Client, jpeg: bytes, tried: str) -> None:
    path, body, headers = REQUESTS[tried]
    body = body.replace(b"JPEG", jpeg).replace(b"BASE64", base64.b64encode(jpeg))
    at_once = answer_of(service, path, body, headers)
    assert at_once == answer_of(service, path, body, headers | {"Origin": service.url})
    assert at_once[0] == 200 or at_once[2]["code"]


def test_every_request_is_counted_and_logged_alike(service: Client, log: Path, jpeg: bytes) -> None:
    def count() -> dict[str, str]:
        lines = service.ask("GET", "/metrics")[2].decode().splitlines()
        return dict(line.rsplit(" ", 1) for line in lines if line.startswith(("mien_http_requests", "mien_errors")))

    counted = []
    for origin in ({}, {"Origin": service.url}):
        before = count()
        for body in (jpeg, b"text"):
            service.ask("POST", "/predict", body, X_API_Key=KEY, X_Request_ID=f"line-{len(counted)}", **origin)
        after = {name: float(value) - float(before.get(name, 0)) for name, value in count().items()}
        counted.append({name: value for name, value in after.items() if "/metrics" not in name and value})
    assert counted[0] == counted[1]
    assert len(counted[0]) == 3
    time.sleep(0.1)  # lines of requests are written several at once
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    shapes = [
        [
            (line["message"], line["status"], sorted(line))
            for line in lines
            if line.get("request_id") == f"line-{number}"
        ]
        for number in (0, 1)
    ]
    assert shapes[0] == shapes[1]
    assert len(shapes[0]) == 2


def test_a_body_may_come_in_pieces_and_slowly(service: Client, jpeg: bytes) -> None:
    for pause_s in (0.05, 1.3):  # soon enough to be waited for, and not
        connection = service.raw(head("/predict", len(jpeg), f"X-API-Key: {KEY}"))
        for start in range(0, len(jpeg), len(jpeg) // 3 + 1):
            connection.sendall(jpeg[start : start + len(jpeg) // 3 + 1])
            time.sleep(pause_s)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 OK\r\n")


def test_requests_sent_ahead_are_answered_in_order(service: Client, jpeg: bytes) -> None:
    one = head("/predict", len(jpeg), f"X-API-Key: {KEY}", "X-Request-ID: first") + jpeg
    connection = service.raw(one + b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" + one.replace(b"first", b"third"))
    received = b""
    while b"third" not in received:
        received += connection.recv(65_536)
    assert received.index(b"first") < received.index(b'{"status":"ok"}') < received.index(b"third")


def test_a_client_that_leaves_is_logged_as_gone(service: Client, log: Path, jpeg: bytes) -> None:
    """While its body arrives, and while its picture is worked on."""
    for number, body in enumerate((jpeg[:100], jpeg)):
        connection = service.raw(
            head("/predict", len(jpeg), f"X-API-Key: {KEY}", f"X-Request-ID: gone-{number}") + body
        )
        time.sleep(0.005)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
    deadline = time.monotonic() + 30
    while not all(f"gone-{number}" in log.read_text() for number in (0, 1)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    lines = [json.loads(line) for line in log.read_text().splitlines() if "gone-" in line]
    assert (lines[0]["status"], lines[0]["code"]) == (499, "disconnected")


def test_a_stop_lets_an_upload_end_and_then_closes_the_connection(jpeg: bytes) -> None:
    with running_process(workers=1) as (url, process):
        client = Client(url, process)
        connection = client.raw(head("/predict", len(jpeg)) + jpeg[:100])
        time.sleep(0.2)
        process.terminate()
        time.sleep(0.3)
        connection.sendall(jpeg[100:])
        received = b""
        while piece := connection.recv(65_536):
            received += piece
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"connection: close" in received
