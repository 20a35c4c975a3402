"""Encoded bytes in, an upright picture out."""

import io
import re
from dataclasses import dataclass
from typing import Final, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from shared.errors import ImageTooLarge, ImageTooSmall, UndecodableImage, UnsupportedImage

BgrImage: TypeAlias = npt.NDArray[np.uint8]  # (H, W, 3), OpenCV's channel order
GreyImage: TypeAlias = npt.NDArray[np.uint8]  # (H, W)

FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
READS: Final = "JPEG, PNG, WebP, GIF (first frame), BMP and TIFF"
MIN_SIDE_PX: Final = 16  # below this no face has a readable expression

_MAX_SCANS: Final = 100  # of a progressive JPEG, which has about ten; each costs as much as decoding a picture
_JPEG_MARKER: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # as found between a scan's data and the next segment

# How files of these formats begin. A file that begins like this and cannot be opened is broken, not unsupported.
_MAGIC: Final = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\x00", b"MM\x00*")
# EXIF orientations: 5 to 8 swap rows and columns, then these directions are reversed.
_FLIPS: Final = {
    1: (), 2: ("right",), 3: ("right", "down"), 4: ("down",), 5: (), 6: ("right",), 7: ("right", "down"), 8: ("down",),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """The largest picture that is decoded, and the size at which it is searched for faces."""

    # A 48-megapixel phone photo passes.
    max_pixels: int = 50_000_000
    max_side_px: int = 16_384
    # Pictures are reduced by the largest whole factor that leaves the longer side at least this long: faces are
    # searched at this size, so more pixels cost time and memory and add nothing.
    target_side_px: int = 1024


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded image: `pixels`, possibly reduced, and the size at which the image is displayed."""

    pixels: BgrImage
    width: int
    height: int

    @property
    def scale(self) -> float:
        """Displayed pixels per pixel of `pixels`."""
        return self.width / int(self.pixels.shape[1])


def decode(data: bytes, limits: ImageLimits) -> Picture:
    """The picture in `data` as displayed: EXIF orientation applied, transparency on white, 8 bits per channel.

    Animations give their first frame. The size is checked against `limits` from the header, before decoding.

    Raises UndecodableImage, UnsupportedImage, ImageTooLarge or ImageTooSmall.
    """
    if not data:
        raise UndecodableImage("The image is empty (0 bytes).")
    image = _open(data, limits)
    width, height = image.size
    _check_size(width, height, limits)
    if image.format == "JPEG" and _scans(data) > _MAX_SCANS:
        raise UndecodableImage(f"The JPEG image has more than {_MAX_SCANS} scans.")
    orientation = _orientation(image)
    try:
        reduction = max(1, max(width, height) // limits.target_side_px)
        # JPEGs are decoded at a half, a quarter or an eighth of their size.
        image.draft(None, (max(1, width // reduction), max(1, height // reduction)))
        image.load()
        pixels = _as_bgr(_reduced(image, limits.target_side_px))
    except UnsupportedImage:
        raise
    except Exception as error:  # Pillow's decoders raise many types on broken bytes
        raise UndecodableImage(f"The {image.format} image is truncated or corrupt: {error}.") from error
    if orientation >= 5:  # turned by 90 degrees
        width, height = height, width
    return Picture(_upright(pixels, orientation), width, height)


def _open(data: bytes, limits: ImageLimits) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge(
            f"The image has more than {limits.max_pixels:,} pixels, the limit. Send a smaller one."
        ) from error
    except Exception as error:
        if data.startswith(_MAGIC) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP"):
            raise UndecodableImage("The image's header is corrupt.") from error
        raise UnsupportedImage(f"This is not a supported image{_foreign(data)}. Supported: {READS}.") from error


def _foreign(data: bytes) -> str:
    """The name of a format that people often send and that is not supported."""
    if data[4:8] != b"ftyp":
        return ""
    return " (AVIF)" if data[8:12] == b"avif" else " (HEIC or a video: share photos from an iPhone as JPEG)"


def _check_size(width: int, height: int, limits: ImageLimits) -> None:
    if width * height > limits.max_pixels or max(width, height) > limits.max_side_px:
        raise ImageTooLarge(
            f"The image is {width}x{height}, {width * height:,} pixels; the limit is {limits.max_pixels:,} pixels and "
            f"{limits.max_side_px:,} per side. Send a smaller one."
        )
    if min(width, height) < MIN_SIDE_PX:
        raise ImageTooSmall(
            f"The image is {width}x{height} pixels; at least {MIN_SIDE_PX}x{MIN_SIDE_PX} are needed. Send a larger one."
        )


def _scans(data: bytes) -> int:
    """How many scans a JPEG has; counting stops at one too many."""
    position, scans = 2, 0
    while scans <= _MAX_SCANS and (marker := _JPEG_MARKER.search(data, position)):
        code = marker[0][1]
        if code == 0xD9:  # end of the image; cameras append other data
            break
        scans += code == 0xDA
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return scans


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; a broken EXIF block does not make the picture unreadable."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # as above
        return 1
    return orientation if orientation in range(1, 9) else 1


def _reduced(image: Image.Image, target_side_px: int) -> Image.Image:
    """`image` in a mode that converts to BGR, reduced by averaging squares of whole pixels where it is larger than needed.

    Large pictures are reduced first of all: every copy of 50 million pixels is 200 MB.
    """
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips 16-bit grey to white instead of scaling it.
        image = Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise UnsupportedImage(f"The image has 32-bit samples. Supported: {READS}, of 8 or 16 bits.")
    if image.mode in ("1", "P", "PA") or (image.has_transparency_data and image.mode not in ("RGBA", "LA")):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    reduction = max(image.size) // target_side_px
    return image.reduce(reduction) if reduction > 1 else image


def _as_bgr(image: Image.Image) -> BgrImage:
    if image.has_transparency_data:
        canvas = Image.new("RGB", image.size, "white")
        canvas.paste(image, mask=image.getchannel("A"))
        image = canvas
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    return np.asarray(cv2.cvtColor(np.asarray(rgb), cv2.COLOR_RGB2BGR), np.uint8)


def _upright(pixels: BgrImage, orientation: int) -> BgrImage:
    """Turn the picture upright, as EXIF says the camera was held."""
    turned = pixels.transpose(1, 0, 2) if orientation >= 5 else pixels
    flips = _FLIPS[orientation]
    return np.ascontiguousarray(turned[:: -1 if "down" in flips else 1, :: -1 if "right" in flips else 1])
