"""The description at /openapi.json and the page at /docs."""

import re

from fastapi.testclient import TestClient

from shared.emotions import EMOTIONS


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
    assert set(content) == {"multipart/form-data", "application/json", "application/octet-stream"}
    response = client.post("/predict", json=content["application/json"]["example"])
    assert [face["emotion"] for face in response.json()["faces"]] == ["happy"]


def test_the_documentation_says_where_a_key_goes_and_what_can_go_wrong(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    assert set(schema["components"]["securitySchemes"]) == {"APIKeyHeader", "HTTPBearer"}
    assert {"400", "401", "413", "415", "422", "500", "503"} <= set(schema["paths"]["/predict"]["post"]["responses"])
    assert "503" in schema["paths"]["/readyz"]["get"]["responses"]
    assert "/stream" in schema["info"]["description"]


def test_operations_are_named_by_words_and_metrics_come_last(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    names = [operation["operationId"] for path in paths.values() for operation in path.values()]
    assert names == ["predict", "predict_batch", "predict_annotated", "model", "livez", "healthz", "readyz", "metrics"]


def test_every_error_is_the_same_problem(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    described = [
        response["content"]
        for path in paths.values()
        for operation in path.values()
        for status, response in operation["responses"].items()
        if int(status) >= 400
    ]
    assert len(described) > 20
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    assert all(content == problem for content in described)


def test_emotions_are_an_enumeration(client: TestClient) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert schemas["FaceModel"]["properties"]["emotion"]["enum"] == list(EMOTIONS)
