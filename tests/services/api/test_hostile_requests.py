"""Requests made to cost, each against the running service: what the others notice is what counts."""

import base64
import contextlib
import io
import json
import select
import signal
import socket
import struct
import time
from typing import Any

from PIL import Image

from tests.conftest import running_process
from tests.services.api.hostile import (
    MB,
    Client,
    head,
    in_threads,
    limited,
    patience,
    problem_of,
    tiny_webp,
)


def test_two_clients_that_send_slow_work_and_leave_hold_nobody_up(slow: bytes, jpeg: bytes) -> None:
    """Also the deadline: who stays is told 504, the workers are replaced, and the stop does not wait."""
    room = 1000 * MB  # for a picture of this size to be drawn on
    with running_process(workers=2, detect_side_px=320, timeout_s=1.5, max_pending_bytes=room) as (url, process):
        client = Client(url, process)
        request = head("/predict/annotated", len(slow), "Accept: image/png") + slow
        for connection in [client.raw(request), client.raw(request)]:
            connection.close()
        with client.watched(grows_by=1200 * MB):
            status, _, body = client.ask("POST", "/predict/annotated", slow, Accept="image/png")
            assert (status, json.loads(body)["code"]) == (504, "timeout")
            deadline = time.monotonic() + 20 * patience()
            while client.predict(jpeg) != 200:
                assert time.monotonic() < deadline
        assert [client.predict(jpeg) for _ in range(8)] == [200] * 8
        assert client.ask("GET", "/readyz")[0] == 200
        for _ in range(2):
            client.raw(request)
        time.sleep(0.5)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
        assert time.monotonic() - started < 8


def test_json_made_of_errors_is_told_one(service: Client, jpeg: bytes) -> None:
    bodies = [
        b'{"image": "x"' + b"".join(b',"%07d":0' % number for number in range(700_000)) + b"}",
        b'{"image": [' + b"[]," * 3_000_000 + b"1]}",
        b"[" * 9_000_000,
        b'{"image": "' + b"\\u0000" * 1_500_000 + b'"}',
        b'{"image": "' + b"A" * 9_000_000,
    ]
    with service.watched():
        for body in bodies:
            status, _, answer = service.ask("POST", "/predict", body, Content_Type="application/json")
            assert (status, json.loads(answer)["code"]) == (400, "bad_form")
            assert len(answer) < 2000
    text = json.dumps({"image": base64.b64encode(jpeg).decode()}).replace("/", "\\/").replace("=", "\\u003d")
    assert service.ask("POST", "/predict", text.encode(), Content_Type="application/json")[0] == 200


def test_small_files_of_huge_pictures_share_one_memory(service: Client, jpeg: bytes) -> None:
    def flat(kind: str) -> bytes:
        buffer = io.BytesIO()
        options: dict[str, Any] = {"compression": "tiff_deflate"} if kind == "TIFF" else {}
        Image.new("RGBA", (3600, 2400), (9, 9, 9, 9)).save(buffer, kind, **options)
        return buffer.getvalue()

    files = [tiny_webp(3000), flat("PNG"), flat("TIFF")]
    statuses: list[int] = []
    with service.watched(grows_by=350 * MB, livez_within_s=1):
        threads = [
            thread
            for path in ("/predict", "/predict/annotated")
            for data in files
            for thread in in_threads(2, lambda d=data, p=path: statuses.append(service.predict(d, p)))  # type: ignore[misc] # bound now
        ]
        for thread in threads:
            thread.join()
        assert service.predict(jpeg) == 200
    assert len(statuses) == 12
    assert set(statuses) <= {200, 400, 413, 503}


def test_slow_uploads_reserve_what_has_come(service: Client, jpeg: bytes) -> None:
    _ = [service.raw(head("/predict", 9_900_000) + b"\xff\xd8\xff") for _ in range(40)]
    assert [service.predict(jpeg) for _ in range(10)] == [200] * 10


def test_an_answer_that_is_not_read_counts_in_the_memory() -> None:
    """A picture of noise is a small JPEG, and several megabytes as the PNG that is asked for."""
    buffer = io.BytesIO()
    noise = Image.merge("RGB", [Image.effect_noise((2000, 1500), 90) for _ in range(3)])
    noise.save(buffer, "JPEG", quality=20, subsampling=0)
    request = head("/predict/annotated", len(buffer.getvalue()), "Accept: image/png") + buffer.getvalue()
    limits: dict[str, Any] = {"max_upload_bytes": 2 * MB, "max_pending_bytes": 10 * MB}
    with running_process(workers=1, detect_side_px=320, **limits) as (url, process):
        client = Client(url, process)
        slow = client.raw(request, takes=4096)
        answer = slow.recv(4096)
        assert answer.startswith(b"HTTP/1.1 200")
        size = int(answer.partition(b"content-length: ")[2].split()[0])
        assert client.pending() >= size > 5 * MB
        assert problem_of(client.raw(request))["code"] == "overloaded"
        slow.close()
        deadline = time.monotonic() + 10 * patience()
        while client.pending() > 0:
            assert time.monotonic() < deadline
        assert client.predict(buffer.getvalue(), "/predict/annotated") == 200


def test_an_upload_has_a_least_rate_and_a_deadline(jpeg: bytes) -> None:
    with running_process(workers=1, detect_side_px=320, upload_timeout_s=3) as (url, process):
        client = Client(url, process)
        stalls, trickles, flows = (client.raw(head("/predict", 9_000_000) + b"\xff\xd8\xff") for _ in range(3))
        started, answered = time.monotonic(), dict[str, float]()
        while len(answered) < 3:
            assert time.monotonic() < started + 20 * patience()
            for name, connection, piece in (
                ("stalls", stalls, b""),
                ("trickles", trickles, b"x"),
                ("flows", flows, b"x" * 4000),
            ):
                if name in answered:
                    continue
                if select.select([connection], [], [], 0.05)[0]:
                    answered[name] = time.monotonic() - started
                else:
                    connection.sendall(piece)
        problems = [problem_of(connection) for connection in (stalls, trickles, flows)]
        assert {problem["code"] for problem in problems} == {"slow_upload"}
        assert "nothing arrived for 0.5 s" in problems[0]["detail"]
        assert "too slow" in problems[1]["detail"]
        assert answered["trickles"] < answered["flows"]
        assert client.pending() == 0
        assert client.predict(jpeg) == 200


def test_what_surrounds_a_body_is_bounded(service: Client) -> None:
    """Extensions of chunks and headers after the body reach no handler, and no deadline of the body's."""
    chunked = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with service.watched(grows_by=50 * MB):
        for begun in (b"0\r\nX-After: ", b"5;extension=", b"1\r\nx\r\n5;"):
            connection = service.raw(chunked + begun)
            with contextlib.suppress(ConnectionError):  # it closes while more is sent
                for _ in range(400):
                    connection.sendall(b"a" * 65_536)
            with contextlib.suppress(ConnectionError):
                assert problem_of(connection)["status"] == 431


def test_clients_that_leave_during_their_answers_are_no_fault_of_ours(service: Client) -> None:
    for path in ("/metrics", "/livez", "/web/app.js"):
        for connection in [service.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 16) for _ in range(10)]:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
    assert 'mien_errors_total{code="internal"} 0.0' in service.ask("GET", "/metrics")[2].decode()


def test_a_body_with_an_upgrade_is_told_what_to_do(service: Client, jpeg: bytes) -> None:
    request = head(
        "/predict", len(jpeg), "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"
    )
    assert "--http1.1" in problem_of(service.raw(request + jpeg))["detail"]


def test_headers_have_a_deadline_and_connections_a_number(jpeg: bytes) -> None:
    with running_process(workers=1, detect_side_px=320, max_connections=40) as (url, process):
        client = Client(url, process)
        started = time.monotonic()
        silent = [client.raw(b"POST /predict HTTP/1.1\r\nHost: x\r\nX-Slow: ") for _ in range(20)]
        silent += [client.raw(b"") for _ in range(10)]
        silent += [client.raw(b"\r\n") for _ in range(10)]
        assert problem_of(client.raw(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"))["code"] == "overloaded"
        assert problem_of(silent[0])["code"] == "slow_request"
        for connection in silent[1:]:
            while connection.recv(65_536):
                pass
        assert 8 < time.monotonic() - started < 20 * patience()
        assert client.predict(jpeg) == 200


def test_every_error_is_a_problem_with_a_code_of_its_own(jpeg: bytes) -> None:
    with running_process(workers=1, allowed_origins="https://app.example", detect_side_px=320) as (url, process):
        client = Client(url, process)
        preflight = {"Origin": "https://other.example", "Access_Control_Request_Method": "DELETE"}
        cases = [
            (client.ask("OPTIONS", "/predict", None, **preflight), 400, "bad_request"),
            (client.ask("GET", "/web/style.css", Range="bytes=99999999-"), 416, "range_not_satisfiable"),
            (client.ask("GET", "/web/style.css", Range="nonsense"), 400, "bad_request"),
            (client.ask("GET", "/web/none.css"), 404, "not_found"),
        ]
        for (status, headers, body), expected, code in cases:
            assert status == expected
            assert headers["content-type"] == "application/problem+json"
            assert json.loads(body)["code"] == code
        broken = client.raw(b"nonsense\r\n\r\n")
        assert problem_of(broken)["code"] == "bad_request"
        metrics = client.ask("GET", "/metrics")[2].decode()
        assert 'mien_errors_total{code="internal"} 0.0' in metrics


def test_a_full_queue_is_told_before_the_body_is_read(slow: bytes) -> None:
    with running_process(workers=1, queue_size=0, detect_side_px=320) as (url, process):
        client = Client(url, process)
        busy = in_threads(1, lambda: client.ask("POST", "/predict/annotated", slow, Accept="image/png"))
        while b"mien_workers_busy 1.0" not in client.ask("GET", "/metrics")[2]:
            time.sleep(0.02)
        waiting = client.raw(head("/predict", 9_000_000))  # and not a byte of it
        waiting.settimeout(2 * patience())
        assert problem_of(waiting)["code"] == "overloaded"
        for thread in busy:
            thread.join()


def test_a_rate_limit_is_told_with_when_to_come_back(jpeg: bytes) -> None:
    with running_process(workers=1, rate_limit="3/minute", detect_side_px=320) as (url, process):
        client = Client(url, process)
        answers = [client.ask("POST", "/predict", jpeg) for _ in range(4)]
        assert [status for status, _, _ in answers] == [200, 200, 200, 429]
        assert 1 <= int(answers[3][1]["retry-after"]) <= 60
        assert json.loads(answers[3][2])["code"] == "rate_limited"
        assert client.ask("GET", "/livez")[0] == 200


def test_nothing_ends_the_service_within_a_gigabyte(slow: bytes, jpeg: bytes) -> None:
    """Address space is limited to 1 GiB in each of its processes; large images are refused or done, the rest is served."""
    with limited("-v 1048576", workers=2) as client:
        statuses: list[int] = []
        requests = [(tiny_webp(3000), "/predict"), (slow, "/predict/annotated"), (slow, "/predict")]
        threads = [
            thread
            for data, path in requests
            for thread in in_threads(2, lambda d=data, p=path: statuses.append(client.predict(d, p)))  # type: ignore[misc] # bound now
        ]
        for thread in threads:
            thread.join()
        assert len(statuses) == 6
        assert set(statuses) <= {200, 400, 413, 503, 504}
        assert client.predict(jpeg) == 200
        client.process.terminate()
        assert client.process.wait(timeout=30) == 0
