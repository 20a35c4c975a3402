"""Scenes are right about where their faces are, and cells about what they should answer."""

from pathlib import Path

import numpy as np
import pytest

from services.trainer.detector.pieces import Placement, Scene, paste
from services.trainer.detector.scenes import Composer
from services.trainer.detector.sources import Source, Sources, mirrored_faces
from services.trainer.detector.targets import Cells, targets
from services.trainer.errors import DataError

NONE = np.empty((0, 4), np.float32)


def dotted(side: int = 100) -> Source:
    """A black square with a face whose right eye is a white dot, and whose other points lie around it."""
    pixels = np.zeros((side, side, 3), np.uint8)
    pixels[38:43, 33:38] = 255
    points = [(35, 40), (65, 40), (50, 55), (40, 70), (60, 70)]
    return Source(pixels, np.array([[20, 10, 60, 80, *np.ravel(points)]], np.float32), NONE)


@pytest.mark.parametrize("turn", [0, 30, -90])
@pytest.mark.parametrize("scale", [0.3, 1, 1.6])
def test_a_face_is_where_its_piece_was_pasted(turn: float, scale: float) -> None:
    scene = Scene(np.zeros((200, 300, 3), np.uint8))
    paste(scene, dotted(), Placement((50, 50), (140, 110), scale, turn))
    bright = np.argwhere(scene.pixels[..., 0] > scene.pixels.max() * 0.6).mean(axis=0)
    assert scene.faces[0, 4:6] == pytest.approx(bright[::-1], abs=1.2)
    assert scene.faces[0, :2] + scene.faces[0, 2:4] / 2 == pytest.approx((140, 110), abs=0.01)


def test_a_face_below_another_piece_is_forgotten() -> None:
    scene = Scene(np.zeros((200, 200, 3), np.uint8))
    paste(scene, dotted(), Placement((50, 50), (100, 100), 0.5))
    paste(scene, dotted(), Placement((50, 50), (110, 100), 1.0))
    assert len(scene.faces) == 1
    assert scene.faces[0, 2] == pytest.approx(60)


def test_a_face_cut_by_the_border_is_neither_a_face_nor_none() -> None:
    scene = Scene(np.zeros((200, 200, 3), np.uint8))
    paste(scene, dotted(), Placement((50, 50), (0, 100), 1.0))
    assert len(scene.faces) == 0
    assert len(scene.ignored) == 1


def test_in_the_mirror_the_right_eye_is_the_left_one() -> None:
    face = dotted().faces
    mirrored = mirrored_faces(face, 100)
    assert mirrored[0, 4:6] == pytest.approx((100 - 65, 40))
    assert mirrored_faces(mirrored, 100) == pytest.approx(face)


def test_the_same_seed_composes_the_same_scenes(packed: Path) -> None:
    composer = Composer(Sources.load(packed), 128)
    one, two = (
        [composer.scene(rng) for _ in range(12)] for rng in (np.random.default_rng(3), np.random.default_rng(3))
    )
    assert all(
        np.array_equal(a.pixels, b.pixels) and np.array_equal(a.faces, b.faces) for a, b in zip(one, two, strict=True)
    )
    assert sum(len(scene.faces) for scene in one) > 12


def test_every_face_is_answered_for_by_cells_that_answer_it_exactly(packed: Path) -> None:
    composer, rng, cells = Composer(Sources.load(packed), 128), np.random.default_rng(0), Cells.of(128, 128)
    for _ in range(20):
        scene = composer.scene(rng)
        table = targets(cells, scene.faces, scene.ignored)
        taught = table[table[:, 0] == 1]
        stride = cells.strides[table[:, 0] == 1, np.newaxis]
        centres = cells.centres[table[:, 0] == 1] + taught[:, 3:5] * stride
        sizes = np.exp(taught[:, 5:7]) * stride
        boxes = np.hstack([centres - sizes / 2, sizes])
        nearest = np.abs(boxes[:, np.newaxis] - scene.faces[:, :4]).max(axis=2) if len(taught) else np.empty((0, 0))
        assert (nearest.min(axis=1) < 0.01).all() if len(taught) else len(scene.faces) == 0
        assert taught[:, 2].sum() == pytest.approx(len(set(nearest.argmin(axis=1)))) if len(taught) else True


def test_a_folder_that_prepare_did_not_write_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="detector prepare"):
        Sources.load(tmp_path)
