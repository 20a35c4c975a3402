"""PNG: its chunks (W3C, Portable Network Graphics, 5)."""

import struct
import zlib
from typing import Final

from shared.errors import UndecodableImage
from shared.pipeline.formats.encoded import Encoded, bounded, cut_short
from shared.pipeline.formats.exif import orientation_of

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
# Bytes of memory for a pixel, by colour type, as Pillow holds them; with transparency it makes a copy to reduce.
_HELD: Final = {0: 5, 2: 4, 3: 5, 4: 8, 6: 8}


def read_png(data: bytes) -> Encoded:
    """The header, palette and pixels of a PNG. Texts, profiles and frames of animations are left out.

    Raises UndecodableImage.
    """
    view = memoryview(data)
    position, blocks, exif = len(_SIGNATURE), 0, b""
    header: bytes | None = None
    tables: dict[bytes, bytes] = {}
    pixels: list[memoryview] = []
    while position + 8 <= len(view):
        bounded(blocks := blocks + 1, "PNG")
        length, name = int.from_bytes(view[position : position + 4], "big"), bytes(view[position + 4 : position + 8])
        payload, position = view[position + 8 : position + 8 + length], position + 12 + length
        if name == b"IEND":
            break
        if name not in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"eXIf"):
            continue
        if len(payload) < length or zlib.crc32(payload, zlib.crc32(name)).to_bytes(4) != view[position - 4 : position]:
            raise cut_short("PNG")
        if name == b"IDAT":
            pixels.append(payload)
        elif name == b"eXIf":
            exif = exif or bytes(payload)
        elif name == b"IHDR":
            header = header or bytes(payload)
        else:
            tables.setdefault(name, bytes(payload))
    return _encoded(header, tables, pixels, exif)


def _encoded(header: bytes | None, tables: dict[bytes, bytes], pixels: list[memoryview], exif: bytes) -> Encoded:
    if header is None or len(header) != 13:
        raise UndecodableImage("The PNG image's header is corrupt.")
    width, height, depth, colour = struct.unpack_from(">IIBB", header)
    chunks = [(b"IHDR", header), *((name, tables[name]) for name in (b"PLTE", b"tRNS") if name in tables)]
    kept = b"".join(_chunk(name, payload) for name, payload in (*chunks, (b"IDAT", b"".join(pixels)), (b"IEND", b"")))
    held = 9 if b"tRNS" in tables else 10 if (depth, colour) == (16, 0) else _HELD.get(colour, 8)
    return Encoded("PNG", _SIGNATURE + kept, width, height, orientation_of(exif), held)


def _chunk(name: bytes, payload: bytes) -> bytes:
    return b"".join((len(payload).to_bytes(4, "big"), name, payload, zlib.crc32(payload, zlib.crc32(name)).to_bytes(4)))
