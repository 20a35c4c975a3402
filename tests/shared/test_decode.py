"""Every kind of picture that people send comes out right, or is refused with a reason."""

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable

import cv2
import numpy as np
import pillow_heif
import pytest
from PIL import Image

from shared.errors import ImageTooLarge, ImageTooSmall, UndecodableImage, UnsupportedImage
from shared.pictures import ImageLimits
from shared.pipeline.decode import Picture, decode
from tests.conftest import ROOT

LIMITS = ImageLimits()
Encode = Callable[..., bytes]


@pytest.fixture
def halves() -> Image.Image:
    """Left half red, right half blue: a picture whose orientation and channels can be seen."""
    image = Image.new("RGB", (64, 48), (200, 30, 30))
    image.paste((30, 30, 200), (32, 0, 64, 48))
    return image


def assert_red_left_blue_right(picture: Picture, tolerance: int = 12) -> None:
    assert (picture.width, picture.height) == (64, 48)
    assert picture.pixels.shape == (48, 64, 3)
    left, right = picture.pixels[24, 8].astype(int), picture.pixels[24, 56].astype(int)
    assert np.abs(left - (30, 30, 200)).max() <= tolerance  # BGR
    assert np.abs(right - (200, 30, 30)).max() <= tolerance


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIF", "AVIF"])
def test_reads_every_listed_format(kind: str, halves: Image.Image, encode: Encode) -> None:
    pillow_heif.register_heif_opener()
    assert_red_left_blue_right(decode(encode(halves, kind), LIMITS))


@pytest.mark.parametrize("mode", ["P", "RGBA", "CMYK", "YCbCr"])
def test_reads_every_colour_mode(mode: str, halves: Image.Image, encode: Encode) -> None:
    kind = "JPEG" if mode == "CMYK" else "TIFF" if mode == "YCbCr" else "PNG"
    assert_red_left_blue_right(decode(encode(halves.convert(mode), kind), LIMITS), tolerance=30)


def test_grey_gives_equal_channels(halves: Image.Image, encode: Encode) -> None:
    pixels = decode(encode(halves.convert("L"), "PNG"), LIMITS).pixels
    assert (pixels[..., 0] == pixels[..., 2]).all()
    assert pixels[24, 8, 0] == halves.convert("L").getpixel((8, 24))


def test_one_bit_images_are_black_and_white(halves: Image.Image, encode: Encode) -> None:
    assert set(np.unique(decode(encode(halves.convert("1"), "PNG"), LIMITS).pixels)) <= {0, 255}


def test_sixteen_bits_are_scaled_not_clipped(encode: Encode) -> None:
    ramp = np.tile(np.linspace(0, 65535, 64, dtype=np.uint16), (48, 1))
    pixels = decode(encode(Image.fromarray(ramp), "PNG"), LIMITS).pixels
    assert np.abs(pixels[0, :, 0].astype(int) - ramp[0] // 256).max() <= 1


def test_sixteen_bits_a_channel_keep_their_colours() -> None:
    pixel = struct.pack(">HHH", 200 * 257, 30 * 257, 30 * 257)
    rows = b"".join(b"\0" + pixel * 32 for _ in range(32))

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 32, 32, 16, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert np.abs(decode(png, LIMITS).pixels[5, 5].astype(int) - (30, 30, 200)).max() <= 1


def test_transparency_is_shown_on_white(encode: Encode) -> None:
    image = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    image.paste((10, 20, 30, 255), (0, 0, 16, 32))
    pixels = decode(encode(image, "PNG"), LIMITS).pixels
    assert pixels[10, 25].tolist() == [255, 255, 255]
    assert pixels[10, 5].tolist() == [30, 20, 10]


def test_transparent_palette_colour_is_shown_on_white(encode: Encode) -> None:
    image = Image.new("P", (32, 32), 0)
    image.putpalette([0, 0, 0, 250, 0, 0])
    assert decode(encode(image, "GIF", transparency=0), LIMITS).pixels[10, 10].tolist() == [255, 255, 255]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(orientation: int, kind: str, halves: Image.Image, encode: Encode) -> None:
    """Two corners tell the eight apart: the left half is red, and the upper part of it darker."""
    halves.paste((100, 10, 10), (0, 0, 32, 12))
    # Store the picture as a camera would that was held so: the inverse of what the tag tells to do.
    inverse = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]  # fmt: skip
    stored = halves if inverse is None else halves.transpose(inverse)
    exif = Image.Exif()
    exif[0x0112] = orientation
    if kind == "HEIF":
        pillow_heif.register_heif_opener()
    picture = decode(encode(stored, kind, exif=exif.tobytes() if kind == "HEIF" else exif), LIMITS)
    assert_red_left_blue_right(picture, tolerance=25)
    assert np.abs(picture.pixels[4, 8].astype(int) - (10, 10, 100)).max() <= 25


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_broken_exif_does_not_spoil_the_picture(exif: bytes, halves: Image.Image, encode: Encode) -> None:
    assert_red_left_blue_right(decode(encode(halves, "JPEG", exif=exif), LIMITS))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "AVIF"])
def test_an_animation_gives_its_first_frame(kind: str, halves: Image.Image, encode: Encode) -> None:
    green = Image.new("RGB", halves.size, "green")
    assert_red_left_blue_right(decode(encode(halves, kind, save_all=True, append_images=[green]), LIMITS), tolerance=25)


def test_a_large_jpeg_is_decoded_reduced_and_keeps_its_size(halves: Image.Image, encode: Encode) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = decode(encode(halves.resize((4032, 3024)), "JPEG", exif=exif), LIMITS)
    assert (picture.width, picture.height) == (3024, 4032)
    assert 1024 <= max(picture.pixels.shape) < 2048
    assert picture.scale == pytest.approx(3024 / picture.pixels.shape[1])


def test_an_empty_body_is_undecodable() -> None:
    with pytest.raises(UndecodableImage, match="empty"):
        decode(b"", LIMITS)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIF", "AVIF"])
def test_half_a_file_is_undecodable(kind: str, scene: Image.Image, encode: Encode) -> None:
    pillow_heif.register_heif_opener()
    data = encode(scene, kind)
    with pytest.raises(UndecodableImage):
        decode(data[: len(data) // 2], LIMITS)


def test_a_broken_header_is_undecodable() -> None:
    with pytest.raises(UndecodableImage, match="header"):
        decode(b"\xff\xd8\xff" + b"\0" * 100, LIMITS)


@pytest.mark.parametrize("data", [b"not a picture, whatever its name says\n" * 9, b"%PDF-1.7", b"<svg/>", b"\0"])
def test_what_is_no_image_is_unsupported_and_told_what_is_read(data: bytes) -> None:
    with pytest.raises(UnsupportedImage, match=r"JPEG, PNG, WebP, GIF \(first frame\), BMP, TIFF, HEIC and AVIF"):
        decode(data, LIMITS)


def test_thirty_two_bit_samples_are_unsupported(encode: Encode) -> None:
    image = Image.fromarray(np.zeros((32, 32), np.float32))
    with pytest.raises(UnsupportedImage, match="32-bit"):
        decode(encode(image, "TIFF"), LIMITS)


@pytest.mark.parametrize("size", [(60_000, 60_000), (30_000, 10), (10, 30_000), (8_000, 8_000)])
def test_a_header_beyond_the_limits_is_refused_before_decoding(size: tuple[int, int]) -> None:
    header = struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(header)) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    empty = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    with pytest.raises(ImageTooLarge, match="smaller"):
        decode(b"\x89PNG\r\n\x1a\n" + chunk + empty, LIMITS)


@pytest.mark.parametrize("size", [(1, 1), (15, 200), (200, 15)])
def test_an_image_without_room_for_a_face_is_too_small(size: tuple[int, int], encode: Encode) -> None:
    with pytest.raises(ImageTooSmall, match=f"{size[0]}x{size[1]}"):
        decode(encode(Image.new("RGB", size), "PNG"), LIMITS)


def test_bytes_after_the_image_do_not_matter(halves: Image.Image, encode: Encode) -> None:
    assert_red_left_blue_right(decode(encode(halves, "JPEG") + b"trailing bytes of a camera", LIMITS))


def test_random_damage_never_raises_anything_else(scene: Image.Image, encode: Encode) -> None:
    rng = np.random.default_rng(1)
    pillow_heif.register_heif_opener()
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIF", "AVIF"):
        whole = np.frombuffer(encode(scene.resize((96, 72)), kind), np.uint8)
        for _ in range(40):
            damaged = whole.copy()
            damaged[rng.integers(0, len(damaged), 12)] = rng.integers(0, 256, 12)
            try:
                picture = decode(damaged.tobytes(), LIMITS)
            except (UndecodableImage, UnsupportedImage, ImageTooLarge, ImageTooSmall):
                continue
            assert picture.pixels.dtype == np.uint8


def test_strange_exif_beside_the_orientation_does_not_matter(halves: Image.Image, encode: Encode) -> None:
    """Tags that cannot be written back: Pillow's own way of turning a picture writes them back."""
    turned = halves.transpose(Image.Transpose.ROTATE_90)
    rng = np.random.default_rng(0)
    for _ in range(60):
        exif = Image.Exif()
        exif[0x0112] = 6
        exif[0x829A], exif[0x9003], exif[0x8825] = (1, 30), "2026:01:01", {1: "N"}
        block = bytearray(exif.tobytes())
        for place in rng.integers(24, len(block), 3):  # behind the orientation, which comes first
            block[place] = rng.integers(256)
        picture = decode(encode(turned, "JPEG", exif=bytes(block)), LIMITS)
        assert {picture.width, picture.height} == {64, 48}


def test_large_pictures_of_every_mode_are_reduced_and_keep_their_look(scene: Image.Image, encode: Encode) -> None:
    large = scene.resize((2560, 1920))
    expected = np.asarray(scene.convert("L")).astype(int)
    for mode in ("RGB", "RGBA", "L", "LA", "P", "CMYK", "I;16"):
        image = (
            Image.fromarray(np.asarray(large.convert("L")).astype(np.uint16) * 257)
            if mode == "I;16"
            else large.convert(mode)
        )
        picture = decode(encode(image, "TIFF" if mode == "CMYK" else "PNG"), LIMITS)
        assert (picture.width, picture.height) == (2560, 1920), mode
        assert 1024 <= max(picture.pixels.shape) < 2048, mode
        small = cv2.resize(cv2.cvtColor(picture.pixels, cv2.COLOR_BGR2GRAY), (640, 480), interpolation=cv2.INTER_AREA)
        assert np.abs(small - expected).mean() < 6, mode


def test_a_large_picture_costs_little_more_than_itself() -> None:
    """Of a flat 40-megapixel PNG, which is small as a file, no more than a few bytes a pixel are ever in memory."""
    program = """
import io, resource
from PIL import Image
from shared.pipeline.decode import decode
from shared.pictures import ImageLimits
buffer = io.BytesIO()
Image.new("RGBA", (8000, 5000), (9, 9, 9, 128)).save(buffer, "PNG")
del Image
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
decode(buffer.getvalue(), ImageLimits())
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 40e6)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 8


def test_a_jpeg_of_endless_scans_is_refused(scene: Image.Image, encode: Encode) -> None:
    progressive = encode(scene, "JPEG", progressive=True)
    last = progressive.rindex(b"\xff\xda")
    scan = progressive[last:-2]
    with pytest.raises(UndecodableImage, match="scans"):
        decode(progressive[:-2] + scan * 120 + b"\xff\xd9", LIMITS)
    assert decode(progressive, LIMITS).width == 640
    # What cameras put behind the picture, a film for example, holds such bytes by chance.
    assert decode(progressive + b"\xff\xda" * 500, LIMITS).width == 640


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"\0\0\0\x18ftypisom\0\0\0\0", "a video"),
        (b"%PDF-1.7", "a PDF"),
        (b"/9j/4AAQSkZJRgABAQ", "this is base64|it is base64"),
        (b"data:image/png;base64,iVBORw0KGgo", "base64"),
        (b'{"image": "iVBORw0KGgoAAAA"}', "base64"),
        (b"image=%2F9j%2F4AAQ", "base64"),
    ],
)
def test_what_people_send_for_an_image_is_named(data: bytes, named: str) -> None:
    with pytest.raises(UnsupportedImage, match=named):
        decode(data, LIMITS)


def test_the_kinds_that_are_read_can_be_narrowed(halves: Image.Image, encode: Encode) -> None:
    narrow = ImageLimits(kinds=("JPEG", "PNG"))
    assert decode(encode(halves, "PNG"), narrow).width == 64
    with pytest.raises(UnsupportedImage, match=r"\(WebP\)\. Supported: JPEG and PNG"):
        decode(encode(halves, "WEBP"), narrow)


def test_a_long_strip_is_read_at_a_small_search_size(encode: Encode) -> None:
    strip = encode(Image.new("RGB", (16_384, 20), "gray"), "JPEG")
    assert decode(strip, ImageLimits(target_side_px=512)).width == 16_384
