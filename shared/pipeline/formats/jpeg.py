"""JPEG: the one reader of its markers (ITU-T T.81, B.1)."""

import re
from typing import Final

from shared.errors import UndecodableImage
from shared.pipeline.formats.encoded import Encoded, bounded, bounded_scans, cut_short
from shared.pipeline.formats.exif import orientation_of

_START, _END, _SCAN = b"\xff\xd8", b"\xff\xd9", b"\xff\xda"
# FF 00 is a data byte, FF FF is padding, and FF D0 to D7 belong to a scan's data.
_MARKER: Final = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
_WITHOUT_LENGTH: Final = {0x01, 0xD8}
_FRAMES: Final = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_TABLES: Final = {0xC4, 0xCC, 0xDB, 0xDD}
_MAX_TABLES: Final = 2000  # each scan may bring a few


def read_jpeg(data: bytes) -> Encoded:
    """The frame, tables and scans of a JPEG, without its other segments or anything after its end.

    A decoder that is given the result sees no more scans than were counted here: every length in it was checked.
    Raises UndecodableImage.
    """
    reader = _Reader(data)
    reader.read()
    if reader.frame is None or reader.scans == 0:
        raise UndecodableImage("The JPEG image's header is corrupt.")
    width, height, samples = reader.frame
    kept = b"".join([_START, *reader.kept])
    scans = kept.count(_SCAN)
    bounded_scans(scans, width * height)
    return Encoded(
        "JPEG",
        kept,
        width,
        height,
        orientation_of(reader.exif),
        # With more than one scan, the coefficients of the whole picture are kept, two bytes each.
        coefficients_bytes=2 * samples if scans > 1 or reader.progressive else 0,
    )


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self.kept: list[bytes | memoryview] = []
        self.frame: tuple[int, int, int] | None = None  # width, height, samples
        self.exif = b""
        self.progressive = False
        self.scans = 0
        self._application: set[int] = set()

    def read(self) -> None:
        position, blocks, tables = 2, 0, 0
        while marker := _MARKER.search(self._data, position):
            code, position = marker[1][0], marker.end()
            if code == 0xD9:  # cameras append other data after it
                self.kept.append(_END)
                return
            bounded(blocks := blocks + 1, "JPEG")
            if code in _WITHOUT_LENGTH:
                continue
            length = int.from_bytes(self._data[position : position + 2], "big")
            end = position + length
            if length < 2 or end > len(self._data):
                raise cut_short("JPEG")
            payload = self._data[position + 2 : end]
            if code in _TABLES:
                tables += 1
            if tables > _MAX_TABLES:
                raise UndecodableImage(f"The JPEG image has more than {_MAX_TABLES} tables.")
            self._segment(code, payload, self._data[position - 2 : end])
            position = self._scan_data(end) if code == 0xDA else end

    def _segment(self, code: int, payload: memoryview, whole: memoryview) -> None:
        if code in _FRAMES:
            self._frame(code, payload)
            self.kept.append(whole)
        elif code in _TABLES:
            self.kept.append(whole)
        elif code == 0xDA:
            self.scans += 1
            self.kept.append(whole)
        elif code == 0xE1 and not self.exif and bytes(payload[:6]) == b"Exif\0\0":
            self.exif = bytes(payload)
        elif code in (0xE0, 0xEE) and code not in self._application:
            self._colours(code, payload, whole)

    def _colours(self, code: int, payload: memoryview, whole: memoryview) -> None:
        """Keep what tells YCbCr from RGB: JFIF's segment, without its thumbnail, and Adobe's."""
        if code == 0xE0 and bytes(payload[:5]) == b"JFIF\0" and len(payload) >= 14:
            self.kept.append(b"\xff\xe0\x00\x10" + bytes(payload[:12]) + b"\0\0")
        elif code == 0xEE and bytes(payload[:5]) == b"Adobe" and len(payload) <= 32:
            self.kept.append(whole)
        else:
            return
        self._application.add(code)

    def _frame(self, code: int, payload: memoryview) -> None:
        if self.frame is not None:
            raise UndecodableImage("The JPEG image has a second frame header.")
        if len(payload) < 6 or len(payload) != 6 + 3 * payload[5]:
            raise UndecodableImage("The JPEG image's header is corrupt.")
        height, width = int.from_bytes(payload[1:3], "big"), int.from_bytes(payload[3:5], "big")
        factors = [(value >> 4, value & 15) for value in payload[7::3]]
        if not factors or any(not 1 <= factor <= 4 for pair in factors for factor in pair):
            raise UndecodableImage("The JPEG image's header is corrupt.")
        columns, rows = max(h for h, _ in factors), max(v for _, v in factors)
        samples = sum(width * height * h * v // (columns * rows) for h, v in factors)
        self.frame = (width, height, samples)
        self.progressive = code in (0xC2, 0xC6, 0xCA, 0xCE)

    def _scan_data(self, start: int) -> int:
        """Keep a scan's data and return where it ends."""
        marker = _MARKER.search(self._data, start)
        end = marker.start() if marker else len(self._data)
        self.kept.append(bytes(self._data[start:end]).rstrip(b"\xff"))
        return end
