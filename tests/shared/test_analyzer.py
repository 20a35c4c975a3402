"""The whole way in one call, with the shipped model."""

import math
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from PIL import Image

from shared.analysis import STAGES, Options
from shared.analyzer import Analyzer
from shared.boxes import Box, Landmarks
from shared.manifest import load_manifest
from shared.pictures import BgrImage, ImageLimits
from shared.pipeline.classify import open_classifier
from shared.pipeline.decode import Picture, decode
from shared.pipeline.detect import Detection, HaarDetector
from tests.conftest import SCENE_FACE, SHIPPED_MODEL, overlap, shipped_golden

Encode = Callable[..., bytes]


class FakeDetector:
    """Finds what it was told to."""

    name = "haar"

    def __init__(self, *boxes: Box, landmarks: Landmarks | None = None) -> None:
        self.boxes, self.landmarks = boxes, landmarks
        self.min_faces: list[float] = []

    def detect(self, image: BgrImage, min_confidence: float, min_face: float = 0.0) -> list[Detection]:
        self.min_faces.append(min_face)
        return [Detection(box, 0.9, self.landmarks) for box in self.boxes]


def analyzer(detector: object) -> Analyzer:
    manifest = load_manifest(SHIPPED_MODEL)
    return Analyzer(manifest, open_classifier(SHIPPED_MODEL, manifest, threads=1), detector, ImageLimits())  # type: ignore[arg-type] # a fake


def test_the_astronaut_smiles(jpeg: bytes) -> None:
    analysis = analyzer(HaarDetector(1024)).analyze(jpeg, Options())
    (face,) = analysis.faces
    assert (analysis.width, analysis.height) == (640, 480)
    assert face.emotion == "happy"
    assert sum(face.probabilities) == pytest.approx(1, abs=1e-5)
    box = face.box
    assert overlap((box.x, box.y, box.x + box.width, box.y + box.height), SCENE_FACE) > 0.6
    assert tuple(analysis.timings_s) == STAGES


def test_landmarks_are_pixels_of_the_displayed_image_and_tell_the_roll(encode: Encode, scene: Image.Image) -> None:
    points = ((100.0, 100.0), (140.0, 140.0), (110.0, 140.0), (90.0, 160.0), (120.0, 180.0))
    finder = FakeDetector(Box(80, 80, 100, 100), landmarks=points)
    large = encode(scene.resize((2560, 1920)))  # decoded at half its size
    (face,) = analyzer(finder).analyze(large, Options()).faces
    assert face.landmarks == tuple((2 * x, 2 * y) for x, y in points)
    assert face.roll_deg == pytest.approx(45)


def test_a_head_turned_a_little_is_read_much_as_the_upright_one(scene: Image.Image) -> None:
    pixels = np.asarray(cv2.cvtColor(np.asarray(scene), cv2.COLOR_RGB2BGR), np.uint8)
    x, y, right, bottom = SCENE_FACE
    nose = ((x + right) / 2, (y + bottom) / 2)
    turn = cv2.getRotationMatrix2D((nose[0] - 0.5, nose[1] - 0.5), -12, 1)  # clockwise
    turned = np.asarray(cv2.warpAffine(pixels, turn, (640, 480), borderMode=cv2.BORDER_REPLICATE), np.uint8)

    def face_read(picture: np.ndarray, roll_deg: float) -> np.ndarray:
        along, down = 20 * math.cos(math.radians(roll_deg)), 20 * math.sin(math.radians(roll_deg))
        eyes = (nose[0] - along, nose[1] - down), (nose[0] + along, nose[1] + down)
        points = (*eyes, nose, nose, nose)
        finder = FakeDetector(Box(x, y, right - x, bottom - y), landmarks=points)
        (face,) = analyzer(finder).read(Picture(picture, 640, 480), Options()).faces
        assert face.crop is not None
        return face.crop.astype(int)

    upright = face_read(pixels, 0)
    as_it_is = np.abs(face_read(turned, 0) - upright).mean()
    assert np.abs(face_read(turned, 12) - upright).mean() < 0.4 * as_it_is


def test_min_face_is_a_share_of_the_shorter_side_however_it_was_given(jpeg: bytes) -> None:
    finder = FakeDetector()
    for min_face in (0.0, 0.1, 48, 10_000):
        analyzer(finder).analyze(jpeg, Options(min_face=min_face))  # 640x480
    assert finder.min_faces == [0.0, 0.1, 0.1, 1.0]


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [
        (Box(-20, -30, 100, 100), (0, 0, 80, 70)),
        (Box(600, 440, 100, 100), (600, 440, 40, 40)),
        (Box(10.6, 20.4, 30.2, 40.2), (11, 20, 30, 41)),
        (Box(639.9, 479.9, 50, 50), (639, 479, 1, 1)),
        (Box(-50, 10, 20, 20), (0, 10, 1, 20)),
    ],
)
def test_a_face_at_the_border_keeps_its_box_inside_the_image(
    drawn: Box, expected: tuple[int, ...], jpeg: bytes
) -> None:
    (face,) = analyzer(FakeDetector(drawn)).analyze(jpeg, Options()).faces
    assert (face.box.x, face.box.y, face.box.width, face.box.height) == expected


def test_boxes_are_pixels_of_the_image_as_sent_even_when_it_is_decoded_reduced(
    scene: Image.Image, encode: Encode
) -> None:
    large = encode(scene.resize((3200, 2400)), "JPEG")
    analysis = analyzer(HaarDetector(1024)).analyze(large, Options())
    assert (analysis.width, analysis.height) == (3200, 2400)
    box = analysis.faces[0].box
    corners = (box.x / 5, box.y / 5, (box.x + box.width) / 5, (box.y + box.height) / 5)
    assert overlap(corners, SCENE_FACE) > 0.6


def test_only_the_asked_number_of_faces_is_answered(jpeg: bytes) -> None:
    boxes = [Box(i * 30, i * 10, 100 - i, 100 - i) for i in range(5)]
    faces = analyzer(FakeDetector(*boxes)).analyze(jpeg, Options(max_faces=2)).faces
    assert [face.box.width for face in faces] == [100, 99]


def test_faces_come_largest_first_by_the_boxes_answered(jpeg: bytes) -> None:
    outside, inside = Box(-150, 100, 200, 200), Box(300, 100, 120, 120)  # a quarter of the larger one is visible
    faces = analyzer(FakeDetector(outside, inside)).analyze(jpeg, Options()).faces
    assert [face.box.width for face in faces] == [120, 50]
    (face,) = analyzer(FakeDetector(outside, inside)).analyze(jpeg, Options(max_faces=1)).faces
    assert face.box.width == 120


def test_a_decoded_frame_is_read_as_its_file_is(jpeg: bytes) -> None:
    reader = analyzer(HaarDetector(1024))
    whole = reader.analyze(jpeg, Options())
    frame = reader.read(decode(jpeg, ImageLimits()), Options())
    assert frame.faces == whole.faces
    assert (frame.width, frame.height) == (whole.width, whole.height)


def test_without_detection_the_picture_is_the_face(encode: Encode) -> None:
    manifest = load_manifest(SHIPPED_MODEL)
    golden = Image.fromarray(manifest.golden.pixels(48))
    analysis = analyzer(FakeDetector()).analyze(encode(golden, "PNG"), Options(detect=False))
    (face,) = analysis.faces
    assert (face.box.x, face.box.y, face.box.width, face.box.height) == (0, 0, 48, 48)
    assert face.confidence is None
    assert np.allclose(face.probabilities, shipped_golden(manifest), atol=manifest.golden.tolerance)


def test_without_a_face_the_analysis_is_empty(encode: Encode) -> None:
    blank = encode(Image.new("RGB", (320, 240), "gray"), "PNG")
    assert analyzer(HaarDetector(1024)).analyze(blank, Options()).faces == ()
