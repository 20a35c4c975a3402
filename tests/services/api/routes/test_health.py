"""Health paths, as balancers and people ask them."""

import pytest
from fastapi.testclient import TestClient

from services.api.app import create_app
from services.api.settings import Settings


def test_alive_ready_and_healthy(client: TestClient) -> None:
    assert client.get("/livez").json()["status"] == "ok"
    for path in ("/readyz", "/healthz"):
        response = client.get(path)
        assert response.status_code == 200
        assert response.json()["model"]["name"] == "default"
        assert response.json()["model"]["detector"] == "haar"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz"])
def test_head_is_answered_like_get_without_a_body(path: str, client: TestClient) -> None:
    response = client.head(path)
    assert (response.status_code, response.content) == (200, b"")


def test_while_draining_it_is_unready_and_connections_are_closed(settings: Settings) -> None:
    app = create_app(settings)
    with TestClient(app) as client:
        assert "connection" not in client.get("/readyz").headers
        app.state.service.draining = True
        response = client.get("/readyz")
        assert response.status_code == 503
        assert response.json()["detail"] == "The service is stopping."
        assert response.headers["connection"] == "close"
        assert client.get("/livez").headers["connection"] == "close"
