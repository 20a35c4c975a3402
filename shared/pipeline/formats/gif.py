"""GIF: its first frame (GIF89a, 17 to 23)."""

import struct
from typing import Final

from shared.errors import UndecodableImage
from shared.pipeline.formats.encoded import Encoded, bounded, cut_short

_EXTENSION, _IMAGE = 0x21, 0x2C
_GRAPHIC_CONTROL: Final = 0xF9
_TRAILER: Final = b";"


def read_gif(data: bytes) -> Encoded:
    """The first frame of a GIF, and its transparency. Raises UndecodableImage."""
    if len(data) < 13:
        raise cut_short("GIF")
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + _palette_bytes(flags)
    kept, blocks = [data[:position]], 0
    while position < len(data):
        start, code = position, data[position]
        if code == _EXTENSION:
            position, blocks = _after_blocks(data, position + 2, blocks)
            if data[start + 1 : start + 2] == bytes([_GRAPHIC_CONTROL]) and len(kept) == 1:
                kept.append(data[start:position])
        elif code == _IMAGE and position + 10 <= len(data):
            left, top, columns, rows, flags = struct.unpack_from("<HHHHB", data, position + 1)
            position, _ = _after_blocks(data, position + 11 + _palette_bytes(flags), blocks)
            kept += [data[start:position], _TRAILER]
            return Encoded("GIF", b"".join(kept), max(width, left + columns), max(height, top + rows), 1, 9)
        else:
            break
    raise UndecodableImage("The GIF image has no frame.")


def _palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _after_blocks(data: bytes, position: int, blocks: int) -> tuple[int, int]:
    """Where the chain of blocks that begins at `position` ends, and how many blocks were seen."""
    while position < len(data) and data[position]:
        bounded(blocks := blocks + 1, "GIF")
        position += 1 + data[position]
    if position >= len(data):
        raise cut_short("GIF")
    return position + 1, blocks + 1
