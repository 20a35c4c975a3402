"""BMP: the size in its header, before a decoder makes room for it."""

import struct
from typing import Final

from shared.errors import UndecodableImage
from shared.pipeline.formats.encoded import Encoded, cut_short

_RUN_LENGTH: Final = (1, 2)
# The limit for run-length BMPs, which Pillow decodes in Python: a quarter of a second.
_MAX_RUN_LENGTH_PIXELS: Final = 1_000_000


def read_bmp(data: bytes) -> Encoded:
    """A BMP with its size; large run-length ones are refused. Raises UndecodableImage."""
    if len(data) < 26:
        raise cut_short("BMP")
    (header,) = struct.unpack_from("<I", data, 14)
    if header == 12:
        width, height = struct.unpack_from("<HH", data, 18)
        return Encoded("BMP", data, width, height, bytes_per_pixel=5)
    if header < 40 or len(data) < 54:
        raise UndecodableImage("The BMP image's header is corrupt.")
    width, height, _, _, compression = struct.unpack_from("<iiHHI", data, 18)
    width, height = abs(width), abs(height)
    if compression in _RUN_LENGTH and width * height > _MAX_RUN_LENGTH_PIXELS:
        raise UndecodableImage(
            f"The BMP image is run-length coded and has {width * height:,} pixels; the limit for such files is "
            f"{_MAX_RUN_LENGTH_PIXELS:,}. Send a PNG."
        )
    return Encoded("BMP", data, width, height, bytes_per_pixel=5)
