"""Files made to cost: each kind is refused or read in a fraction of a second, in the memory that its header told."""

import io
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from contextlib import suppress

import pillow_heif
import pytest
from PIL import Image

from shared.annotate import ENCODER_BYTES_PER_PIXEL
from shared.errors import ImageError, UndecodableImage
from shared.pictures import ImageLimits
from shared.pipeline.decode import decode
from tests.conftest import ROOT

LIMITS = ImageLimits()
# Each of these took seconds to minutes; on a busy machine a second is far from either.
_AT_MOST_S = 2.5


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def progressive(side: int = 640) -> tuple[bytes, bytes]:
    """A progressive JPEG without its end, and its last scan."""
    data = encoded(Image.new("RGB", (side, side), (90, 120, 60)), "JPEG", progressive=True)
    return data[:-2], data[data.rindex(b"\xff\xda") : -2]


def endless_scans(between: bytes = b"", times: int = 4000) -> bytes:
    head, scan = progressive()
    return head + (between + scan) * times + b"\xff\xd9"


def as_mpo(data: bytes) -> bytes:
    """`data` with the segment that makes Pillow open it as MPO, a camera's pair of pictures."""
    entries = struct.pack("<HHI", 0xB001, 4, 1) + struct.pack("<I", 2)
    index = struct.pack("<HHI4s", 0xB000, 7, 4, b"0100") + entries + struct.pack("<HHII", 0xB002, 7, 32, 50)
    block = b"MPF\0II*\0" + struct.pack("<I", 8) + struct.pack("<H", 3) + index + b"\0" * 4 + b"\0" * 32
    return data[:2] + b"\xff\xe2" + struct.pack(">H", len(block) + 2) + block + data[2:]


def in_tiff(jpeg: bytes, side: int) -> bytes:
    """A JPEG as the one strip of a TIFF."""
    tags = [(256, side), (257, side), (259, 7), (262, 6), (273, 8), (277, 3), (278, side), (279, len(jpeg))]
    bits = 8 + len(jpeg) + len(jpeg) % 2
    rows = sorted([(tag, 4, 1, value) for tag, value in tags] + [(258, 3, 3, bits)])
    directory = struct.pack("<H", len(rows)) + b"".join(struct.pack("<HHII", *row) for row in rows) + b"\0" * 4
    body = jpeg + b"\0" * (len(jpeg) % 2) + struct.pack("<HHH", 8, 8, 8)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + directory


@pytest.mark.parametrize("between", [b"", b"\xff\x01", b"\xff\xd8", b"\xff\xff\xff", b"\xff\x01\xff\xd8\xff\x01"])
def test_a_jpeg_of_endless_scans_is_refused_whatever_stands_between_them(between: bytes) -> None:
    for data in (endless_scans(between), as_mpo(endless_scans(between))):
        started = time.process_time()
        with pytest.raises(UndecodableImage, match="scans"):
            decode(data, LIMITS)
        assert time.process_time() - started < _AT_MOST_S


def test_a_jpeg_of_endless_scans_inside_a_tiff_is_refused() -> None:
    started = time.process_time()
    with pytest.raises(UndecodableImage, match="scans"):
        decode(in_tiff(endless_scans(), 640), LIMITS)
    assert time.process_time() - started < _AT_MOST_S
    whole = encoded(Image.new("RGB", (640, 640), (90, 120, 60)), "JPEG", progressive=True)
    assert decode(in_tiff(whole, 640), LIMITS).width == 640


def test_a_camera_s_pair_of_pictures_gives_the_first(scene: Image.Image) -> None:
    data = encoded(scene, "MPO", save_all=True, append_images=[Image.new("RGB", (320, 240))])
    assert decode(data, LIMITS).width == 640


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_with(chunks: bytes) -> bytes:
    data = encoded(Image.new("RGB", (64, 64), "red"), "PNG")
    return data[:33] + chunks + data[33:]


def tiff_of(tags: list[tuple[int, int, int, bytes]], beyond: bytes = b"") -> bytes:
    """A little-endian TIFF: tag, type, count and the four bytes of value or offset."""
    rows = b"".join(struct.pack("<HHI", *tag[:3]) + tag[3] for tag in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(beyond)) + beyond + struct.pack("<H", len(tags)) + rows + b"\0" * 4


def long(value: int) -> bytes:
    return struct.pack("<I", value)


def tiny_tiles() -> bytes:
    side = 1600
    offsets = long(8) * (side * side // 4)
    head = [(256, 4, 1, long(side)), (257, 4, 1, long(side)), (258, 3, 1, long(8)), (259, 3, 1, long(1))]
    tiles = [(262, 3, 1, long(1)), (322, 4, 1, long(1)), (323, 4, 1, long(1))]
    return tiff_of([*head, *tiles, (324, 4, len(offsets) // 4, long(8)), (325, 4, len(offsets) // 4, long(8))], offsets)


def rational_orientation() -> bytes:
    values = struct.pack("<II", 1, 1) * 500_000
    tags = [(256, 3, 1, long(64)), (257, 3, 1, long(64)), (258, 3, 1, long(8)), (262, 3, 1, long(1))]
    strips = [(273, 4, 1, long(8)), (274, 5, 500_000, long(8)), (278, 3, 1, long(64)), (279, 4, 1, long(64 * 64))]
    return tiff_of([*tags, *strips], values)


def many_tags() -> bytes:
    return tiff_of([(40_000 + number % 20_000, 2, 2**31, long(2**31)) for number in range(60_000)])


def strips_that_are_each_the_whole_file() -> bytes:
    rows, packed = 16_000, zlib.compress(bytes(4_000_000))
    values = b"".join((long(8) * rows, long(len(packed)) * rows))
    head = [(256, 3, 1, long(64)), (257, 3, 1, long(rows)), (258, 3, 1, long(8)), (259, 3, 1, long(8))]
    at = 8 + len(packed)
    strips = [(273, 4, rows, long(at)), (278, 3, 1, long(1)), (279, 4, rows, long(at + 4 * rows))]
    return tiff_of([*head, (262, 3, 1, long(1)), *strips], packed + values)


def run_length_bmp() -> bytes:
    """Each row is one pixel and the end of the line."""
    width, height = 16_000, 3000
    data = b"\x01\x07\0\0" * height + b"\0\x01"
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(data), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 1024 + len(data), 0, 0, 54 + 1024) + info + bytes(1024) + data


def gif_of_comments() -> bytes:
    data = encoded(Image.new("P", (64, 64)), "GIF")
    return data[:13] + b"\x21\xfe" + b"\x01x" * 4_000_000 + b"\0" + data[13:]


HOSTILE: dict[str, Callable[[], bytes]] = {
    "JPEG of half a million Exif segments": lambda: (
        progressive()[0][:2] + b"\xff\xe1\x00\x08Exif\0\0" * 500_000 + encoded(Image.new("RGB", (64, 64)), "JPEG")[2:]
    ),
    "JPEG of a million comments": lambda: b"\xff\xd8" + b"\xff\xfe\x00\x02" * 1_000_000 + progressive()[0][2:],
    "JPEG padded with FF": lambda: b"\xff\xd8" + b"\xff" * 9_000_000 + progressive()[0][2:] + b"\xff\xd9",
    "JPEG padded with FF, then a data byte": lambda: b"\xff\xd8" + (b"\xff" * 4_000_000 + b"\0") * 2,
    "JPEG padded inside a scan": lambda: progressive()[0] + (b"\xff" * 4_000_000 + b"\0") * 2 + b"\xff\xd9",
    "JPEG of markers without length": lambda: b"\xff\xd8" + b"\xff\x01" * 4_000_000 + progressive()[0][2:],
    "JPEG of a million tables": lambda: (
        b"\xff\xd8" + (b"\xff\xdb\x00\x43\x00" + b"\x01" * 64) * 120_000 + progressive()[0][2:]
    ),
    "PNG of 9,000 profiles": lambda: png_with(png_chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(1_000_000))) * 9000),
    "PNG of 9,000 texts": lambda: png_with(png_chunk(b"zTXt", b"t\0\0" + zlib.compress(bytes(1_000_000))) * 9000),
    "PNG of 700,000 chunks": lambda: png_with(png_chunk(b"teSt", b"") * 700_000),
    "PNG in 700,000 pieces": lambda: png_with(png_chunk(b"IDAT", b"") * 700_000),
    "TIFF of tiny tiles": tiny_tiles,
    "TIFF of rational orientation": rational_orientation,
    "TIFF of 60,000 broken tags": many_tags,
    "TIFF whose strips are each the whole file": strips_that_are_each_the_whole_file,
    "run-length BMP": run_length_bmp,
    "GIF of four million comments": gif_of_comments,
    "WebP of a million chunks": lambda: b"RIFF\xff\xff\xff\0WEBP" + b"JUNK\0\0\0\0" * 1_000_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_made_to_cost_time_does_not(name: str) -> None:
    data = HOSTILE[name]()
    assert len(data) < 10_000_000
    started = time.process_time()
    with suppress(ImageError):
        decode(data, LIMITS)
    assert time.process_time() - started < _AT_MOST_S


def flat(kind: str) -> bytes:
    """A file of a few bytes that decodes to millions of pixels; "TIFF RGB turned" is one of RGB whose camera was turned."""
    kind, mode, *turned = kind.split()
    size = (1800, 1200) if kind in ("HEIF", "AVIF") else (4000, 3000)
    exif = Image.Exif()
    exif[0x0112] = 6 if turned == ["turned"] else 1
    options: dict[str, object] = {"exif": exif.tobytes() if kind == "HEIF" else exif}
    if kind == "HEIF":
        pillow_heif.register_heif_opener()
    if kind == "GIF":
        options = {"transparency": 0}
    of_kind: dict[str, dict[str, object]] = {
        "JPEG": {"progressive": mode == "RGB", "subsampling": 0}, "TIFF": {"compression": "tiff_deflate"},
        "WEBP": {"lossless": True},
    }  # fmt: skip
    options |= of_kind.get(kind, {})
    if turned == ["animated"]:
        options |= {"save_all": True, "append_images": [Image.new(mode, size, "red")] * 2}
    return encoded(Image.new(mode, size, (90, 90, 90, 90)[: len(mode)] if mode != "P" else 0), kind, **options)


_PEAK = """
import sys
from pathlib import Path
import numpy as np
from shared.annotate import encode
from shared.pipeline.decode import decode
from shared.pictures import ImageLimits

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024

def taken_by(work):
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    return work(), peak() - before

decode(Path("services/api/web/example.jpg").read_bytes(), ImageLimits())
"""


def measured(script: str, data: bytes = b"") -> list[list[int]]:
    """The numbers that a fresh process prints."""
    command = [sys.executable, "-c", _PEAK + script]
    done = subprocess.run(command, cwd=ROOT, input=data, capture_output=True, check=True)
    return [[int(number) for number in line.split()] for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    "kind",
    ["JPEG RGB turned", "JPEG CMYK", "PNG RGBA", "PNG RGB turned", "WEBP RGBA turned", "GIF P", "TIFF RGBA turned",
     "BMP RGB", "WEBP RGB animated", "HEIF RGBA", "HEIF RGB turned", "AVIF RGBA", "AVIF RGB turned"],
)  # fmt: skip
def test_decoding_takes_no_more_memory_than_its_header_told(kind: str) -> None:
    script = """
told, data = [], sys.stdin.buffer.read()
for side in (1024, 16_384):
    print(taken_by(lambda: decode(data, ImageLimits(target_side_px=side), told.append))[1], told.pop())
"""
    sizes = measured(script, flat(kind))
    most = max(taken for taken, _ in sizes)  # the second decode may find the memory of the first
    for taken, told in sizes:
        assert taken <= told < 3 * most + 2**25


def test_encoding_takes_no_more_memory_than_is_reserved_for_it() -> None:
    script = """
noise = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), dtype=np.uint8)
encode(noise[:64, :64], "png")
for kind in ("jpeg", "png"):
    print(taken_by(lambda: encode(noise, kind))[1] // 3_000_000)
"""
    for (taken,), kind in zip(measured(script), ("jpeg", "png"), strict=True):
        assert taken <= ENCODER_BYTES_PER_PIXEL[kind]  # type: ignore[index] # one of the two
