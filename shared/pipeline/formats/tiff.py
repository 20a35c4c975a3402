"""TIFF (revision 6.0): its first picture, under a directory of our own that holds only what describes the pixels."""

import struct
from dataclasses import dataclass
from typing import Final

from shared.errors import UndecodableImage, UnsupportedImage
from shared.pipeline.formats.encoded import MAX_SCANNED_PIXELS, MAX_SCANS, Encoded, cut_short
from shared.pipeline.formats.exif import valid

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _ORIENTATION, _SAMPLES, _ROWS = 256, 257, 258, 259, 274, 277, 278
_STRIPS, _STRIP_BYTES, _PLANES, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES = 273, 279, 284, 322, 323, 324, 325
_JPEG_TABLES: Final = 347
_JPEG: Final = 7
_PIECES: Final = (_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES)
# What describes pixels, besides the pieces: photometric interpretation, fill order, fax options, predictor, colour map,
# extra samples, sample format, and how YCbCr is stored.
_KEPT: Final = {
    _WIDTH, _HEIGHT, _BITS, _COMPRESSION, 262, 266, _SAMPLES, _ROWS, _PLANES, 292, 293, 317, 320, _TILE_WIDTH,
    _TILE_HEIGHT, 338, 339, _JPEG_TABLES, 529, 530, 531, 532, *_PIECES,
}  # fmt: skip
# None, three kinds of fax, LZW, JPEG, Deflate (two numbers) and PackBits.
_COMPRESSIONS: Final = (1, 2, 3, 4, 5, _JPEG, 8, 32773, 32946)
# Struct's letter and the size of a value, by TIFF's type: byte, short, long, rational, undefined, long8.
_TYPES: Final = {1: ("B", 1), 3: ("H", 2), 4: ("I", 4), 5: ("II", 8), 7: ("B", 1), 16: ("Q", 8)}
_MAX_ENTRIES: Final = 500
_MAX_PIECES: Final = 65_536  # strips or tiles
_MAX_VALUES: Final = 65_536  # of any other tag; a 16-bit palette would have three times as many, and is not read
_MIN_TILE_PX: Final = 16  # the specification's own

Values = dict[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a classic TIFF and a BigTIFF differ."""

    order: str
    big: bool

    @property
    def count(self) -> tuple[str, int]:
        return (f"{self.order}Q", 8) if self.big else (f"{self.order}H", 2)

    @property
    def entry(self) -> tuple[str, int, int]:
        """Struct of tag, type and number of values; bytes of an entry; bytes of the value or offset in it."""
        return (f"{self.order}HHQ", 20, 8) if self.big else (f"{self.order}HHI", 12, 4)

    @property
    def offset(self) -> str:
        return f"{self.order}Q" if self.big else f"{self.order}I"


def read_tiff(data: bytes) -> Encoded:
    """The first picture of a TIFF. Raises UndecodableImage or UnsupportedImage."""
    layout = _Layout("<" if data[:2] == b"II" else ">", 43 in data[2:4])
    try:
        (start,) = struct.unpack_from(layout.offset, data, 8 if layout.big else 4)
        values, types = _directory(data, start, layout)
        return _encoded(data, values, types, layout)
    except (struct.error, KeyError, IndexError) as error:
        raise cut_short("TIFF") from error


def _directory(data: bytes, start: int, layout: _Layout) -> tuple[Values, dict[int, int]]:
    """The values of the tags that matter, and their types."""
    count, size = layout.count
    (entries,) = struct.unpack_from(count, data, start)
    if entries > _MAX_ENTRIES:
        raise UndecodableImage(f"The TIFF image has {entries} tags; the limit is {_MAX_ENTRIES}.")
    head, entry_bytes, inline = layout.entry
    values: Values = {}
    types: dict[int, int] = {}
    for number in range(entries):
        at = start + size + entry_bytes * number
        tag, kind, length = struct.unpack_from(head, data, at)
        if tag not in _KEPT and tag != _ORIENTATION:
            continue
        if kind not in _TYPES or length > _MAX_VALUES:
            if tag == _ORIENTATION:
                continue
            raise UndecodableImage(f"The TIFF image's tag {tag} has a type or number of values that is not supported.")
        letters, value_bytes = _TYPES[kind]
        place = at + entry_bytes - inline
        if value_bytes * length > inline:
            (place,) = struct.unpack_from(layout.offset, data, place)
        values[tag] = struct.unpack_from(f"{layout.order}{length * len(letters)}{letters[0]}", data, place)
        types[tag] = kind
    return values, types


def _encoded(data: bytes, values: Values, types: dict[int, int], layout: _Layout) -> Encoded:
    width, height = values[_WIDTH][0], values[_HEIGHT][0]
    orientation = valid(values.pop(_ORIENTATION, (1,))[0])
    compression = values.get(_COMPRESSION, (1,))[0]
    if compression not in _COMPRESSIONS:
        raise UnsupportedImage(
            f"The TIFF image is compressed by method {compression}, which is not supported. Send a PNG."
        )
    pieces, piece_pixels = _pieces(values, width, height)
    _check_pieces(data, values, piece_pixels, compression)
    samples, bits = values.get(_SAMPLES, (1,))[0], max(values.get(_BITS, (1,)))
    held = 8 if samples > 1 else 10 if bits > 8 else 5  # as PNG's
    return Encoded(
        "TIFF",
        _with_own_directory(data, values, types, layout),
        width,
        height,
        orientation,
        held,
        # libtiff decodes a piece at a time, beside the picture.
        coefficients_bytes=piece_pixels * samples * max(1, bits // 8) + 600 * pieces,
    )


def _pieces(values: Values, width: int, height: int) -> tuple[int, int]:
    """The number of strips or tiles that the picture needs, and the pixels of one."""
    if not (width and height):
        raise UndecodableImage("The TIFF image has no pixels.")
    planes = values.get(_SAMPLES, (1,))[0] if values.get(_PLANES, (1,))[0] == 2 else 1
    if _TILES in values:
        columns, rows = values[_TILE_WIDTH][0], values[_TILE_HEIGHT][0]
        if min(columns, rows) < _MIN_TILE_PX or columns * rows > max(1 << 20, 4 * width * height):
            raise UndecodableImage(f"The TIFF image has tiles of {columns}x{rows} pixels, which are not supported.")
        pieces = -(-width // columns) * -(-height // rows) * planes
    else:
        columns, rows = width, min(values.get(_ROWS, (height,))[0], height)
        if rows < 1:
            raise UndecodableImage("The TIFF image has empty strips.")
        pieces = -(-height // rows) * planes
    if pieces > _MAX_PIECES:
        raise UndecodableImage(f"The TIFF image is in {pieces} pieces; the limit is {_MAX_PIECES:,}.")
    return pieces, columns * rows


def _check_pieces(data: bytes, values: Values, piece_pixels: int, compression: int) -> None:
    """Bound what the pieces hold together, and the scans of JPEGs among them.

    FF DA cannot occur in a scan's own data, so its count bounds the scans that a decoder finds.
    """
    tiled = _TILES in values
    offsets, sizes = (values[tag] for tag in ((_TILES, _TILE_BYTES) if tiled else (_STRIPS, _STRIP_BYTES)))
    if sum(sizes) > 2 * len(data):
        raise UndecodableImage("The pieces of the TIFF image are larger than its file.")
    if compression != _JPEG:
        return
    scans = [data.count(b"\xff\xda", at, at + size) for at, size in zip(offsets, sizes, strict=False)]
    if max(scans, default=0) > MAX_SCANS or sum(scans) * piece_pixels > MAX_SCANNED_PIXELS:
        raise UndecodableImage(f"The JPEG data of the TIFF image has {sum(scans)} scans, more than any real image has.")


def _with_own_directory(data: bytes, values: Values, types: dict[int, int], layout: _Layout) -> bytes:
    """The file as a classic TIFF whose one directory, at its end, holds `values`."""
    order = layout.order
    start = len(data) + len(data) % 2
    directory_bytes = 2 + 12 * len(values) + 4
    entries, beyond = [], b""
    for tag in sorted(values):
        kind = 4 if types[tag] == 16 else types[tag]
        letters, value_bytes = _TYPES[kind]
        packed = struct.pack(f"{order}{len(values[tag])}{letters[0]}", *values[tag])
        count = len(packed) // value_bytes
        if len(packed) > 4:
            place = struct.pack(f"{order}I", start + directory_bytes + len(beyond))
            beyond += packed + b"\0" * (len(packed) % 2)
        else:
            place = packed.ljust(4, b"\0")
        entries.append(struct.pack(f"{order}HHI", tag, kind, count) + place)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", start)
    directory = struct.pack(f"{order}H", len(entries)) + b"".join(entries) + b"\0" * 4
    return b"".join((head, memoryview(data)[8:], b"\0" * (len(data) % 2), directory, beyond))
