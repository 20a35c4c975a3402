"""The service around the routes: health, model, metrics, documentation, page, settings."""

import re
import shutil
import socket
import threading
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from services.api import fetch_yunet
from services.api.__main__ import main
from services.api.app import create_app
from services.api.settings import Settings, unknown_settings
from shared.emotions import EMOTIONS
from tests.conftest import SHIPPED_MODEL

JPEG = {"Content-Type": "image/jpeg"}


def samples(client: TestClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(client: TestClient, name: str, **labels: str) -> float:
    return samples(client).get((name, frozenset(labels.items())), 0.0)


def test_alive_ready_and_healthy(client: TestClient) -> None:
    assert client.get("/livez").json()["status"] == "ok"
    for path in ("/readyz", "/healthz"):
        response = client.get(path)
        assert response.status_code == 200
        assert response.json()["model"]["name"] == "default"
        assert response.json()["model"]["detector"] == "haar"


def test_a_model_that_does_not_hold_leaves_the_service_alive_but_not_ready(
    settings: Settings, tmp_path: Path, jpeg: bytes
) -> None:
    directory = Path(shutil.copytree(SHIPPED_MODEL, tmp_path / "changed"))
    with (directory / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with TestClient(create_app(settings.model_copy(update={"model": directory}))) as client:
        assert client.get("/livez").status_code == 200
        for response in (
            client.get("/readyz"),
            client.get("/model"),
            client.post("/predict", content=jpeg, headers=JPEG),
        ):
            assert response.status_code == 503
            assert response.json()["code"] == "not_ready"
            assert "sha256" in response.json()["detail"]
            assert int(response.headers["retry-after"]) > 0
        assert value(client, "mien_ready") == 0


def test_yunet_asked_for_and_absent_is_not_silently_haar(settings: Settings, tmp_path: Path) -> None:
    absent = settings.model_copy(update={"detector": "yunet", "yunet_model": tmp_path / "none.onnx"})
    with TestClient(create_app(absent)) as client:
        assert "make yunet" in client.get("/readyz").json()["detail"]


def test_auto_takes_yunet_where_its_file_is(settings: Settings, tmp_path: Path, yunet_model: Path) -> None:
    for path, expected in ((yunet_model, "yunet"), (tmp_path / "none.onnx", "haar")):
        auto = settings.model_copy(update={"detector": "auto", "yunet_model": path})
        with TestClient(create_app(auto)) as client:
            assert client.get("/readyz").json()["model"]["detector"] == expected


def test_model_tells_what_is_served_and_how_good_it_is(client: TestClient) -> None:
    model = client.get("/model").json()
    assert model["labels"] == list(EMOTIONS)
    assert re.fullmatch("[0-9a-f]{64}", model["sha256"])
    assert model["training"]["data_sha256"]
    assert model["metrics"]["validation"]["all"]["accuracy"] >= 0.62


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


def test_unknown_paths_share_one_label(client: TestClient) -> None:
    for number in range(20):
        client.get(f"/scan/{number}.php")
    routes = {dict(labels)["route"] for name, labels in samples(client) if name == "mien_http_requests_total"}
    assert routes <= {"unmatched", "/metrics"}
    assert value(client, "mien_http_requests_total", route="unmatched", method="GET", status="4xx") == 20


def test_the_documentation_needs_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    sources = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert sources
    for source in sources:
        assert source.startswith("/")
        assert client.get(source).status_code == 200


def test_the_documentation_s_example_works_when_tried(client: TestClient) -> None:
    content = client.get("/openapi.json").json()["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert set(content) == {"multipart/form-data", "application/json", "image/*"}
    response = client.post("/predict", json=content["application/json"]["example"])
    assert [face["emotion"] for face in response.json()["faces"]] == ["happy"]


def test_the_documentation_says_where_a_key_goes_and_what_can_go_wrong(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    assert set(schema["components"]["securitySchemes"]) == {"APIKeyHeader", "HTTPBearer"}
    assert {"400", "401", "413", "415", "422", "500", "503"} <= set(schema["paths"]["/predict"]["post"]["responses"])
    assert "503" in schema["paths"]["/readyz"]["get"]["responses"]
    assert "/stream" in schema["info"]["description"]


def test_the_page_is_served_with_a_strict_policy(client: TestClient) -> None:
    page = client.get("/")
    assert "<title>Mien" in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for source in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert client.get("/" + source).status_code == 200, source


@pytest.mark.parametrize(
    ("name", "given"),
    [("MIEN_PORT", "many"), ("MIEN_WORKERS", "-1"), ("MIEN_DETECTOR", "dlib"), ("MIEN_MAX_PENDING_BYTES", "1000")],
)
def test_a_wrong_setting_is_named(
    name: str, given: str, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, given)
    assert main() == 2
    assert name in capsys.readouterr().err


def test_a_misspelt_setting_is_noticed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MIEN_DETECTR", "haar")
    monkeypatch.setenv("MIEN_FOOBAR", "1")
    assert unknown_settings() == [
        "MIEN_DETECTR is no setting; did you mean MIEN_DETECTOR?",
        "MIEN_FOOBAR is no setting.",
    ]
    monkeypatch.setenv("MIEN_WORKERS", "many")
    assert main() == 2
    said = capsys.readouterr().err
    assert "MIEN_DETECTOR" in said
    assert "MIEN_WORKERS" in said


@pytest.mark.parametrize("setting", ["MIEN_PORT", "MIEN_METRICS_PORT"])
def test_a_port_in_use_is_told_before_anything_is_loaded(
    setting: str, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("MIEN_PORT", "0")
        monkeypatch.setenv(setting, str(port))
        assert main() == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: 127.0.0.1 port {port} cannot be listened on")
    assert f"or set {setting}" in said


def test_the_fetch_says_why_and_leaves_with_1(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """From a server that gives another file than YuNet, and from one that speaks no HTTP."""
    monkeypatch.setenv("MIEN_YUNET_MODEL", str(tmp_path / "yunet.onnx"))
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            for said in (b"HTTP/1.0 200 OK\r\n\r\nanother file", b"hello\r\n"):
                client, _ = server.accept()
                client.recv(9000)
                client.sendall(said)
                client.close()

        threading.Thread(target=answer, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/x"
        assert fetch_yunet.main((url, url)) == 1
    said = capsys.readouterr().out
    assert "a different file" in said
    assert "make yunet" in said
    assert not (tmp_path / "yunet.onnx").exists()
