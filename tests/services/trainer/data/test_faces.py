"""Photos in, unlabeled faces out, cut as they are served but wider."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from services.trainer.data.faces import WIDE_SIZE_PX, Faces, collect_faces
from services.trainer.data.geometry import read_geometry
from services.trainer.data.sources import FaceFinder
from services.trainer.errors import DataError
from shared.analysis import Options
from shared.assembly import open_analyzer
from shared.pictures import ImageLimits
from shared.pipeline.decode import Picture, decode
from shared.pipeline.detect import HaarDetector
from tests.conftest import ROOT, SHIPPED_MODEL


@pytest.fixture(scope="module")
def finder() -> FaceFinder:
    return FaceFinder(HaarDetector(1024), read_geometry(ROOT / "services/trainer/data/geometry.json")["haar"])


def test_photos_become_faces_with_their_surroundings(
    finder: FaceFinder, jpeg: bytes, scene: Image.Image, encode: Callable[..., bytes], tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("a.jpg", jpeg)
        archive.writestr("b.jpg", jpeg[: len(jpeg) // 2])
        archive.writestr("c.png", encode(scene.crop((0, 200, 200, 480)), "PNG"))
        archive.writestr("labels.csv", "file")
    faces, found = collect_faces(tmp_path / "photos.zip", finder, "photos")
    assert (found.read, found.damaged, found.without_face) == (3, 1, 1)
    assert faces.pixels.shape == (1, WIDE_SIZE_PX, WIDE_SIZE_PX)
    served = finder.face(decode(jpeg, ImageLimits()))
    assert served is not None
    assert np.abs(faces.middle[0].astype(int) - served).mean() < 6  # the same cut, up to a pixel's rounding
    faces.save(tmp_path / "faces.npz")
    again = Faces.load(tmp_path / "faces.npz")
    assert (again.sha256, again.name) == (faces.sha256, "photos")


def test_faces_are_cut_as_they_are_served(scene: Image.Image) -> None:
    analyzer = open_analyzer(SHIPPED_MODEL)
    finder = FaceFinder(analyzer.detector, analyzer.manifest.crop[analyzer.detector.name])
    for turn_deg in (0, 12, -30):
        pixels = np.ascontiguousarray(np.asarray(scene.rotate(turn_deg))[:, :, ::-1])
        picture = Picture(pixels, scene.width, scene.height)
        (served,) = analyzer.read(picture, Options(max_faces=1)).faces
        assert served.roll_deg is not None
        assert abs(served.roll_deg + turn_deg) < 8
        cut = finder.face(picture)
        assert cut is not None
        assert served.crop is not None
        assert np.array_equal(cut, served.crop)


def test_an_archive_without_use_is_told(finder: FaceFinder, tmp_path: Path) -> None:
    (tmp_path / "damaged.zip").write_bytes(b"PK\x03\x04 no archive")
    (tmp_path / "empty").mkdir()
    for path, fault in (("damaged.zip", "damaged"), ("empty", "no face"), ("missing.zip", "no folder or archive")):
        with pytest.raises(DataError, match=fault):
            collect_faces(tmp_path / path, finder, "none")
    (tmp_path / "other.npz").write_bytes(b"no numbers")
    with pytest.raises(DataError, match="not a file of `faces`"):
        Faces.load(tmp_path / "other.npz")
