"""HEIF (HEIC, as phones take it) and AVIF: sizes as the libraries report them without decoding."""

import io

import pillow_heif
from PIL import AvifImagePlugin

from shared.pipeline.formats.encoded import Encoded
from shared.pipeline.formats.exif import orientation_of


def read_heif(data: bytes) -> Encoded:
    """A HEIF file with its size as displayed: the decoder turns the picture itself. Raises what the library raises."""
    file = open_heif(data)
    width, height = file.size
    return Encoded("HEIC", data, width, height, bytes_per_pixel=10 if file.has_alpha else 7)


def open_heif(data: bytes) -> pillow_heif.HeifFile:
    """The file's primary picture, not decoded yet, in BGR."""
    options = pillow_heif.options
    options.DECODE_THREADS = 1  # the service's workers share the cores among themselves
    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
    return pillow_heif.open_heif(data, bgr_mode=True)


def read_avif(data: bytes) -> Encoded:
    """An AVIF file with its size and orientation. Raises what the library raises."""
    with open_avif(data) as image:
        held = 14 if image.mode == "RGBA" else 10
        return Encoded("AVIF", data, *image.size, orientation_of(image.info.get("exif", b"")), held)


def open_avif(data: bytes) -> AvifImagePlugin.AvifImageFile:
    """The first picture of the file, not decoded yet."""
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # as above
    return AvifImagePlugin.AvifImageFile(io.BytesIO(data))
