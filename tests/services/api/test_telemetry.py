"""Metrics, as Prometheus reads them."""

from fastapi.testclient import TestClient

from services.api.telemetry import Telemetry
from tests.conftest import samples, value

JPEG = {"Content-Type": "image/jpeg"}


def test_metrics_count_requests_stages_and_emotions(client: TestClient, jpeg: bytes) -> None:
    route = {"route": "/predict", "method": "POST"}
    assert value(client, "mien_predictions_total", emotion="happy") == 0
    for _ in range(3):
        client.post("/predict", content=jpeg, headers=JPEG)
    client.post("/predict", content=b"text", headers=JPEG)
    assert value(client, "mien_http_requests_total", **route, status="2xx") == 3
    assert value(client, "mien_http_requests_total", **route, status="4xx") == 1
    assert value(client, "mien_http_request_duration_seconds_count", **route, status="2xx") == 3
    assert value(client, "mien_errors_total", code="unsupported_image") == 1
    assert value(client, "mien_predictions_total", emotion="happy") == 3
    for stage in ("decode", "detect", "crop", "classify"):
        assert value(client, "mien_stage_duration_seconds_count", stage=stage) == 3
    assert value(client, "mien_faces_per_image_sum") == value(client, "mien_classify_batch_size_sum") == 3
    assert value(client, "mien_top_probability_sum") / value(client, "mien_top_probability_count") > 0.5
    assert value(client, "mien_ready") == 1


def test_a_scrape_of_some_metrics_is_up_to_date() -> None:
    telemetry = Telemetry()
    telemetry.answered("/predict", "POST", 200, 0.01)
    (requests,) = telemetry.registry.restricted_registry(["mien_http_requests_total"]).collect()
    assert [sample.value for sample in requests.samples] == [1]


def test_unknown_paths_share_one_label(client: TestClient) -> None:
    for number in range(20):
        client.get(f"/scan/{number}.php")
    routes = {dict(labels)["route"] for name, labels in samples(client) if name == "mien_http_requests_total"}
    assert routes <= {"unmatched", "/metrics"}
    assert value(client, "mien_http_requests_total", route="unmatched", method="GET", status="4xx") == 20
