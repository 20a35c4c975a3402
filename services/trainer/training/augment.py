"""Training images, varied on the fly; validation and test images are never varied."""

import cv2
import numpy as np
import numpy.typing as npt

from services.trainer.data.dataset import FACE_SIZE_PX, Targets
from services.trainer.training.config import AugmentConfig
from shared.pictures import GreyImage

Faces = npt.NDArray[np.float32]  # (N, size, size), 0 to 255


def vary(face: GreyImage, config: AugmentConfig, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """One face, moved, relit and partly covered: (48, 48) float32 in 0 to 255.

    `face` is (48, 48) uint8, or wider at the same scale, with the face in its middle.
    """
    varied = _move(face, config, rng).astype(np.float32)
    contrast, brightness = rng.uniform(*config.contrast), rng.uniform(*config.brightness)
    shift = rng.uniform(-config.brightness_shift, config.brightness_shift)
    varied = np.clip(((varied - 128) * contrast + 128) * brightness + shift, 0, 255).astype(np.float32)
    if rng.random() < config.degrade_share:
        varied = _degrade(varied, rng)
    if rng.random() < config.erase_share:
        _erase(varied, config, rng)
    return np.asarray(varied, np.float32)


def mixup(
    faces: Faces, targets: Targets, config: AugmentConfig, rng: np.random.Generator, views: int = 1
) -> tuple[Faces, Targets]:
    """Blend a share of the batches with themselves in another order (mixup, Zhang et al. 2018).

    A batch of two `views` of the same faces, one after the other, is blended alike in both.
    """
    if config.mixup_alpha == 0 or rng.random() >= config.mixup_share:
        return faces, targets
    weight = np.float32(rng.beta(config.mixup_alpha, config.mixup_alpha))
    faces_per_view = len(faces) // views
    one_view = rng.permutation(faces_per_view)
    other = np.concatenate([one_view + view * faces_per_view for view in range(views)])
    return weight * faces + (1 - weight) * faces[other], weight * targets + (1 - weight) * targets[other]


def _move(face: GreyImage, config: AugmentConfig, rng: np.random.Generator) -> GreyImage:
    """Rotate, zoom, stretch, shift and mirror around the centre, in one interpolation."""
    size, middle = FACE_SIZE_PX, (face.shape[0] - 1) / 2
    centre = (size - 1) / 2
    angle, zoom = rng.uniform(-config.rotation_deg, config.rotation_deg), rng.uniform(*config.zoom)
    aspect = rng.uniform(1 - config.aspect, 1 + config.aspect)
    shift_x, shift_y = rng.uniform(-config.shift_px, config.shift_px, size=2)
    mirror = -1 if config.flip and rng.random() < 0.5 else 1
    matrix = cv2.getRotationMatrix2D((0, 0), angle, zoom)[:, :2]
    matrix[0] *= aspect * mirror
    offset = np.array([centre + shift_x, centre + shift_y]) - matrix @ np.array([middle, middle])
    affine = np.column_stack([matrix, offset])
    moved = cv2.warpAffine(face, affine, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.uint8)


def _degrade(face: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Blur, coarsen or add noise, one of the three: as small faces and dark rooms look."""
    kind, size = rng.integers(3), face.shape[0]
    if kind == 0:
        return np.asarray(cv2.GaussianBlur(face, (0, 0), rng.uniform(0.4, 1.4)), np.float32)
    if kind == 1:
        return np.clip(face + rng.normal(0, rng.uniform(3, 20), face.shape), 0, 255).astype(np.float32)
    coarse = int(rng.integers(size // 3, size))
    small = cv2.resize(face, (coarse, coarse), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (size, size), interpolation=cv2.INTER_LINEAR), np.float32)


def _erase(face: npt.NDArray[np.float32], config: AugmentConfig, rng: np.random.Generator) -> None:
    """Cover one rectangle anywhere in the face with a single grey, so that no one part of it decides alone."""
    size = face.shape[0]
    height, width = rng.integers(config.erase_px[0], max(config.erase_px[0] + 1, min(config.erase_px[1], size)), size=2)
    top, left = rng.integers(0, size - height + 1), rng.integers(0, size - width + 1)
    face[top : top + height, left : left + width] = rng.uniform(0, 255)
