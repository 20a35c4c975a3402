"""Our own detector, as it ships, on the astronaut and on what is no picture of anybody."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from skimage import data

from shared.analysis import MIN_FACE_PX
from shared.boxes import Box, intersection_over_union
from shared.detector_manifest import load_detector_manifest
from shared.pipeline.detect import Detection
from shared.pipeline.mien import MienDetector, open_mien
from shared.pipeline.session import open_session
from shared.pipeline.single_shot import MAX_CANDIDATES, search
from shared.pipeline.yunet import open_yunet
from tests.conftest import ROOT, SCENE_FACE

Picture = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]  # (5, 2)
SHIPPED = ROOT / "models/detector"
FACE = Box(SCENE_FACE[0], SCENE_FACE[1], SCENE_FACE[2] - SCENE_FACE[0], SCENE_FACE[3] - SCENE_FACE[1])
CENTRE = (280.0, 109.0)
SIDE = 114.0  # the root of the face's area
SERVED = MIN_FACE_PX / 800  # the default min_face in pictures of 1000x800


@pytest.fixture(scope="module")
def detector() -> MienDetector:
    return open_mien(SHIPPED, max_side_px=1024)


@pytest.fixture(scope="module")
def picture(scene: Image.Image) -> Picture:
    return np.asarray(cv2.cvtColor(np.asarray(scene), cv2.COLOR_RGB2BGR), np.uint8)


def seen(picture: Picture, scale: float, turn_deg: float = 0, to: tuple[float, float] = (500, 400)) -> Picture:
    """The scene scaled and turned about the face, which comes to lie at `to` of 1000x800; grey around it."""
    shrunk = min(1.0, scale)
    small = cv2.resize(picture, None, fx=shrunk, fy=shrunk, interpolation=cv2.INTER_AREA)  # warping alone would alias
    matrix = cv2.getRotationMatrix2D((CENTRE[0] * shrunk, CENTRE[1] * shrunk), -turn_deg, scale / shrunk)
    matrix = matrix + np.array([[0, 0, to[0] - CENTRE[0] * shrunk], [0, 0, to[1] - CENTRE[1] * shrunk]])
    grey = (128, 128, 128)
    return np.asarray(cv2.warpAffine(small, matrix, (1000, 800), borderValue=grey), np.uint8)


def the_face(found: list[Detection], scale: float, to: tuple[float, float] = (500, 400)) -> Detection:
    """The detection on the face; fails where there is none."""
    side = Box(to[0] - FACE.width * scale / 2, to[1] - FACE.height * scale / 2, FACE.width * scale, FACE.height * scale)
    best = max(found, key=lambda one: intersection_over_union(one.box, side), default=None)
    assert best is not None
    assert intersection_over_union(best.box, side) > 0.35, best
    return best


@pytest.mark.parametrize("size_px", [40, 60, 90, 140, 220, 340, 500])
def test_finds_the_face_at_any_size(size_px: int, detector: MienDetector, picture: Picture) -> None:
    scale = size_px / SIDE
    the_face(detector.detect(seen(picture, scale), 0.6, SERVED), scale)


@pytest.mark.parametrize("turn_deg", [-60, -45, -30, 30, 45, 60])
def test_finds_the_face_turned(turn_deg: int, detector: MienDetector, picture: Picture) -> None:
    the_face(detector.detect(seen(picture, 1, turn_deg), 0.6, SERVED), 1)


@pytest.mark.parametrize("light", [0.5, 0.25, 0.1])
def test_finds_the_face_in_the_dark(light: float, detector: MienDetector, picture: Picture) -> None:
    the_face(detector.detect((seen(picture, 1) * light).astype(np.uint8), 0.6, SERVED), 1)


@pytest.mark.parametrize("to", [(45, 400), (955, 400), (500, 45), (500, 755)])
def test_finds_the_face_at_the_border(to: tuple[float, float], detector: MienDetector, picture: Picture) -> None:
    the_face(detector.detect(seen(picture, 1, to=to), 0.6, SERVED), 1, to)


@pytest.fixture(scope="module")
def portrait() -> Picture:
    """The astronaut in her own proportions, which the scene stretches; points depend on them."""
    return np.asarray(cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2BGR), np.uint8)


@pytest.fixture(scope="module")
def points_of_yunet(yunet_model: Path, portrait: Picture) -> Points:
    """Where YuNet sees the points of the face: the mean of what it says of the portrait and of its mirror image."""
    yunet = open_yunet(yunet_model, 1024)
    (straight,) = yunet.detect(portrait, 0.8)
    (mirrored,) = yunet.detect(np.asarray(cv2.flip(portrait, 1), np.uint8), 0.8)
    back = np.array(mirrored.landmarks)[[1, 0, 2, 4, 3]] * (-1, 1) + (portrait.shape[1] - 1, 0)
    return np.asarray((np.array(straight.landmarks) + back) / 2)


@pytest.mark.parametrize(("size_px", "light"), [(80, 1), (110, 1), (160, 1), (220, 1), (340, 1), (500, 1), (220, 0.5)])
def test_its_points_are_those_of_yunet(
    size_px: int, light: float, detector: MienDetector, portrait: Picture, points_of_yunet: Points
) -> None:
    scale = size_px / SIDE
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    seen = cv2.convertScaleAbs(cv2.resize(portrait, None, fx=scale, fy=scale, interpolation=kind), alpha=light)
    expected = points_of_yunet * scale
    found = [np.array(one.landmarks) for one in detector.detect(np.asarray(seen, np.uint8), 0.6)]
    away = min(np.linalg.norm(points - expected, axis=1).mean() for points in found)
    assert away < 0.08 * np.linalg.norm(expected[0] - expected[1])


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 64), (17, 3), (31, 33), (64, 64), (3, 900), (2000, 16)])
@pytest.mark.parametrize("ground", ["black", "white", "noise"])
def test_what_is_no_picture_has_no_face(width: int, height: int, ground: str, detector: MienDetector) -> None:
    pixels = {
        "black": np.zeros((height, width, 3), np.uint8),
        "white": np.full((height, width, 3), 255, np.uint8),
        "noise": np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8),
    }[ground]
    assert detector.detect(pixels, 0.6) == []


def test_every_answer_is_a_number_at_any_threshold(detector: MienDetector, picture: Picture) -> None:
    found = detector.detect(picture, 0.0)
    assert found
    values = [[*vars_of(one)] for one in found]
    assert np.isfinite(np.array(values)).all()


def test_what_a_search_keeps_is_bounded_at_any_threshold() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)  # it has 21,504 cells
    assert len(search(open_session(SHIPPED / "model.onnx", threads=1), noise, 0.0)) == MAX_CANDIDATES


def vars_of(one: Detection) -> list[float]:
    return [one.confidence, one.box.x, one.box.y, one.box.width, one.box.height, *np.ravel(one.landmarks or ())]


def test_two_hundred_faces_are_all_found(detector: MienDetector, picture: Picture) -> None:
    face = cv2.resize(picture[30:188, 201:359], (64, 64), interpolation=cv2.INTER_AREA)
    crowd = np.tile(np.asarray(face, np.uint8), (10, 20, 1))
    assert len(open_mien(SHIPPED, max_side_px=1280).detect(crowd, 0.6)) == 200


class Remembers:
    """A session that keeps how many pixels it was given."""

    def __init__(self) -> None:
        self._session, self.pixels = open_session(SHIPPED / "model.onnx", threads=1), 0

    def run(self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any]) -> Sequence[Any]:
        self.pixels += input_feed["input"].size
        return list(self._session.run(output_names, input_feed))


def test_a_larger_min_face_searches_a_smaller_picture(picture: Picture) -> None:
    spent = []
    for min_face in (0.0, 0.1, 0.2):
        session = Remembers()
        MienDetector(session, 1024, 16).detect(seen(picture, 1), 0.6, min_face)
        spent.append(session.pixels)
    assert spent[0] > 3 * spent[1] > 3 * spent[2]


def test_the_manifest_tells_how_it_was_made_and_how_good_it_is() -> None:
    manifest = load_detector_manifest(SHIPPED)
    assert manifest.parameters <= 150_000
    assert (SHIPPED / "model.onnx").stat().st_size <= 400_000
    assert {"mien", "yunet", "haar"} <= set(manifest.metrics["missed_photos"])
    assert manifest.training["data"]["sources_sha256"]
