"""GET /: the demo page."""

import re

from fastapi.testclient import TestClient


def test_the_page_is_served_with_a_strict_policy(client: TestClient) -> None:
    page = client.get("/")
    assert "<title>Mien" in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for source in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert client.get("/" + source).status_code == 200, source
