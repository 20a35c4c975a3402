"""Training images vary as the configuration says, and not otherwise."""

import cv2
import numpy as np
import pytest

from services.trainer.data.dataset import VOTE_COLUMNS, Dataset
from services.trainer.training.augment import mixup, vary
from services.trainer.training.batches import Lessons, TrainingBatches
from services.trainer.training.config import AugmentConfig, TargetConfig, TrainConfig


@pytest.fixture
def face() -> np.ndarray:
    """A smooth picture with a bright spot up and left."""
    spot = np.zeros((48, 48), np.uint8)
    cv2.circle(spot, (14, 16), 4, 200, -1)
    return np.asarray(cv2.GaussianBlur(spot, (0, 0), 1) + 20, np.uint8)


def centre(image: np.ndarray) -> tuple[float, float]:
    weights = np.clip(image.astype(float) - 30, 0, None)
    rows, columns = np.indices(image.shape)
    return float((columns * weights).sum() / weights.sum()), float((rows * weights).sum() / weights.sum())


def test_the_defaults_change_nothing(face: np.ndarray, rng: np.random.Generator) -> None:
    assert np.abs(vary(face, AugmentConfig(), rng) - face).max() <= 1


def test_flip_mirrors_about_half_of_them(face: np.ndarray, rng: np.random.Generator) -> None:
    lefts = [centre(vary(face, AugmentConfig(flip=True), rng))[0] < 24 for _ in range(200)]
    assert 60 < sum(lefts) < 140
    flipped = next(v for v in (vary(face, AugmentConfig(flip=True), rng) for _ in range(50)) if centre(v)[0] > 24)
    assert np.abs(flipped - face[:, ::-1]).max() <= 1


def test_shift_and_rotation_stay_within_their_bounds(face: np.ndarray, rng: np.random.Generator) -> None:
    x, y = centre(face)
    for _ in range(50):
        moved = centre(vary(face, AugmentConfig(shift_px=3), rng))
        assert abs(moved[0] - x) <= 3.2
        assert abs(moved[1] - y) <= 3.2
        turned = centre(vary(face, AugmentConfig(rotation_deg=10), rng))
        before, after = np.array([x, y]) - 23.5, np.array(turned) - 23.5
        assert np.linalg.norm(after) == pytest.approx(np.linalg.norm(before), abs=0.4)
        angle = np.degrees(np.arccos(before @ after / np.linalg.norm(before) / np.linalg.norm(after)))
        assert angle <= 10.5


def test_zoom_enlarges_around_the_centre(face: np.ndarray, rng: np.random.Generator) -> None:
    x, y = centre(face)
    zoomed = centre(vary(face, AugmentConfig(zoom=(1.2, 1.2)), rng))
    assert zoomed[0] - 23.5 == pytest.approx(1.2 * (x - 23.5), abs=0.3)
    assert zoomed[1] - 23.5 == pytest.approx(1.2 * (y - 23.5), abs=0.3)


def test_brightness_is_a_factor_as_in_the_paper(face: np.ndarray, rng: np.random.Generator) -> None:
    assert np.allclose(vary(face, AugmentConfig(brightness=(0.8, 0.8)), rng), face * 0.8, atol=0.9)
    bright = vary(np.full((48, 48), 250, np.uint8), AugmentConfig(brightness=(1.2, 1.2)), rng)
    assert bright.max() == 255


def test_erasing_covers_one_rectangle(rng: np.random.Generator) -> None:
    white = np.full((48, 48), 255, np.uint8)
    for _ in range(30):
        covered = vary(white, AugmentConfig(erase_share=1, erase_px=(6, 20)), rng) < 255
        rows, columns = covered.any(axis=1).sum(), covered.any(axis=0).sum()
        assert 6 <= rows < 20
        assert 6 <= columns < 20
        assert covered.sum() == rows * columns


def test_erasing_reaches_every_pixel(rng: np.random.Generator) -> None:
    white = np.full((48, 48), 255, np.uint8)
    config = AugmentConfig(erase_share=1, erase_px=(18, 20))
    assert np.any([vary(white, config, rng) < 255 for _ in range(3000)], axis=0).all()


def test_mixup_blends_faces_and_targets_alike(rng: np.random.Generator) -> None:
    faces = np.eye(7, dtype=np.float32).reshape(7, 7, 1)
    targets = np.eye(7, dtype=np.float32)
    mixed, mixed_targets = mixup(faces, targets, AugmentConfig(mixup_alpha=1, mixup_share=1), rng)
    assert np.allclose(mixed[:, :, 0], mixed_targets)
    assert np.allclose(mixed_targets.sum(axis=1), 1)
    assert not np.allclose(mixed, faces)
    same, _ = mixup(faces, targets, AugmentConfig(), rng)
    assert same is faces


def test_batches_are_the_same_for_the_same_epoch_and_new_in_the_next(drawn: Dataset, brief: TrainConfig) -> None:
    batches, again = (TrainingBatches(Lessons(drawn.split("train")), brief) for _ in range(2))
    again[1]  # the order in which they are asked for does not matter
    assert all((a == b).all() for a, b in zip(batches[2], again[2], strict=True))
    again.epoch = 1
    assert not np.allclose(batches[2][0], again[2][0])
    assert len(batches) == 3
    assert batches[0][0].shape == (16, 48, 48, 1)
    assert 0 <= batches[0][0].min() < batches[0][0].max() <= 1


def test_images_that_are_no_face_are_left_out_when_asked(drawn: Dataset, brief: TrainConfig) -> None:
    train = drawn.split("train")
    votes = train.votes.copy()
    votes[:40, VOTE_COLUMNS.index("NF")] = 7
    judged = Dataset(train.pixels, train.labels, train.splits, train.repeated, votes)
    strict = brief.model_copy(update={"target": TargetConfig(drop_not_a_face=True)})
    assert (len(TrainingBatches(Lessons(judged), brief)), len(TrainingBatches(Lessons(judged), strict))) == (3, 1)


def test_square_root_sampling_shows_rare_classes_more_often(drawn: Dataset, brief: TrainConfig) -> None:
    train = drawn.split("train")
    keep = (train.labels == 3) | ((train.labels == 1) & (np.cumsum(train.labels == 1) <= 2))
    uneven = train.part(keep)  # 8 happy, 2 disgust: root frequencies 2 to 1
    rooted = brief.model_copy(update={"sampling": "sqrt", "batch_size": 10})
    batches, seen = TrainingBatches(Lessons(uneven), rooted), []
    for epoch in range(200):
        batches.epoch = epoch
        seen.append(batches[0][1].round(6))
    share = np.concatenate(seen)[:, 1].mean()
    assert share == pytest.approx(1 / 3, abs=0.04)


def test_degrading_blurs_coarsens_or_adds_noise(rng: np.random.Generator) -> None:
    checkers = (np.indices((48, 48)).sum(axis=0) % 2 * 100 + 78).astype(np.uint8)
    spreads = [float(vary(checkers, AugmentConfig(degrade_share=1), rng).std()) for _ in range(60)]
    assert min(spreads) < 30  # blurred or coarse: the pattern is gone
    assert max(spreads) > 51  # noisy
    assert len(set(spreads)) > 40
