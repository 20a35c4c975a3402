"""What happens around every request, whatever the application does."""

import asyncio
import json
import logging
import re

import pytest
from prometheus_client import CollectorRegistry
from starlette.requests import ClientDisconnect
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.middleware import CatchAll, RequestContext
from services.api.telemetry import Telemetry


def answering(status: int) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": [(b"x-request-id", b"inner")]})
        await send({"type": "http.response.body", "body": b"done"})

    return app


def failing(error: Exception, after_the_start: bool = False) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if after_the_start:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise error

    return app


def around(app: ASGIApp, draining: bool = False) -> tuple[TestClient, CollectorRegistry]:
    telemetry = Telemetry()
    wrapped = RequestContext(CatchAll(app), telemetry, lambda: draining)
    return TestClient(wrapped, raise_server_exceptions=False), telemetry.registry


def test_a_valid_id_is_kept_and_any_other_replaced() -> None:
    client, _ = around(answering(200))
    assert client.get("/", headers={"X-Request-ID": "a.b-C_1"}).headers.get_list("x-request-id") == ["a.b-C_1"]
    for bad in ("a b", "x" * 65, "<script>", ""):
        assert re.fullmatch("[0-9a-f]{32}", client.get("/", headers={"X-Request-ID": bad}).headers["x-request-id"])


def test_an_unexpected_error_is_a_problem_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    client, registry = around(failing(RuntimeError("secret inside")))
    response = client.get("/", headers={"X-Request-ID": "mine"})
    assert (response.status_code, response.json()["code"]) == (500, "internal")
    assert "secret" not in response.text
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.__dict__["request_id"] == "mine"
    assert registry.get_sample_value("mien_errors_total", {"code": "internal"}) == 1


def test_an_error_after_the_answer_began_closes_the_connection() -> None:
    client, registry = around(failing(RuntimeError("late"), after_the_start=True))
    with pytest.raises(RuntimeError):
        TestClient(client.app).get("/")
    assert registry.get_sample_value("mien_http_in_flight") == 0


def test_a_client_that_left_is_neither_an_error_of_ours_nor_a_success(caplog: pytest.LogCaptureFixture) -> None:
    client, registry = around(failing(ClientDisconnect()))
    with caplog.at_level(logging.INFO, "mien.access"):
        client.get("/")
    labels = {"route": "unmatched", "method": "GET", "status": "4xx"}
    assert registry.get_sample_value("mien_http_requests_total", labels) == 1
    assert registry.get_sample_value("mien_errors_total", {"code": "disconnected"}) == 1
    (record,) = [record for record in caplog.records if record.name == "mien.access"]
    assert record.__dict__["status"] == 499


def test_methods_and_paths_of_scanners_share_one_label() -> None:
    client, registry = around(answering(404))
    client.request("BREW", "/pot")
    client.request("STEEP", "/tea")
    labels = {"route": "unmatched", "method": "other", "status": "4xx"}
    assert registry.get_sample_value("mien_http_requests_total", labels) == 2


def test_connections_end_with_the_answer_only_while_draining() -> None:
    assert around(answering(200), draining=True)[0].get("/").headers["connection"] == "close"
    assert "connection" not in around(answering(200))[0].get("/").headers


@pytest.mark.parametrize("draining", [True, False])
def test_a_request_that_the_stop_cuts_short_is_told_so(draining: bool) -> None:
    """The server cancels what still waits at the end of the stop; any other cancellation is not ours to answer."""
    sent: list[Message] = []

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(60)

    async def keep(message: Message) -> None:
        sent.append(message)

    async def never() -> Message:
        await asyncio.sleep(60)
        return {}

    async def scenario() -> None:
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "state": {}}
        task = asyncio.ensure_future(CatchAll(waits, stopping=lambda: draining)(scope, never, keep))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())
    if draining:
        assert sent[0]["status"] == 503
        assert json.loads(sent[1]["body"])["code"] == "not_ready"
    else:
        assert sent == []
