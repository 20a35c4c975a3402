"""From start to stop: what operators do to a running service, and what it logs and traces."""

import http.client
import http.server
import json
import os
import shutil
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from websockets.sync.client import connect

from shared.manifest import load_manifest
from tests.conftest import SHIPPED_MODEL, running_process, running_server


def wait_until(condition: Callable[[], bool], within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def get(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def post(url: str, data: bytes, **headers: str) -> dict[str, object]:
    kind = {"Content-Type": "image/jpeg", **{name.replace("_", "-"): value for name, value in headers.items()}}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/predict", data, kind), timeout=30) as answer:
        return dict(json.load(answer))


class Clients:
    """Eight clients that ask without pause, each on a new connection, until they are told to stop."""

    def __init__(self, url: str, jpeg: bytes) -> None:
        self.host, self.jpeg = urlsplit(url).netloc, jpeg
        self.answered = self.refused = 0
        self.lost: list[Exception] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(8)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        while not self._stop.is_set():
            connection = http.client.HTTPConnection(self.host, timeout=30)
            try:
                connection.connect()
            except OSError:
                self.refused += 1
                time.sleep(0.02)
                continue
            try:
                headers = {"Content-Type": "image/jpeg", "Connection": "close"}
                connection.request("POST", "/predict", self.jpeg, headers)
                assert connection.getresponse().status == 200
                self.answered += 1
            except Exception as error:
                self.lost.append(error)
            finally:
                connection.close()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_stopping_under_load_loses_no_request_that_was_accepted(jpeg: bytes) -> None:
    """Whoever got through before the service was told to stop gets an answer."""
    with running_process(detect_side_px=320) as (url, process):
        clients = Clients(url, jpeg)
        wait_until(lambda: clients.answered > 20)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
        wait_until(lambda: clients.refused > 8)
        clients.stop()
    # The system's own queue of connections may hold some that the service never saw; it closes them unanswered.
    unseen = (ConnectionResetError, http.client.RemoteDisconnected)
    assert [error for error in clients.lost if not isinstance(error, unseen)] == []
    assert len(clients.lost) <= 8


def test_while_draining_it_is_alive_not_ready_and_still_answers(jpeg: bytes) -> None:
    with running_process(drain_delay_s=3, detect_side_px=320) as (url, process):
        assert get(f"{url}/readyz")[0] == 200
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: get(f"{url}/readyz")[0] == 503)
        assert b"stopping" in get(f"{url}/readyz")[1]
        assert get(f"{url}/livez")[0] == 200
        assert post(url, jpeg)["faces"]


def test_sighup_swaps_to_a_good_model_and_keeps_the_old_one_before_a_bad(tmp_path: Path, jpeg: bytes) -> None:
    served = Path(shutil.copytree(SHIPPED_MODEL, tmp_path / "served"))

    def version(url: str) -> str:
        return str(json.loads(get(f"{url}/readyz")[1])["model"]["version"])

    def loads(url: str, result: str) -> float:
        line = f'mien_model_loads_total{{result="{result}"}} '
        text = get(f"{url}/metrics")[1].decode()
        return float(next(row.removeprefix(line) for row in text.splitlines() if row.startswith(line)))

    with running_process(model=served, detect_side_px=320) as (url, process):
        before = version(url)
        manifest = load_manifest(served)
        manifest.model_copy(update={"version": "new"}).save(served)
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: version(url) == "new")
        assert before != "new"
        (served / "model.onnx").write_bytes(b"spoilt")
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: loads(url, "failed") == 1)
        assert version(url) == "new"
        assert post(url, jpeg)["model"] == {"name": "default", "version": "new", "detector": "haar"}
        assert loads(url, "ok") == 2


def test_a_manifest_that_breaks_the_libraries_is_refused_like_any_other(tmp_path: Path) -> None:
    served = Path(shutil.copytree(SHIPPED_MODEL, tmp_path / "served"))
    content = json.loads((served / "manifest.json").read_text())
    content["golden"]["face"] = "AAAA"
    (served / "manifest.json").write_text(json.dumps(content))
    with running_process(model=served) as (url, process):
        status, body = get(f"{url}/readyz")
        assert status == 503
        assert b"golden.face" in body
        shutil.copy(SHIPPED_MODEL / "manifest.json", served)
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: get(f"{url}/readyz")[0] == 200)


def test_a_client_that_stalls_does_not_hold_the_process() -> None:
    with running_process(stop_timeout_s=4) as (url, process):
        address = urlsplit(url)
        with socket.create_connection((address.hostname, address.port)) as stalled:
            stalled.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=12) == 0


def test_a_first_model_is_picked_up_without_a_restart(tmp_path: Path) -> None:
    with running_process(model=tmp_path / "later") as (url, process):
        status, body = get(f"{url}/readyz")
        assert status == 503
        assert b"There is no model in" in body
        shutil.copytree(SHIPPED_MODEL, tmp_path / "later")
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: get(f"{url}/readyz")[0] == 200)


def test_metrics_may_have_a_port_of_their_own() -> None:
    with running_process(metrics_port=0) as (url, process):
        # Port 0 is a free one: the process tells which by listening on it.
        assert get(f"{url}/metrics")[0] == 404
        ports = listening_ports(process.pid) - {urlsplit(url).port}
        assert len(ports) == 1
        status, body = get(f"http://localhost:{ports.pop()}/metrics")
        assert status == 200
        assert b"mien_ready 1.0" in body


def listening_ports(pid: int) -> set[int]:
    """The TCP ports on which a process listens (Linux)."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(link)
        except FileNotFoundError:  # closed since it was listed
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A" and row[9] in inodes}


def test_the_log_has_one_json_line_a_request_and_nothing_of_the_image(tmp_path: Path, jpeg: bytes) -> None:
    with (tmp_path / "log").open("w+") as log:
        with running_process(stderr=log, log_format="json", detect_side_px=320) as (url, _):
            post(url, jpeg, X_Request_ID="trace-me")
            with pytest.raises(urllib.error.HTTPError):
                post(url, b"secret words that are no image")
            get(f"{url}/nothing%0aforged%1b[31m?token=secret")
            with connect(url.replace("http", "ws") + "/stream?token=secret") as ws:
                ws.recv()
        log.seek(0)
        lines = [json.loads(line) for line in log]
    assert all(set(line) >= {"time", "level", "logger", "message"} for line in lines)
    assert any(line["logger"] == "uvicorn.error" for line in lines)
    requests = [line for line in lines if line["logger"] == "mien.access"]
    assert [line["message"] for line in requests] == [
        "POST /predict",
        "POST /predict",
        "GET /nothing%0Aforged%1B%5B31m",
        "WS /stream",
    ]
    first, second, third, fourth = requests
    assert (first["request_id"], first["status"]) == ("trace-me", 200)
    assert set(first["timings_ms"]) == {"queue", "decode", "detect", "crop", "classify"}
    assert first["duration_ms"] > 0
    assert (second["status"], second["code"]) == (415, "unsupported_image")
    assert third["status"] == 404
    assert fourth["duration_ms"] >= 0
    assert "code" not in fourth
    assert "secret" not in json.dumps(lines)
    assert "127.0.0.1" not in json.dumps([line for line in lines if "running on" not in line["message"]])


def test_the_log_for_people_is_text(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+") as log:
        with running_process(stderr=log, log_format="text") as (url, _):
            get(f"{url}/livez")
        log.seek(0)
        text = log.read()
    assert "INFO    GET /livez  request_id=" in text
    assert "{" not in text


def test_traces_have_a_span_a_stage_below_the_request(jpeg: bytes) -> None:
    """A real OTLP collector's place is taken by a server that keeps what it is sent."""
    received: list[ExportTraceServiceRequest] = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("localhost", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://localhost:{collector.server_port}",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
            "OTEL_SERVICE_NAME": "mien-test",
        }
        trace_id = "0af7651916cd43dd8448eb211c80319c"
        with running_process(environment=environment, detect_side_px=320) as (url, _):
            get(f"{url}/livez")
            post(url, jpeg, traceparent=f"00-{trace_id}-b7ad6b7169203331-01")
        collector.shutdown()
    resources = [resource for request in received for resource in request.resource_spans]
    names = {a.value.string_value for r in resources for a in r.resource.attributes if a.key == "service.name"}
    assert names == {"mien-test"}
    spans = [span for resource in resources for scope in resource.scope_spans for span in scope.spans]
    mine = [span for span in spans if span.trace_id.hex() == trace_id]
    by_name = {span.name: span for span in mine}
    assert {"queue", "decode", "detect", "crop", "classify"} <= set(by_name)
    assert any("/predict" in name for name in by_name)
    assert by_name["decode"].end_time_unix_nano <= by_name["detect"].start_time_unix_nano
    parents = {span.span_id for span in mine}
    assert by_name["detect"].parent_span_id in parents
    assert not any("/livez" in span.name for span in spans)


def test_requests_need_a_key_where_there_is_one(jpeg: bytes) -> None:
    with running_server(api_keys="sesame", detect_side_px=320) as url:
        for headers in ({}, {"X-API-Key": "wrong"}, {"Authorization": "Bearer wrong"}):
            with pytest.raises(urllib.error.HTTPError) as refused:
                post(url, jpeg, **headers)
            assert refused.value.code == 401
            assert json.load(refused.value)["code"] == "unauthorized"
            assert refused.value.headers["WWW-Authenticate"] == "Bearer"
        assert post(url, jpeg, X_API_Key="sesame")["faces"]
        assert post(url, jpeg, Authorization="Bearer sesame")["faces"]
        for path in ("/livez", "/readyz", "/metrics", "/docs", "/"):
            assert get(url + path)[0] == 200
        assert get(f"{url}/model")[0] == 401


def test_pages_of_allowed_origins_may_ask(jpeg: bytes) -> None:
    with running_server(allowed_origins="https://app.example", detect_side_px=320) as url:
        request = urllib.request.Request(f"{url}/predict", jpeg, {"Content-Type": "image/jpeg"})
        for origin, expected in (("https://app.example", "https://app.example"), ("https://other.example", None)):
            request.add_header("Origin", origin)
            with urllib.request.urlopen(request, timeout=10) as answer:
                assert answer.headers.get("Access-Control-Allow-Origin") == expected
