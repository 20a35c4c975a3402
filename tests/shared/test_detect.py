"""Both detectors find the face of the scene, in pixels of the picture they were given."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from shared.errors import DetectorError
from shared.pipeline.detect import Detection, Detector, HaarDetector, YuNetDetector
from tests.conftest import ROOT, SCENE_FACE, overlap


@pytest.fixture(params=["haar", "yunet"])
def detector(request: pytest.FixtureRequest) -> Detector:
    if request.param == "haar":
        return HaarDetector(max_side_px=1024)
    return YuNetDetector(request.getfixturevalue("yunet_model"), max_side_px=1024)


@pytest.fixture
def picture(scene: Image.Image) -> np.ndarray:
    return cv2.cvtColor(np.asarray(scene), cv2.COLOR_RGB2BGR)


def corners(detection: Detection, scale: float = 1) -> tuple[float, float, float, float]:
    box = detection.box
    return box.x / scale, box.y / scale, (box.x + box.width) / scale, (box.y + box.height) / scale


def test_finds_the_one_face(detector: Detector, picture: np.ndarray) -> None:
    (found,) = detector.detect(picture, min_confidence=0.6)
    assert overlap(corners(found), SCENE_FACE) > 0.6
    assert 0.6 <= found.confidence <= 1


def test_a_picture_larger_than_the_search_size_keeps_its_pixels(detector: Detector, picture: np.ndarray) -> None:
    large = cv2.resize(picture, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    assert overlap(corners(detector.detect(large, 0.6)[0], scale=4), SCENE_FACE) > 0.6


def test_the_largest_face_comes_first(detector: Detector, picture: np.ndarray) -> None:
    two = np.hstack([cv2.resize(picture, None, fx=0.6, fy=0.6), np.zeros((288, 60, 3), np.uint8)])
    two = np.vstack([np.zeros((480 - 288, two.shape[1], 3), np.uint8), two])
    found = detector.detect(np.hstack([two, picture]), min_confidence=0.6)
    assert len(found) == 2
    assert found[0].box.width > found[1].box.width
    assert found[0].box.x > found[1].box.x


def test_a_picture_without_a_face_has_none(detector: Detector) -> None:
    grey = np.full((480, 640, 3), 127, np.uint8)
    assert detector.detect(grey, min_confidence=0.6) == []


def test_less_than_the_asked_confidence_is_left_out(detector: Detector, picture: np.ndarray) -> None:
    assert detector.detect(picture, min_confidence=0.999) == []


@pytest.mark.parametrize("shape", [(16, 16), (16, 400), (2000, 16)])
def test_odd_shapes_are_searched_without_an_error(shape: tuple[int, int], detector: Detector) -> None:
    assert detector.detect(np.zeros((*shape, 3), np.uint8), min_confidence=0.6) == []


def test_small_pictures_are_read_alike_whatever_lies_in_memory(yunet_model: Path, picture: np.ndarray) -> None:
    """OpenCV's YuNet read memory it had not written, for sides up to 32; the C library fills it with one value here."""
    left, top, right, bottom = SCENE_FACE
    face = cv2.imencode(".png", picture[top - 25 : bottom + 25, left - 25 : right + 25])[1].tobytes()
    look = f"""
import sys, cv2, numpy as np
from pathlib import Path
from shared.pipeline.detect import YuNetDetector
detector, face = YuNetDetector(Path({str(yunet_model)!r}), 640), cv2.imdecode(np.frombuffer(sys.stdin.buffer.read(), np.uint8), 1)
for width in range(20, 62, 7):
    for height in (20, 34, 90, 400):
        print(width, height, detector.detect(cv2.resize(face, (width, height)), 0.3))
"""
    seen = set()
    for filling in ("0", "1", "165"):
        environment = {**os.environ, "MALLOC_PERTURB_": filling}
        done = subprocess.run(
            [sys.executable, "-c", look], input=face, cwd=ROOT, env=environment, capture_output=True, check=True
        )
        seen.add(done.stdout)
    (only,) = seen
    assert only.count(b"Detection") >= 8


def test_one_detector_serves_many_threads(detector: Detector, picture: np.ndarray) -> None:
    sizes = [picture, cv2.resize(picture, (320, 240)), cv2.resize(picture, (800, 600))] * 6
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda image: detector.detect(image, 0.6), sizes))
    assert together == [detector.detect(image, 0.6) for image in sizes]


def test_a_missing_yunet_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DetectorError, match="make yunet"):
        YuNetDetector(tmp_path / "no.onnx", max_side_px=1024)


def test_a_file_that_is_no_yunet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"not a model")
    with pytest.raises(DetectorError, match=r"x\.onnx"):
        YuNetDetector(tmp_path / "x.onnx", max_side_px=1024)


def test_a_face_that_fills_the_picture_is_found(detector: Detector, picture: np.ndarray) -> None:
    left, top, right, bottom = SCENE_FACE
    close = cv2.resize(picture[top - 2 : bottom + 2, left - 2 : right + 2], None, fx=3, fy=3)
    (found,) = detector.detect(close, min_confidence=0.6)
    whole = (0, 0, close.shape[1], close.shape[0])
    assert overlap(corners(found), whole) > 0.6
