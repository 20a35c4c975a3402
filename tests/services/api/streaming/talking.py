"""What tests of /stream use to talk to a server."""

import json
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

Encode = Callable[..., bytes]


def opened(url: str, **options: Any) -> ClientConnection:
    return connect(url, open_timeout=20, close_timeout=5, compression=None, **options)


def receive(ws: ClientConnection, within_s: float = 20) -> dict[str, Any]:
    return dict(json.loads(ws.recv(timeout=within_s)))


def close_of(ws: ClientConnection, within_s: float = 20) -> tuple[int, str]:
    """The code and reason with which the server closes, whatever it says before."""
    with pytest.raises(ConnectionClosed) as closed:
        drain(ws, within_s)
    frame = closed.value.rcvd
    assert frame is not None, "the connection was cut"
    return frame.code, frame.reason


def drain(ws: ClientConnection, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        ws.recv(timeout=within_s)


def metric(url: str, name: str, **labels: str) -> float:
    text = urllib.request.urlopen(url.replace("ws://", "http://").replace("/stream", "/metrics")).read().decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return 0.0
