"""A crop becomes the network's input, the same way in training and in serving."""

import numpy as np

from shared.pipeline.preprocess import to_face, to_input, whole_as_face


def test_a_grey_face_of_the_right_size_is_left_as_it_is() -> None:
    face = np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)
    assert (to_face(face, 48) == face).all()


def test_colour_becomes_grey_by_luminance() -> None:
    green = np.zeros((48, 48, 3), np.uint8)
    green[..., 1] = 255
    assert to_face(green, 48)[0, 0] == 150  # 0.587 of 255


def test_shrinking_averages() -> None:
    checkers = np.indices((96, 96)).sum(axis=0) % 2 * 255
    assert np.abs(to_face(checkers.astype(np.uint8), 48).astype(int) - 128).max() <= 1


def test_small_faces_are_enlarged_smoothly() -> None:
    ramp = np.tile(np.arange(0, 240, 10, dtype=np.uint8), (24, 1))
    steps = np.diff(to_face(ramp, 48)[20].astype(int))
    assert steps.max() <= 6


def test_the_input_is_float32_between_zero_and_one() -> None:
    batch = to_input(np.array([[[0, 51], [102, 255]]], np.uint8))
    assert batch.dtype == np.float32
    assert batch.shape == (1, 2, 2, 1)
    assert np.allclose(batch.ravel(), [0, 0.2, 0.4, 1])


def test_a_whole_picture_fits_its_longer_side_and_repeats_its_edge() -> None:
    wide = np.zeros((24, 96), np.uint8)
    wide[:, :48] = 200
    face = whole_as_face(wide, 48)
    assert face.shape == (48, 48)
    assert (face[:, :23] == 200).all()
    assert (face[:, 25:] == 0).all()


def test_a_long_strip_stays_small() -> None:
    assert whole_as_face(np.full((16, 16_384, 3), 90, np.uint8), 48).tolist() == [[90] * 48] * 48
