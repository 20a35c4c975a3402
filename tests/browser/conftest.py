"""Real Chromium, a camera fed by a video of the astronaut, and a real server."""

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, sync_playwright

from tests.conftest import running_server

CHROMIUM = Path("/usr/bin/chromium")
SLOW_MS = 30_000  # that a loaded machine may take for what is shown
Launch = Callable[..., Browser]


@pytest.fixture(scope="module")  # while it runs, nothing else in this thread may have an event loop
def playwright() -> Iterator[Playwright]:
    if not CHROMIUM.exists():
        message = f"no {CHROMIUM}; `apt-get install chromium` installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def launch(playwright: Playwright) -> Iterator[Launch]:
    """Start a browser with these switches; all of them end with the tests."""
    browsers: list[Browser] = []

    def start(*switches: str) -> Browser:
        quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*quiet, *switches])
        browsers.append(browser)
        return browser

    yield start
    for browser in browsers:
        browser.close()


@pytest.fixture(scope="session")
def video(scene: Image.Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds at 15 frames of the scene, moving and growing, as JPEGs one after another."""
    path = tmp_path_factory.mktemp("camera") / "astronaut.mjpeg"
    picture = np.asarray(scene)
    with path.open("wb") as file:
        for number in range(90):
            turn = number / 90 * 2 * np.pi
            scale, x, y = 1.15 + 0.15 * np.sin(turn), -40 + 40 * np.cos(turn), -10 + 10 * np.sin(2 * turn)
            moved = cv2.warpAffine(picture, np.array([[scale, 0, x], [0, scale, y]]), (640, 480))
            buffer = io.BytesIO()
            Image.fromarray(moved).save(buffer, "JPEG", quality=85)
            file.write(buffer.getvalue())
    return path


@pytest.fixture(scope="module")
def with_camera(launch: Launch, video: Path) -> Browser:
    return launch(
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={video}",
    )


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running_server(detect_side_px=320) as url:
        yield url


@pytest.fixture
def complaints() -> list[str]:
    """Everything that the browser complained about: errors, refused resources, violated policies."""
    return []


@pytest.fixture
def context(with_camera: Browser) -> Iterator[BrowserContext]:
    with_camera_context = with_camera.new_context(viewport={"width": 1280, "height": 900}, permissions=["camera"])
    yield with_camera_context
    with_camera_context.close()


@pytest.fixture
def page(context: BrowserContext, server: str, complaints: list[str]) -> Page:
    """The page, opened, with a camera that may be used."""
    page = context.new_page()
    watch(page, complaints)
    page.goto(server)
    return page


def watch(page: Page, complaints: list[str]) -> None:
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.expose_function("complain", lambda text: complaints.append(text))  # a function of our own: Playwright marks it
    page.add_init_script("addEventListener('securitypolicyviolation', (e) => complain(`CSP: ${e.violatedDirective}`))")
