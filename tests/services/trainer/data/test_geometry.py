"""The crop is measured, and undone by the very function that serves."""

from pathlib import Path

import numpy as np
import pytest

from services.trainer.data.dataset import Dataset
from services.trainer.data.geometry import ENLARGE, MARGIN, measure, read_geometry, write_geometry
from services.trainer.errors import DataError
from shared.boxes import Box, CropGeometry, DetectorName
from shared.pictures import BgrImage
from shared.pipeline.crop import Square, square_around
from shared.pipeline.detect import Detection
from tests.conftest import ROOT


class FakeDetector:
    """Draws its box at a known place of the face inside the frame, a little off each time."""

    name: DetectorName = "yunet"

    def __init__(self, place: CropGeometry, every: int = 1) -> None:
        self.place, self.every, self.seen = place, every, 0
        self.rng = np.random.default_rng(0)

    def detect(self, image: BgrImage, min_confidence: float, min_face: float = 0.0) -> list[Detection]:
        self.seen += 1
        if self.seen % self.every:
            return []
        side = image.shape[0] / (1 + 2 * MARGIN)
        assert side == 48 * ENLARGE
        place, offset = self.place, side * MARGIN + self.rng.normal(0, 2)
        box = Box(offset + place.x * side, offset + place.y * side, place.width * side, place.height * side)
        return [Detection(box, 0.9), Detection(Box(0, 0, 5, 5), 0.9)]


def test_the_median_place_is_found_and_its_inverse_is_the_face(drawn: Dataset, tmp_path: Path) -> None:
    place = CropGeometry(0.1, -0.02, 0.8, 1.05)
    measured = measure([FakeDetector(place)], drawn, images=50)
    write_geometry(measured, tmp_path / "geometry.json")
    geometry = read_geometry(tmp_path / "geometry.json")["yunet"]
    assert (geometry.x, geometry.y) == pytest.approx((place.x, place.y), abs=0.006)
    assert (geometry.width, geometry.height) == pytest.approx((place.width, place.height), abs=1e-3)
    box = Box(300 + place.x * 200, 100 + place.y * 200, place.width * 200, place.height * 200)
    square = square_around(box, geometry)
    assert abs(square.x - 300) <= 2
    assert abs(square.y - 100) <= 2
    assert square.side == pytest.approx(200, abs=1)


def test_how_many_were_found_is_told(drawn: Dataset) -> None:
    measured = measure([FakeDetector(CropGeometry(0, 0, 1, 1), every=2)], drawn, images=40)
    assert measured["detectors"]["yunet"]["found"] == 0.5
    with pytest.raises(DataError, match="no face in 40"):
        measure([FakeDetector(CropGeometry(0, 0, 1, 1), every=99)], drawn, images=40)


def test_the_shipped_measurement_is_of_real_faces() -> None:
    path = ROOT / "services/trainer/data/geometry.json"
    geometry = read_geometry(path)
    assert set(geometry) == {"haar", "yunet", "mien"}
    # FER2013 was cut by Haar: its box is nearly the whole image.
    assert geometry["haar"].width == pytest.approx(0.97, abs=0.02)
    assert square_around(Box(0, 0, 97, 97), geometry["haar"]) == Square(-2, -2, 101)


def test_what_is_no_measurement_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(DataError, match="not a measurement"):
        read_geometry(tmp_path / "x.json")
