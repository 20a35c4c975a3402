"""Each detector finds the face of the scene, in pixels of the picture they were given."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from shared.analysis import MIN_FACE_PX
from shared.errors import DetectorError
from shared.pipeline.detect import Detection, Detector, HaarDetector, shrink
from shared.pipeline.mien import open_mien
from shared.pipeline.yunet import open_yunet
from tests.conftest import ROOT, SCENE_FACE, SHIPPED_MODEL, overlap

SHIPPED_DETECTOR = ROOT / "models/detector"


@pytest.fixture(params=["haar", "yunet", "mien"])
def detector(request: pytest.FixtureRequest) -> Detector:
    if request.param == "haar":
        return HaarDetector(max_side_px=1024)
    if request.param == "mien":
        return open_mien(SHIPPED_DETECTOR, max_side_px=1024)
    return open_yunet(request.getfixturevalue("yunet_model"), max_side_px=1024)


@pytest.fixture
def picture(scene: Image.Image) -> np.ndarray:
    return cv2.cvtColor(np.asarray(scene), cv2.COLOR_RGB2BGR)


def corners(detection: Detection, scale: float = 1) -> tuple[float, float, float, float]:
    box = detection.box
    return box.x / scale, box.y / scale, (box.x + box.width) / scale, (box.y + box.height) / scale


def test_finds_the_one_face(detector: Detector, picture: np.ndarray) -> None:
    (found,) = detector.detect(picture, 0.6, MIN_FACE_PX / 480)
    assert overlap(corners(found), SCENE_FACE) > 0.6
    assert 0.6 <= found.confidence <= 1


def test_a_picture_larger_than_the_search_size_keeps_its_pixels(detector: Detector, picture: np.ndarray) -> None:
    large = cv2.resize(picture, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    assert overlap(corners(detector.detect(np.asarray(large, np.uint8), 0.6)[0], scale=4), SCENE_FACE) > 0.6


def test_the_largest_face_comes_first(detector: Detector, picture: np.ndarray) -> None:
    two = np.hstack([cv2.resize(picture, None, fx=0.6, fy=0.6), np.zeros((288, 60, 3), np.uint8)])
    two = np.vstack([np.zeros((480 - 288, two.shape[1], 3), np.uint8), two])
    found = detector.detect(np.hstack([two, picture]), min_confidence=0.6)
    areas = [one.box.width * one.box.height for one in found]
    assert len(found) >= 2
    assert areas == sorted(areas, reverse=True)


@pytest.mark.parametrize("side_px", [300, 700, 1000])
def test_a_face_that_fills_a_large_picture_is_found_as_in_a_small_one(
    detector: Detector, picture: np.ndarray, side_px: int
) -> None:
    left, top, side = 205, 40, 150
    close_up = cv2.resize(picture[top : top + side, left : left + side], (side_px, side_px))
    (found,) = detector.detect(np.asarray(close_up, np.uint8), min_confidence=0.6)
    x, y, right, bottom = (value * side / side_px for value in corners(found))
    assert overlap((x + left, y + top, right + left, bottom + top), SCENE_FACE) > 0.55


def test_a_picture_without_a_face_has_none(detector: Detector) -> None:
    grey = np.full((480, 640, 3), 127, np.uint8)
    assert detector.detect(grey, min_confidence=0.6) == []


def test_less_than_the_asked_confidence_is_left_out(detector: Detector, picture: np.ndarray) -> None:
    most = max(found.confidence for found in detector.detect(picture, min_confidence=0.6))
    assert detector.detect(picture, min_confidence=most + 1e-4) == []


@pytest.mark.parametrize("shape", [(16, 16), (16, 400), (2000, 16)])
def test_odd_shapes_are_searched_without_an_error(shape: tuple[int, int], detector: Detector) -> None:
    assert detector.detect(np.zeros((*shape, 3), np.uint8), min_confidence=0.6) == []


@pytest.mark.parametrize("size", [(640, 480), (333, 250), (131, 97), (64, 64)])
def test_yunet_answers_as_opencv_does_within_a_pixel(
    size: tuple[int, int], yunet_model: Path, scene: Image.Image
) -> None:
    picture = cv2.cvtColor(np.asarray(scene.crop((140, 0, 460, 240)).resize(size)), cv2.COLOR_RGB2BGR)
    reference = cv2.FaceDetectorYN.create(str(yunet_model), "", size, 0.6, 0.3, 500).detect(picture)[1]
    found = open_yunet(yunet_model, max_side_px=1024).detect(np.asarray(picture, np.uint8), 0.6)
    assert len(found) == len(reference) == 1
    for detection, row in zip(found, reference, strict=True):
        box, points = detection.box, np.ravel(np.array(detection.landmarks))
        assert np.abs(np.array([box.x, box.y, box.width, box.height, *points]) - row[:14]).max() < 1
        assert detection.confidence == pytest.approx(row[14], abs=0.01)


def test_landmarks_lie_where_they_are_named(yunet_model: Path, picture: np.ndarray) -> None:
    found = open_yunet(yunet_model, 1024).detect(picture, 0.6)[0].landmarks
    assert found is not None
    right_eye, left_eye, nose, mouth_right, mouth_left = found
    assert right_eye[0] < left_eye[0]  # the person's right is on our left
    assert mouth_right[0] < mouth_left[0]
    assert (right_eye[1] + left_eye[1]) / 2 < nose[1] < (mouth_right[1] + mouth_left[1]) / 2


def test_landmarks_say_to_which_side_a_head_is_turned(yunet_model: Path, picture: np.ndarray) -> None:
    """YuNet follows a turn of 30 degrees by a good third of it only."""
    detector = open_yunet(yunet_model, 1024)

    def roll_deg(clockwise_deg: int) -> float:
        turn = cv2.getRotationMatrix2D((280, 110), -clockwise_deg, 1)
        roll_deg = detector.detect(np.asarray(cv2.warpAffine(picture, turn, (640, 480)), np.uint8), 0.6)[0].roll_deg
        assert roll_deg is not None
        return roll_deg

    assert roll_deg(-30) + 5 < roll_deg(0) < roll_deg(30) - 5


def test_haar_finds_no_landmarks(picture: np.ndarray) -> None:
    (found,) = HaarDetector(1024).detect(picture, 0.6)
    assert found.landmarks is None
    assert found.roll_deg is None


def test_two_hundred_faces_are_all_found(yunet_model: Path, picture: np.ndarray) -> None:
    left, top, right, bottom = SCENE_FACE
    face = cv2.resize(picture[top - 20 : bottom + 20, left - 20 : right + 20], (64, 64))
    crowd = np.tile(np.asarray(face, np.uint8), (10, 20, 1))
    assert len(open_yunet(yunet_model, max_side_px=1280).detect(crowd, 0.6)) == 200


def test_one_detector_serves_many_threads(detector: Detector, picture: np.ndarray) -> None:
    sizes = [picture, cv2.resize(picture, (320, 240)), cv2.resize(picture, (800, 600))] * 6
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda image: detector.detect(image, 0.6), sizes))
    assert together == [detector.detect(image, 0.6) for image in sizes]


def test_a_missing_yunet_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DetectorError, match="make yunet"):
        open_yunet(tmp_path / "no.onnx", max_side_px=1024)


def test_a_file_that_is_no_yunet_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"not a model", (SHIPPED_MODEL / "model.onnx").read_bytes()):
        (tmp_path / "x.onnx").write_bytes(content)
        with pytest.raises(DetectorError, match=r"x\.onnx"):
            open_yunet(tmp_path / "x.onnx", max_side_px=1024)


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, yunet_model: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(yunet_model.read_bytes()[:100_000])
    with pytest.raises(DetectorError, match="truncated"):
        open_yunet(tmp_path / "x.onnx", max_side_px=1024)


def test_a_face_that_fills_the_picture_is_found(detector: Detector, picture: np.ndarray) -> None:
    left, top, right, bottom = SCENE_FACE
    close = cv2.resize(picture[top - 2 : bottom + 2, left - 2 : right + 2], None, fx=3, fy=3)
    (found,) = detector.detect(np.asarray(close, np.uint8), min_confidence=0.6)
    whole = (0, 0, close.shape[1], close.shape[0])
    assert overlap(corners(found), whole) > 0.6


@pytest.mark.parametrize(
    ("size", "min_face", "searched"),
    [((640, 480), 24 / 480, (427, 320)), ((640, 480), 0.5, (128, 96)), ((30, 51), 1.0, (30, 51))],
)
def test_a_picture_is_searched_at_the_size_that_shows_the_least_face_but_never_tiny(
    size: tuple[int, int], min_face: float, searched: tuple[int, int]
) -> None:
    small, scale = shrink(np.zeros((size[1], size[0], 3), np.uint8), 1024, min_face, 16)
    assert small.shape[1::-1] == searched
    assert scale == pytest.approx(searched[0] / size[0], abs=0.01)
