"""A tiny data set of the detector: drawn faces, labelled by who drew them."""

import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from services.trainer.detector.prepare import prepare
from services.trainer.detector.sources import Boxes, Faces, Kind
from shared.pictures import BgrImage
from tests.drawn import draw_face

FACE = (24.0, 16.0, 48.0, 64.0)
POINTS = ((38.0, 40.0), (58.0, 40.0), (48.0, 52.0), (40.0, 66.0), (56.0, 66.0))


class KnowsWhereFacesAre:
    """Labels what `packed` draws."""

    hashes = {"labeller": "0" * 64}  # noqa: RUF012 # a constant

    def label(self, image: BgrImage, kind: Kind) -> tuple[Faces, Boxes]:
        none = np.empty((0, 4), np.float32)
        if kind == "scenes":
            return np.empty((0, 14), np.float32), none
        row = np.array([*FACE, *np.ravel(POINTS)], np.float32)
        return row[np.newaxis] * (image.shape[0] / 96), none


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `detector prepare` makes of drawn faces and of noise."""
    folder = tmp_path_factory.mktemp("detector")
    rng = np.random.default_rng(0)
    archives: dict[Kind, Path] = {}
    for kind, size in (("people", 160), ("faces", 96), ("scenes", 200)):
        archives[kind] = folder / f"{kind}.zip"  # type: ignore[index] # one of KINDS
        with zipfile.ZipFile(folder / f"{kind}.zip", "w") as archive:
            for number in range(8):
                archive.writestr(f"{number}.png", cv2.imencode(".png", _picture(kind, size, rng))[1].tobytes())
    prepare(archives, KnowsWhereFacesAre(), folder / "data")
    return folder / "data"


def _picture(kind: str, size: int, rng: np.random.Generator) -> BgrImage:
    noise = cv2.resize(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8), (size, size), interpolation=cv2.INTER_CUBIC)
    if kind != "scenes":
        x, y, width, height = (round(value * size / 96) for value in FACE)
        face = cv2.resize(draw_face("happy", rng), (width, height), interpolation=cv2.INTER_CUBIC)
        noise[y : y + height, x : x + width] = face[:, :, np.newaxis]
    return np.asarray(noise, np.uint8)
