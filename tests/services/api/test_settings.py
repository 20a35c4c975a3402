"""Settings: a wrong one is named, and stops the start."""

import socket

import pytest

from services.api.__main__ import main
from services.api.settings import Settings, unknown_settings


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("MIEN_PORT", "many"),
        ("MIEN_WORKERS", "-1"),
        ("MIEN_DETECTOR", "dlib"),
        ("MIEN_MAX_PENDING_BYTES", "1000"),
        ("MIEN_IDLE_TIMEOUT_S", "0"),
        ("MIEN_ANSWER", "both"),
        ("MIEN_PRIOR", "even"),
        ("MIEN_PRIOR", "1,2,3"),
        ("MIEN_API_KEYS", ","),
        ("MIEN_API_KEYS", " "),
        ("MIEN_API_KEYS", "a,,b"),
        ("MIEN_ALLOWED_ORIGINS", "http://a.com/"),
        ("MIEN_ALLOWED_ORIGINS", "a.com"),
        ("MIEN_ALLOWED_ORIGINS", "https://A.com"),
        ("MIEN_ALLOWED_ORIGINS", "https://a.com:443"),
    ],
)
def test_a_wrong_setting_is_named(
    name: str, given: str, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, given)
    assert main() == 2
    assert name in capsys.readouterr().err


def test_a_misspelt_setting_is_noticed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MIEN_DETECTR", "haar")
    monkeypatch.setenv("MIEN_FOOBAR", "1")
    assert unknown_settings() == [
        "MIEN_DETECTR is not a setting; did you mean MIEN_DETECTOR?",
        "MIEN_FOOBAR is not a setting.",
    ]
    monkeypatch.setenv("MIEN_WORKERS", "many")
    assert main() == 2
    said = capsys.readouterr().err
    assert "MIEN_DETECTOR" in said
    assert "MIEN_WORKERS" in said


@pytest.mark.parametrize("setting", ["MIEN_PORT", "MIEN_METRICS_PORT"])
def test_a_port_in_use_is_told_before_anything_is_loaded(
    setting: str, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("MIEN_PORT", "0")
        monkeypatch.setenv(setting, str(port))
        assert main() == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: cannot listen on 127.0.0.1 port {port}")
    assert f"or set {setting}" in said


def test_keys_are_not_printed_with_what_is_wrong_about_them(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MIEN_API_KEYS", "sesame,")
    assert main() == 2
    assert "sesame" not in capsys.readouterr().err


def test_metrics_cannot_have_the_service_s_own_port(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MIEN_PORT", "9100")
    monkeypatch.setenv("MIEN_METRICS_PORT", "9100")
    assert main() == 2
    assert "MIEN_METRICS_PORT: it is the service's own port" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["jpg,HEIC", "JPEG, heif", "HEIC,heif,jpeg"])
def test_formats_go_by_the_names_that_people_use(given: str, settings: Settings) -> None:
    assert Settings(formats=given).image_kinds == ("JPEG", "HEIC")


def test_origins_that_browsers_send_are_taken(settings: Settings) -> None:
    given = "https://app.example, http://localhost:9000, http://[::1]:8000,*"
    assert len(Settings(allowed_origins=given).origins) == 4


def test_an_empty_variable_counts_as_unset(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_API_KEYS", "")
    assert Settings().keys == ()
