"""The crop lays a face where faces lie in FER2013."""

import cv2
import numpy as np
import pytest

from shared.boxes import Box, CropGeometry
from shared.pipeline.crop import Square, crop, crop_turned, square_around, square_over, turn_back

YUNET = CropGeometry(x=0.09, y=0.0, width=0.81, height=1.03)


@pytest.fixture
def numbered() -> np.ndarray:
    """A picture whose every pixel says where it is: channel 0 the row, channel 1 the column."""
    rows, columns = np.mgrid[0:100, 0:120].astype(np.uint8)
    return np.stack([rows, columns, rows * 0], axis=2)


def test_the_crop_is_the_inverse_of_the_measured_geometry() -> None:
    side, left, top = 200, 37, 12
    box = Box(left + YUNET.x * side, top + YUNET.y * side, YUNET.width * side, YUNET.height * side)
    assert square_around(box, YUNET) == Square(left, top, side)


def test_a_box_of_other_proportions_keeps_its_centre() -> None:
    square = square_around(Box(100, 100, 60, 60), CropGeometry(0, 0, 1, 1))
    assert square == Square(100, 100, 60)
    wide = square_around(Box(100, 100, 90, 40), CropGeometry(0, 0, 1, 1))
    assert (wide.x + wide.side / 2, wide.y + wide.side / 2) == (145, 120)


def test_a_square_inside_is_cut_out(numbered: np.ndarray) -> None:
    cut = crop(numbered, Square(30, 20, 40))
    assert cut.shape == (40, 40, 3)
    assert cut[0, 0].tolist() == [20, 30, 0]
    assert cut[-1, -1].tolist() == [59, 69, 0]


def test_past_the_border_the_edge_is_repeated_and_nothing_is_shifted(numbered: np.ndarray) -> None:
    cut = crop(numbered, Square(-10, -5, 60))
    assert cut.shape == (60, 60, 3)
    assert cut[5, 10].tolist() == [0, 0, 0]  # the picture's first pixel, where it belongs
    assert cut[30, 40].tolist() == [25, 30, 0]
    assert (cut[:, :10, 1] == 0).all()
    far = crop(numbered, Square(90, 70, 50))
    assert far[29, 29].tolist() == [99, 119, 0]
    assert (far[30:, :, 0] == 99).all()


@pytest.mark.parametrize(
    "square", [Square(-300, 20, 50), Square(400, 20, 50), Square(20, 400, 50), Square(-60, -60, 50)]
)
def test_a_square_outside_repeats_the_nearest_edge(square: Square, numbered: np.ndarray) -> None:
    assert crop(numbered, square).shape == (50, 50, 3)


def test_a_whole_picture_is_made_square_without_losing_any_of_it(numbered: np.ndarray) -> None:
    cut = crop(numbered, square_over(120, 100))
    assert cut.shape == (120, 120, 3)
    assert (cut[10:110] == numbered).all()


def test_grey_pictures_are_cut_as_well(numbered: np.ndarray) -> None:
    assert crop(numbered[:, :, 0], Square(-3, -3, 10)).shape == (10, 10)


@pytest.mark.parametrize("turn_deg", [-40, 25, 90])
def test_a_turned_face_is_cut_as_the_upright_one_is(turn_deg: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 20), dtype=np.uint8)
    picture = np.asarray(cv2.resize(noise, (300, 300), interpolation=cv2.INTER_CUBIC), np.uint8)
    box, geometry = Box(110, 100, 80, 80), CropGeometry(0.1, 0.05, 0.8, 0.8)
    turn = cv2.getRotationMatrix2D((149.5, 139.5), -turn_deg, 1)  # about the middle of the box; clockwise
    turned = np.asarray(cv2.warpAffine(picture, turn, (300, 300), borderMode=cv2.BORDER_REPLICATE), np.uint8)
    upright = crop(picture, square_around(box, geometry)).astype(int)
    difference = np.abs(crop_turned(turned, box, geometry, turn_deg).astype(int) - upright)
    assert difference.mean() < 4


def test_a_large_turned_face_is_cut_as_a_small_one_is() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 20), dtype=np.uint8)
    box, geometry = Box(-10, 60, 80, 80), CropGeometry(0.1, 0.05, 0.8, 0.8)  # past the border
    cuts = []
    for scale in (1, 9):
        picture = np.asarray(cv2.resize(noise, (300 * scale, 300 * scale), interpolation=cv2.INTER_CUBIC), np.uint8)
        large = Box(box.x * scale, box.y * scale, box.width * scale, box.height * scale)
        cuts.append(cv2.resize(crop_turned(picture, large, geometry, 25), (48, 48), interpolation=cv2.INTER_AREA))
    assert np.abs(cuts[0].astype(int) - cuts[1]).mean() < 2


@pytest.mark.parametrize(
    ("roll_deg", "turned"), [(0, 0), (5, 0), (-5, 0), (10, 7.5), (-10, -7.5), (15, 15), (-40, -40), (180, 180)]
)
def test_a_head_is_turned_back_the_more_the_further_it_is_turned(roll_deg: float, turned: float) -> None:
    assert turn_back(roll_deg) == pytest.approx(turned)


def test_turning_back_never_jumps() -> None:
    rolls = np.arange(-180, 180, 0.1)
    steps = np.diff([turn_back(roll) for roll in rolls])
    assert steps.min() >= 0
    assert steps.max() < 0.2
