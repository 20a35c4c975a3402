"""Keys and origins, decided from a connection's headers."""

import base64

import pytest
from starlette.requests import HTTPConnection

from services.api.security import KEY_SUBPROTOCOL, Access, access, is_key, origin_allowed

KEYS = ("sesame", "schlüssel")


def connection(*protocols: str, **headers: str) -> HTTPConnection:
    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return HTTPConnection({"type": "websocket", "headers": raw, "subprotocols": list(protocols)})


def encoded(key: str) -> str:
    return KEY_SUBPROTOCOL + base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "asked",
    [
        connection(x_api_key="sesame"),
        connection(authorization="Bearer sesame"),
        connection(authorization="bearer  sesame "),
        connection("mien.v1", encoded("schlüssel")),
    ],
)
def test_a_key_is_taken_from_each_place(asked: HTTPConnection) -> None:
    assert access(asked, KEYS) is Access.GRANTED


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (connection(), Access.MISSING),
        (connection(authorization="Basic sesame"), Access.MISSING),
        (connection("mien.v1"), Access.MISSING),
        (connection(x_api_key="Sesame"), Access.WRONG),
        (connection(x_api_key="sesame2"), Access.WRONG),
        (connection(encoded("other")), Access.WRONG),
    ],
)
def test_a_missing_key_is_told_from_a_wrong_one(asked: HTTPConnection, expected: Access) -> None:
    assert access(asked, KEYS) is expected


def test_a_subprotocol_that_is_not_base64_gives_no_access() -> None:
    assert access(connection(KEY_SUBPROTOCOL + "%%%"), KEYS) is not Access.GRANTED


def test_without_keys_everyone_has_access() -> None:
    assert access(connection(), ()) is Access.GRANTED


def test_any_of_the_keys_counts_and_nothing_else() -> None:
    assert is_key("schlüssel", KEYS)
    assert not is_key("", KEYS)
    assert not is_key("sesame,schlüssel", KEYS)


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (None, True),
        ("http://mien.example", True),
        ("https://app.example", True),
        ("https://other.example", False),
        ("http://mien.example.evil.example", False),
        ("http://[x", False),
        ("null", False),
    ],
)
def test_pages_of_this_host_and_of_allowed_origins_may_connect(origin: str | None, expected: bool) -> None:
    headers = {"host": "mien.example"} | ({"origin": origin} if origin else {})
    assert origin_allowed(connection(**headers), ["https://app.example"]) is expected


def test_a_star_allows_every_page() -> None:
    assert origin_allowed(connection(host="mien.example", origin="https://other.example"), ["*"])


@pytest.mark.parametrize(
    "sent", ["schlüssel", "schlüssel".encode().decode("latin-1"), "ключ".encode().decode("latin-1")]
)
def test_a_key_of_any_letters_is_known_as_latin_1_and_as_utf_8(sent: str) -> None:
    keys = ("schlüssel", "ключ")
    assert access(connection(x_api_key=sent), keys) is Access.GRANTED
    assert access(connection(authorization=f"Bearer {sent}"), keys) is Access.GRANTED
