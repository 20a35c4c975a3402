"""What lives as long as the application: the model, and how it starts, fails and starts again."""

import asyncio
import re
import shutil
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from services.api.app import create_app
from services.api.faults import Overloaded
from services.api.service import Service
from services.api.settings import Settings
from services.api.telemetry import Telemetry
from shared.analyzer import Options
from shared.emotions import EMOTIONS
from tests.conftest import SHIPPED_MODEL, value

JPEG = {"Content-Type": "image/jpeg"}


def test_a_model_that_fails_verification_leaves_the_service_alive_but_not_ready(
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


def test_yunet_asked_for_and_missing_is_not_silently_haar(settings: Settings, tmp_path: Path) -> None:
    absent = settings.model_copy(update={"detector": "yunet", "yunet_model": tmp_path / "none.onnx"})
    with TestClient(create_app(absent)) as client:
        assert "make yunet" in client.get("/readyz").json()["detail"]


def test_the_model_route_says_what_is_served_and_how_good_it_is(client: TestClient) -> None:
    model = client.get("/model").json()
    assert model["labels"] == list(EMOTIONS)
    assert re.fullmatch("[0-9a-f]{64}", model["sha256"])
    assert model["training"]["data_sha256"]
    assert all(scores["all"]["accuracy"] > 0.5 for scores in model["metrics"]["validation"].values())


def test_an_application_starts_again_after_it_was_stopped(settings: Settings, jpeg: bytes) -> None:
    app = create_app(settings)
    for _ in range(2):
        with TestClient(app) as client:
            assert client.post("/predict", content=jpeg, headers=JPEG).status_code == 200
            assert value(client, "mien_workers") == 2


@pytest.fixture
def service(settings: Settings) -> Service:
    loaded = Service(settings, Telemetry())
    loaded.load()
    return loaded


def test_work_is_refused_after_the_service_closed(service: Service, jpeg: bytes) -> None:
    async def scenario() -> None:
        assert (await service.analyze(jpeg, Options())).faces
        await service.close()
        assert service.stopping.is_set()
        with pytest.raises(Exception, match="stopping"):
            await service.analyze(jpeg, Options())

    asyncio.run(scenario())


def test_what_is_analyzed_by_a_given_model_stays_with_it_when_the_model_is_swapped(
    service: Service, jpeg: bytes
) -> None:
    async def scenario() -> None:
        before = service.ready()
        service.load()
        assert service.ready() is not before
        renamed = before.manifest.model_copy(update={"version": "before"})
        old = type(before)(renamed, before.classifier, before.detector, before.limits)
        assert (await service.analyze(jpeg, Options(), old)).model.version == "before"
        await service.close()

    asyncio.run(scenario())


def test_upload_capacity_is_released_and_its_use_is_told(settings: Settings) -> None:
    service = Service(settings.model_copy(update={"max_pending_bytes": 1000}), Telemetry())
    with service.upload(600), pytest.raises(Overloaded, match="full: 600 bytes"), service.upload(500):
        pass
    with service.upload(1000):
        pass
    assert service.uploading == 0
    service.workers.close()
