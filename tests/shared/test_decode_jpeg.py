"""JPEGs come by libjpeg-turbo as Pillow would read them."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from shared.pictures import ImageLimits
from shared.pipeline.decode import decode

Encode = Callable[..., bytes]
LIMITS = ImageLimits()


@pytest.mark.parametrize("options", [{}, {"quality": 40, "subsampling": 2}, {"subsampling": 0}, {"progressive": True}])
@pytest.mark.parametrize("size", [(640, 480), (2051, 1537), (4101, 99)])
def test_a_jpeg_has_the_pixels_that_pillow_reads(
    size: tuple[int, int], options: dict[str, object], scene: Image.Image, encode: Encode
) -> None:
    data = encode(scene.resize(size), "JPEG", **options)
    reference = Image.open(io.BytesIO(data))
    scale = max(size) // LIMITS.target_side_px or 1
    reference.draft(None, (size[0] // scale, size[1] // scale))
    assert (decode(data, LIMITS).pixels[..., ::-1] == np.asarray(reference)).all()


def test_a_grey_jpeg_and_one_in_cmyk_are_read(scene: Image.Image, encode: Encode) -> None:
    rgb = decode(encode(scene, quality=95), LIMITS).pixels.astype(int)
    for mode in ("L", "CMYK"):
        pixels = decode(encode(scene.convert(mode), quality=95), LIMITS).pixels
        assert np.abs(pixels.mean(axis=2) - rgb.mean(axis=2)).mean() < 12
