"""WebP (RFC 9649): the size in its header, before a decoder makes room for it."""

import struct
from typing import Final

from shared.errors import UndecodableImage
from shared.pipeline.formats.encoded import Encoded, bounded
from shared.pipeline.formats.exif import orientation_of

_KEPT: Final = (b"VP8X", b"ANIM", b"ANMF", b"ALPH", b"VP8 ", b"VP8L")
_PIXEL_FLAGS: Final = 0x12  # of VP8X: transparency and animation; the others announce chunks that are left out


def read_webp(data: bytes) -> Encoded:
    """A WebP with its size and EXIF's orientation; of an animation, its first frame. Raises UndecodableImage."""
    view = memoryview(data)
    size, exif = None, b""
    kept: dict[bytes, memoryview] = {}
    position, blocks = 12, 0
    while position + 8 <= len(view):
        bounded(blocks := blocks + 1, "WEBP")
        name, (length,) = bytes(view[position : position + 4]), struct.unpack_from("<I", view, position + 4)
        end = position + 8 + length
        if name == b"EXIF":
            exif = exif or bytes(view[position + 8 : end])
        elif name in _KEPT:
            size = size or _size(name, bytes(view[position + 8 : min(end, position + 18)]))
            kept.setdefault(name, view[position:end])
        position = end + length % 2
    if size is None:
        raise UndecodableImage("The WebP image's header is corrupt.")
    # An animation is drawn on a canvas, beside its frame.
    return Encoded("WEBP", _file_of(kept), *size, orientation_of(exif), 12 if b"ANMF" in kept else 8)


def _file_of(chunks: dict[bytes, memoryview]) -> bytes:
    parts = []
    for name, chunk in chunks.items():
        whole = bytes(chunk) + b"\0" * (len(chunk) % 2)
        parts.append(whole[:8] + bytes([whole[8] & _PIXEL_FLAGS]) + whole[9:] if name == b"VP8X" else whole)
    body = b"".join((b"WEBP", *parts))
    return b"RIFF" + struct.pack("<I", len(body)) + body


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
