"""A scene in; out, the same scene as a worse camera would take it: dark, grey, tinted, blurred, noisy, compressed."""

import cv2
import numpy as np

from shared.pictures import BgrImage

Rng = np.random.Generator


def degrade(image: BgrImage, rng: Rng) -> BgrImage:
    """Some of the faults of cameras and of what happens to pictures later, each with its own chance."""
    if rng.random() < 0.15:
        image = _coarse(image, rng)
    if rng.random() < 0.2:
        image = _blurred(image, rng)
    if rng.random() < 0.15:
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        image = np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), np.uint8)
    if rng.random() < 0.6:
        image = _toned(image, rng)
    if rng.random() < 0.12:
        image = _lit_from_a_side(image, rng)
    if rng.random() < 0.2:
        image = _noisy(image, rng)
    if rng.random() < 0.25:
        image = _compressed(image, rng)
    return image


def _coarse(image: BgrImage, rng: Rng) -> BgrImage:
    height, width = image.shape[:2]
    factor = rng.uniform(0.4, 0.9)
    small = cv2.resize(image, (round(width * factor), round(height * factor)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _blurred(image: BgrImage, rng: Rng) -> BgrImage:
    if rng.random() < 0.5:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.8)), np.uint8)
    length, across = int(rng.integers(2, 7)), bool(rng.integers(2))
    return np.asarray(cv2.blur(image, (length, 1) if across else (1, length)), np.uint8)


def _toned(image: BgrImage, rng: Rng) -> BgrImage:
    """Exposure from an eighth to 1.4 times, contrast, gamma and a tint, as one lookup table per channel."""
    levels = np.arange(256, dtype=np.float32) / 255
    levels = levels ** np.exp(rng.normal(0, 0.25))
    levels = (levels - 0.5) * rng.uniform(0.6, 1.3) + 0.5 + rng.normal(0, 0.06)
    gain = rng.uniform(0.12, 0.6) if rng.random() < 0.3 else rng.uniform(0.7, 1.4)
    tint = rng.normal(1, 0.12, 3) if rng.random() < 0.4 else np.ones(3)
    table = np.clip(levels[:, np.newaxis] * gain * tint * 255, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table[:, np.newaxis]), np.uint8)


def _lit_from_a_side(image: BgrImage, rng: Rng) -> BgrImage:
    height, width = image.shape[:2]
    corners = rng.uniform(0.25, 1.3, (2, 2)).astype(np.float32)
    light = cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.multiply(image, cv2.merge([light] * 3), dtype=cv2.CV_8U), np.uint8)


def _noisy(image: BgrImage, rng: Rng) -> BgrImage:
    """Noise of its own in each channel, or the same in all three."""
    height, width = image.shape[:2]
    channels = 1 if rng.random() < 0.5 else 3
    noise = np.empty((height, width * channels), np.int16)
    cv2.setRNGSeed(int(rng.integers(2**31)))
    cv2.randn(noise, np.zeros(1), np.full(1, rng.uniform(2, 18)))
    noise = np.broadcast_to(noise.reshape(height, width, channels), image.shape)
    return np.asarray(cv2.add(image, noise, dtype=cv2.CV_8U), np.uint8)


def _compressed(image: BgrImage, rng: Rng) -> BgrImage:
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 85))])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
