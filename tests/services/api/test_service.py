"""What lives as long as the application: the model, and how it starts, fails and starts again."""

import asyncio
import re
import shutil
import threading
from pathlib import Path
from typing import cast

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from services.api.app import create_app
from services.api.faults import NotReady
from services.api.service import Image as Picture
from services.api.service import Service
from services.api.settings import Settings
from services.api.telemetry import Telemetry
from shared.analysis import Options
from shared.emotions import EMOTIONS
from shared.manifest import load_manifest
from tests.conftest import SHIPPED_MODEL, faulty, value

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


def test_work_is_refused_after_the_service_closed(settings: Settings, jpeg: bytes) -> None:
    async def scenario() -> None:
        service = Service(settings, Telemetry())
        await service.load()
        assert (await service.analyze(Picture(jpeg), Options())).faces
        await service.close()
        assert service.stopping.is_set()
        with pytest.raises(NotReady, match="stopping"):
            await service.analyze(Picture(jpeg), Options())

    asyncio.run(scenario())


def test_however_often_a_load_is_asked_for_meanwhile_it_is_one_more(settings: Settings) -> None:
    async def scenario() -> None:
        telemetry = Telemetry()
        service = Service(settings, telemetry)
        for _ in range(50):
            service.load()
        await asyncio.sleep(0.05)
        for _ in range(50):
            last = service.load()
        await last
        loads = telemetry.registry.get_sample_value("mien_model_loads_total", {"result": "ok"})
        assert loads == 2
        await service.close()

    asyncio.run(scenario())


def test_a_batch_is_answered_by_one_model_when_it_is_swapped_meanwhile(
    settings: Settings, tmp_path: Path, jpeg: bytes
) -> None:
    directory = Path(shutil.copytree(SHIPPED_MODEL, tmp_path / "served"))
    moving = settings.model_copy(update={"model": directory, "workers": 1})
    with TestClient(create_app(moving, faulty("is slow"))) as client:
        load_manifest(directory).model_copy(update={"version": "new"}).save(directory)
        service, portal = cast(FastAPI, client.app).state.service, client.portal
        assert portal is not None
        threading.Timer(0.4, lambda: portal.start_task_soon(service.load)).start()
        answer = client.post("/predict/batch", files=[("files", jpeg)] * 12).json()
        assert [result["status"] for result in answer["results"]] == [200] * 12
        assert answer["model"]["version"] == "new"
