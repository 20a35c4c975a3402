"""Fetching YuNet, from servers that do not have it."""

import socket
import threading
from pathlib import Path

import pytest

from services.api import fetch_yunet
from services.api.settings import Settings


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
