"""While the queue is full, new requests are refused at once, and those already accepted are hardly slowed down."""

import http.client
import json
import time
from pathlib import Path

from tests.conftest import running_process
from tests.services.api.hostile import Client, in_threads

PAGE = "https://app.example"


def test_a_refusal_is_a_complete_answer_and_keeps_the_connection_open(slow: bytes, jpeg: bytes, tmp_path: Path) -> None:
    with (
        (tmp_path / "log").open("w") as log,
        running_process(log, workers=1, queue_size=0, detect_side_px=320, allowed_origins=PAGE, log_format="json") as (
            url,
            process,
        ),
    ):
        client = Client(url, process)
        busy = in_threads(1, lambda: client.ask("POST", "/predict/annotated", slow, Accept="image/png"))
        while b"mien_workers_busy 1.0" not in client.ask("GET", "/metrics")[2]:
            time.sleep(0.02)
        connection = http.client.HTTPConnection(*client.address, timeout=60)
        for _ in range(3):
            connection.request("POST", "/predict?max_faces=1", jpeg, {"X-Request-ID": "mine"})
            answer = connection.getresponse()
            assert (answer.status, answer.headers["retry-after"], answer.headers["x-request-id"]) == (503, "1", "mine")
            problem = json.loads(answer.read())
            assert (problem["code"], problem["request_id"]) == ("overloaded", "mine")
        connection.request("GET", "/livez")
        assert connection.getresponse().read() == b'{"status":"ok"}'
        connection.close()
        status, headers, _ = client.ask("POST", "/predict", jpeg, Origin=PAGE)
        assert (status, headers["access-control-allow-origin"]) == (503, PAGE)
        metrics = client.ask("GET", "/metrics")[2].decode()
        assert 'mien_http_requests_total{method="POST",route="/predict",status="5xx"} 4.0' in metrics
        assert 'mien_errors_total{code="overloaded"} 4.0' in metrics
        assert 'mien_rejected_total{reason="overloaded"} 4.0' in metrics
        for thread in busy:
            thread.join()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert sum(line["requests"] for line in lines if "turned away" in line["message"]) == 3
    assert len([line for line in lines if line["message"] == "POST /predict"]) == 1
