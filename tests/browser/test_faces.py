"""Boxes, labels and cards of many faces on the page."""

import io
import re

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from shared.emotions import EMOTIONS
from tests.browser.conftest import SLOW_MS
from tests.conftest import overlap


def crowd(scene: Image.Image, columns: int, rows: int) -> bytes:
    """A picture of the astronaut many times over."""
    head = scene.crop((190, 10, 370, 190))
    picture = Image.new("RGB", (180 * columns, 180 * rows))
    for n in range(columns * rows):
        picture.paste(head, (180 * (n % columns), 180 * (n // columns)))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def choose(page: Page, data: bytes, kind: str = "image/jpeg") -> None:
    page.locator("#file").set_input_files({"name": "picture", "mimeType": kind, "buffer": data})


def test_boxes_and_cards_carry_numbers_and_mark_each_other(page: Page, scene: Image.Image) -> None:
    choose(page, crowd(scene, 3, 2))
    expect(page.locator(".face h3")).to_have_text([re.compile(f"^Face {n}: ") for n in range(1, 7)], timeout=SLOW_MS)
    for n, label in enumerate(page.locator(".label").all_inner_texts(), 1):
        assert label.split()[0] == str(n)
    page.locator(".face").nth(4).hover()
    expect(page.locator(".marked")).to_have_count(3)
    assert page.locator(".marked").evaluate_all("all => all.map((one) => one.dataset.number)") == ["5"] * 3
    page.locator(".box").nth(1).hover()
    expect(page.locator(".face.marked h3")).to_have_text(re.compile("^Face 2"))
    page.mouse.move(1, 1)
    expect(page.locator(".marked")).to_have_count(0)
    page.locator(".face summary").nth(2).focus()
    expect(page.locator(".box.marked")).to_have_attribute("data-number", "3")


def answer_with_faces(page: Page, columns: int, rows: int) -> None:
    """Let /predict answer as if it found a face in each cell of 180 pixels."""
    faces = [
        {
            "box": {"x": 180 * (n % columns) + 20, "y": 180 * (n // columns) + 20, "width": 140, "height": 150},
            "confidence": 0.9,
            "emotion": "happy" if n % 3 else "neutral",
            "landmarks": {"nose": {"x": 180 * (n % columns) + 90, "y": 180 * (n // columns) + 100}},
            "probabilities": dict.fromkeys(EMOTIONS, 0.1) | {"happy" if n % 3 else "neutral": 0.4},
        }
        for n in range(columns * rows)
    ]
    image = {"width": 180 * columns, "height": 180 * rows}
    page.route(
        "**/predict", lambda route: route.fulfill(json={"faces": faces, "image": image, "timings_ms": {"detect": 1}})
    )


@pytest.mark.parametrize("width", [1280, 390])
def test_the_picture_stays_in_view_while_twenty_cards_are_scrolled(width: int, page: Page, scene: Image.Image) -> None:
    page.set_viewport_size({"width": width, "height": 850})
    answer_with_faces(page, 5, 4)
    choose(page, crowd(scene, 5, 4))
    expect(page.locator(".face")).to_have_count(20, timeout=SLOW_MS)
    expect(page.locator("#status")).to_have_text(re.compile(r"^20 faces: 13 happy, 7 neutral"))
    assert page.evaluate("document.documentElement.scrollHeight") < 2600
    page.locator(".face").nth(19).scroll_into_view_if_needed()
    expect(page.locator("#view")).to_be_in_viewport(ratio=0.9)


def test_labels_lie_off_each_other(page: Page, scene: Image.Image) -> None:
    answer_with_faces(page, 5, 4)
    choose(page, crowd(scene, 5, 4))
    expect(page.locator(".label")).to_have_count(20, timeout=SLOW_MS)
    areas = page.locator(".label").evaluate_all(
        "all => all.map((one) => one.getBoundingClientRect()).map((r) => [r.left, r.top, r.right, r.bottom])"
    )
    pairs = [(one, other) for n, one in enumerate(areas) for other in areas[n + 1 :]]
    assert [overlap(*pair) for pair in pairs if overlap(*pair) > 0.02] == []


def test_points_are_shown_where_asked(page: Page, scene: Image.Image) -> None:
    answer_with_faces(page, 3, 2)
    choose(page, crowd(scene, 3, 2))
    expect(page.locator(".box")).to_have_count(6, timeout=SLOW_MS)
    expect(page.locator(".point")).to_have_count(0)
    page.get_by_label("Points").check()
    expect(page.locator(".point")).to_have_count(6)
    nose, view = page.locator(".point").nth(5).bounding_box(), page.locator("#view").bounding_box()
    assert nose is not None
    assert view is not None
    assert nose["x"] + nose["width"] / 2 - view["x"] == pytest.approx(view["width"] * 450 / 540, abs=1.5)
    assert nose["y"] + nose["height"] / 2 - view["y"] == pytest.approx(view["height"] * 280 / 360, abs=1.5)


def test_after_an_error_the_earlier_picture_and_cards_are_gone(page: Page, jpeg: bytes) -> None:
    choose(page, jpeg)
    expect(page.locator(".face")).to_have_count(1, timeout=SLOW_MS)
    choose(page, b"no picture")
    expect(page.get_by_role("alert")).to_be_visible(timeout=SLOW_MS)
    expect(page.locator(".face, .box")).to_have_count(0)
    expect(page.locator("#status")).to_have_text("")
    expect(page.get_by_text("drop a picture here")).to_be_visible()


def test_a_picture_over_the_limit_is_told_in_numbers(page: Page, jpeg: bytes) -> None:
    choose(page, jpeg + bytes(11_200_000 - len(jpeg)))
    expect(page.get_by_role("alert")).to_have_text(re.compile(r"11\.2 MB.*10 MB"), timeout=SLOW_MS)


@pytest.mark.parametrize("size", [(16, 16_384), (16_384, 16)])
def test_a_strip_of_a_picture_makes_no_giant_canvas(size: tuple[int, int], page: Page) -> None:
    strip = io.BytesIO()
    Image.new("RGB", size, "gray").save(strip, "PNG")
    choose(page, strip.getvalue(), "image/png")
    expect(page.locator("#no-faces")).to_have_text("No face was found in this picture.", timeout=SLOW_MS)
    assert max(page.evaluate("[document.getElementById('view').width, document.getElementById('view').height]")) == 1600
