"""The description at /openapi.json, judged by the tools that people use on it."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from openapi_spec_validator import validate
from pydantic import SecretStr

from services.api.app import create_app
from services.api.settings import Settings
from tests.conftest import running_server

BIN = Path(sys.executable).parent
# Bytes that a description calls an image need not be one: which are, no schema can say.
NOT_DECIDABLE = "positive_data_acceptance"
PROGRAM = """
import io, sys
from client import Client
from client.api.health import readyz
from client.api.predict import predict, predict_annotated, predict_batch
from client.models import PredictBatchBody, PredictFilesBody, PredictJsonImageJson
from client.types import File

url, photo = sys.argv[1], open(sys.argv[2], "rb").read()
client = Client(base_url=url)
file = lambda data: File(payload=io.BytesIO(data), file_name="photo.jpg")
answer = predict.sync_detailed(client=client, body=file(photo), max_faces=1)
print(int(answer.status_code), type(answer.parsed).__name__, answer.parsed.faces[0].emotion.name)
answer = predict.sync_detailed(client=client, body=PredictFilesBody(file=file(photo)))
print(int(answer.status_code), type(answer.parsed).__name__, len(answer.parsed.faces))
answer = predict.sync_detailed(client=client, body=file(b"text"))
print(int(answer.status_code), type(answer.parsed).__name__, answer.parsed.code)
answer = predict_batch.sync_detailed(client=client, body=PredictBatchBody(files=[file(photo), file(b"text")]))
print(int(answer.status_code), *(result.status for result in answer.parsed.results))
answer = predict_annotated.sync_detailed(client=client, body=file(photo))
print(int(answer.status_code), answer.parsed.payload.read(3).hex())
print(readyz.sync(client=client).model.name)
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_server(detect_side_px=320) as url:
        yield url


@pytest.fixture(scope="module")
def description(url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("description") / "openapi.json"
    with urllib.request.urlopen(f"{url}/openapi.json") as answer:
        path.write_bytes(answer.read())
    return path


def test_the_description_is_valid_openapi(description: Path) -> None:
    validate(json.loads(description.read_text()))


def test_a_generated_client_is_complete_and_reads_answers_and_problems(
    url: str, description: Path, jpeg: bytes
) -> None:
    folder = description.parent
    (folder / "config.yml").write_text("post_hooks: []\n")
    (folder / "photo.jpg").write_bytes(jpeg)
    generate: list[str | Path] = [BIN / "openapi-python-client", "generate", "--meta", "none", "--fail-on-warning"]
    paths: list[str | Path] = [
        "--path",
        description,
        "--output-path",
        folder / "client",
        "--config",
        folder / "config.yml",
    ]
    done = subprocess.run([*generate, *paths], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, url, folder / "photo.jpg"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == [
        "200 Prediction HAPPY",
        "200 Prediction 1",
        "415 Problem unsupported_image",
        "200 200 415",
        "200 ffd8ff",
        "default",
    ], done.stderr


def test_generated_requests_are_answered_as_described(url: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(BIN / "schemathesis", "run", f"{url}/openapi.json", "--no-color", "--seed", "1"),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", "10"),
            *("--checks", "all", "--exclude-checks", NOT_DECIDABLE),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("keys", "optional"), [("", [{}]), ("sesame", [])])
def test_keys_are_optional_only_where_none_are_set(keys: str, optional: list[object], settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"api_keys": SecretStr(keys)}))
    security = app.openapi()["paths"]["/predict"]["post"]["security"]
    assert security == [{"APIKeyHeader": []}, {"HTTPBearer": []}, *optional]
