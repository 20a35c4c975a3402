"""WebP (RFC 9649): the size in its header, before a decoder makes room for it."""

import struct

from shared.errors import UndecodableImage
from shared.pipeline.formats.encoded import Encoded, bounded
from shared.pipeline.formats.exif import orientation_of


def read_webp(data: bytes) -> Encoded:
    """A WebP with its size and EXIF's orientation. Raises UndecodableImage."""
    size, exif = None, b""
    position, blocks = 12, 0
    while position + 8 <= len(data) and not (size and exif):
        bounded(blocks := blocks + 1, "WEBP")
        name, (length,) = data[position : position + 4], struct.unpack_from("<I", data, position + 4)
        payload = data[position + 8 : position + 8 + min(length, len(data))] if name != b"EXIF" else b""
        size = size or _size(name, payload[:10])
        if name == b"EXIF":
            exif = data[position + 8 : position + 8 + length]
        position += 8 + length + length % 2
    if size is None:
        raise UndecodableImage("The WebP image's header is corrupt.")
    return Encoded("WEBP", data, *size, orientation_of(exif), 8)


def _size(name: bytes, head: bytes) -> tuple[int, int] | None:
    if len(head) < 10:
        return None
    if name == b"VP8X":
        return int.from_bytes(head[4:7], "little") + 1, int.from_bytes(head[7:10], "little") + 1
    if name == b"VP8 " and head[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", head, 6)
        return width & 0x3FFF, height & 0x3FFF
    if name == b"VP8L" and head[0] == 0x2F:
        bits = int.from_bytes(head[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return None
