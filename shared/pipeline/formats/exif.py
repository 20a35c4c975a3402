"""EXIF's orientation, read from the first directory of a TIFF structure; broken or endless ones do no harm."""

import struct
from typing import Final

_ORIENTATION: Final = 0x0112
_SHORT, _LONG = 3, 4
_MAX_ENTRIES: Final = 1000


def orientation_of(block: bytes) -> int:
    """EXIF's orientation, 1 to 8; 1 where the block has none or is broken."""
    tiff = block.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return 1
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    if start + 2 > len(tiff):
        return 1
    (entries,) = struct.unpack_from(f"{order}H", tiff, start)
    for number in range(min(entries, _MAX_ENTRIES)):
        at = start + 2 + 12 * number
        if at + 12 > len(tiff):
            break
        tag, kind, count = struct.unpack_from(f"{order}HHI", tiff, at)
        if tag == _ORIENTATION and count == 1 and kind in (_SHORT, _LONG):
            return valid(struct.unpack_from(f"{order}{'H' if kind == _SHORT else 'I'}", tiff, at + 8)[0])
    return 1


def valid(orientation: int) -> int:
    """`orientation` where it is one of the eight, 1 otherwise."""
    return orientation if 1 <= orientation <= 8 else 1
