"""Drawn pictures: boxes, labels and the file they are encoded to."""

import cv2
import numpy as np
import pytest

from shared.analyzer import Face
from shared.annotate import annotate, encode
from shared.boxes import PixelBox
from shared.emotions import EMOTION_COLORS, EMOTIONS

GREY = np.full((240, 320, 3), 128, np.uint8)


def face(box: PixelBox, emotion: str = "happy") -> Face:
    return Face(box, 0.9, tuple(0.7 if name == emotion else 0.05 for name in EMOTIONS))


def count_of(image: np.ndarray, emotion: str) -> int:
    red, green, blue = bytes.fromhex(EMOTION_COLORS[emotion][1:])
    return int((image == (blue, green, red)).all(axis=2).sum())


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_each_emotion_is_drawn_in_its_colour(emotion: str) -> None:
    drawn = annotate(GREY.copy(), (face(PixelBox(100, 80, 90, 90), emotion),))
    assert drawn.shape == GREY.shape
    assert count_of(drawn, emotion) > 4 * 90 * 0.8


@pytest.mark.parametrize(
    "box", [PixelBox(0, 0, 40, 40), PixelBox(280, 200, 40, 40), PixelBox(0, 0, 320, 240), PixelBox(319, 239, 1, 1)]
)
def test_a_face_anywhere_is_drawn_inside_the_picture(box: PixelBox) -> None:
    drawn = annotate(GREY.copy(), (face(box),))
    assert count_of(drawn, "happy") > 100


def test_a_picture_without_faces_is_unchanged() -> None:
    assert (annotate(GREY.copy(), ()) == GREY).all()


def test_a_png_gives_the_very_pixels_back_and_a_jpeg_nearly() -> None:
    noise = np.random.default_rng(0).integers(100, 156, GREY.shape, np.uint8)
    as_png, as_jpeg = (cv2.imdecode(np.frombuffer(encode(noise, kind), np.uint8), 1) for kind in ("png", "jpeg"))
    assert (as_png == noise).all()
    assert np.abs(as_jpeg.astype(int) - noise).mean() < 15
