"""What is drawn on an annotated picture can be read."""

from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from shared.analysis import Face
from shared.annotate import annotate, encode
from shared.boxes import PixelBox
from shared.emotions import EMOTION_COLORS, EMOTIONS

Picture = npt.NDArray[np.uint8]


def face(emotion: str, x: int, y: int, width: int, height: int) -> Face:
    probabilities = [0.05] * len(EMOTIONS)
    probabilities[EMOTIONS.index(emotion)] = 0.7
    return Face(PixelBox(x, y, width, height), 0.9, tuple(probabilities))


def ground(width: int, height: int, grey: int = 30) -> Picture:
    return np.full((height, width, 3), grey, np.uint8)


def of_color(picture: Picture, emotion: str) -> npt.NDArray[np.bool_]:
    """Where the picture has exactly an emotion's colour."""
    color = tuple(bytes.fromhex(EMOTION_COLORS[emotion][1:]))[::-1]
    return np.asarray((picture == color).all(axis=2))


@pytest.mark.parametrize("place", [(0, 0), (540, 0), (0, 380), (540, 380), (270, 190)])
def test_the_label_lies_at_or_in_its_box_wherever_that_is(place: tuple[int, int]) -> None:
    picture = annotate(ground(640, 480), (face("happy", *place, 100, 100),))
    rows, columns = np.nonzero((picture != 30).any(axis=2))
    assert place[0] - 4 <= columns.min()
    assert columns.max() <= place[0] + 100 + 4
    assert rows.min() >= place[1] - 30
    assert rows.max() <= place[1] + 130


def test_a_label_covers_no_other_face_and_no_other_label() -> None:
    faces = (face("happy", 100, 100, 120, 120), face("angry", 110, 235, 120, 120), face("sad", 240, 235, 120, 120))
    alone = [of_color(annotate(ground(640, 480), (one,)), one.emotion).sum() for one in faces]
    picture = annotate(ground(640, 480), faces)
    assert not of_color(picture, "angry")[104:216, 104:216].any()
    assert not of_color(picture, "sad")[239:351, 114:226].any()
    for one, count in zip(faces, alone, strict=True):
        assert of_color(picture, one.emotion).sum() > 0.95 * count, f"the label of {one.emotion} is covered"


def test_a_name_that_does_not_fit_gives_way_to_a_number() -> None:
    crowd = tuple(face("surprise", 30 * n % 600, 30 * (30 * n // 600), 28, 28) for n in range(320))
    named = of_color(annotate(ground(600, 480), (face("surprise", 285, 225, 28, 28),)), "surprise")
    in_a_crowd = of_color(annotate(ground(600, 480), crowd), "surprise")[225:253, 285:313]
    assert named.sum() > 600
    assert 100 < in_a_crowd.sum() < 500


def test_neutral_is_seen_on_grey() -> None:
    color = bytes.fromhex(EMOTION_COLORS["neutral"][1:])
    plain = np.tile(np.array(list(color[::-1]), np.uint8), (480, 640, 1))
    picture = annotate(plain.copy(), (face("neutral", 200, 200, 100, 100),))
    edge = picture[250, 190:310].astype(int)
    assert np.abs(edge - plain[0, 0]).sum(axis=1).max() > 200


def test_lines_and_type_grow_with_the_picture() -> None:
    def drawn(scale: int) -> float:
        box = (20 * scale, 20 * scale, 40 * scale, 40 * scale)
        return float((annotate(ground(100 * scale, 100 * scale), (face("fear", *box),)) != 30).any(axis=2).mean())

    assert drawn(40) == pytest.approx(drawn(10), rel=0.3)


@pytest.mark.parametrize("size", [(16, 16), (16, 400), (400, 16)])
def test_the_smallest_and_the_narrowest_pictures_are_drawn_on(size: tuple[int, int]) -> None:
    picture = annotate(ground(*size), (face("disgust", 2, 2, 9, 9),))
    assert picture.shape == (size[1], size[0], 3)
    assert (picture != 30).any()


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_each_emotion_is_drawn_in_its_color(emotion: str) -> None:
    drawn = annotate(ground(320, 240), (face(emotion, 100, 80, 90, 90),))
    assert of_color(drawn, emotion).sum() > 4 * 90 * 0.8


def test_landmarks_are_drawn_where_asked() -> None:
    landmarks = ((80.0, 80.0), (120.0, 80.0), (100.0, 100.0), (85.0, 120.0), (115.0, 120.0))
    marked = replace(face("happy", 50, 50, 100, 100), landmarks=landmarks)
    plain, drawn = (of_color(annotate(ground(400, 300), (marked,), points), "happy") for points in (False, True))
    assert all(drawn[round(y), round(x)] and not plain[round(y), round(x)] for x, y in landmarks)


def test_a_picture_without_faces_is_unchanged() -> None:
    assert (annotate(ground(320, 240), ()) == ground(320, 240)).all()


def test_a_png_gives_the_very_pixels_back_and_a_jpeg_nearly() -> None:
    noise = np.random.default_rng(0).integers(100, 156, (240, 320, 3), np.uint8)
    as_png, as_jpeg = (cv2.imdecode(np.frombuffer(encode(noise, kind), np.uint8), 1) for kind in ("png", "jpeg"))
    assert (as_png == noise).all()
    assert np.abs(as_jpeg.astype(int) - noise).mean() < 15
