"""Encoded bytes in, an upright picture out."""

import io
from dataclasses import dataclass
from typing import Final, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps

from shared.errors import ImageTooLarge, ImageTooSmall, UndecodableImage, UnsupportedImage

BgrImage: TypeAlias = npt.NDArray[np.uint8]  # (H, W, 3), OpenCV's channel order
GrayImage: TypeAlias = npt.NDArray[np.uint8]  # (H, W)

FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
READS: Final = "JPEG, PNG, WebP, GIF (first frame), BMP and TIFF"
MIN_SIDE_PX: Final = 16  # below this no face has a readable expression

# How files of these kinds begin. A file that begins so and cannot be opened is broken, not foreign.
_BEGINNINGS: Final = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\x00", b"MM\x00*")


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """The largest picture that is decoded, and the size up to which detail is of use."""

    # A 48-megapixel phone photo passes; decoding takes about 7 bytes a pixel.
    max_pixels: int = 50_000_000
    max_side_px: int = 16_384
    # JPEGs are decoded at half, a quarter or an eighth as long as the longer side keeps this many pixels:
    # faces are searched at this size, so more costs time and shows nothing.
    enough_side_px: int = 1024


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded image: `pixels`, perhaps at reduced size, and the size in which it is displayed."""

    pixels: BgrImage
    width: int
    height: int

    @property
    def scale(self) -> float:
        """Displayed pixels for one of `pixels`."""
        return self.width / int(self.pixels.shape[1])


def decode(data: bytes, limits: ImageLimits) -> Picture:
    """The picture in `data` as displayed: EXIF orientation applied, transparency on white, 8 bits a channel.

    Animations give their first frame. The size is checked against `limits` from the header, before decoding.

    Raises UndecodableImage, UnsupportedImage, ImageTooLarge or ImageTooSmall.
    """
    if not data:
        raise UndecodableImage("The image is empty (0 bytes).")
    image = _open(data, limits)
    width, height = image.size
    _check_size(width, height, limits)
    reduction = max(1, max(image.size) // limits.enough_side_px)
    try:
        image.draft(None, (width // reduction, height // reduction))
        image.load()
    except Exception as error:  # Pillow's decoders raise whatever the broken bytes lead them to
        raise UndecodableImage(f"The {image.format} image is cut short or corrupt: {error}.") from error
    orientation = _orientation(image)
    if orientation >= 5:  # turned by a quarter
        width, height = height, width
    upright = ImageOps.exif_transpose(image) if orientation > 1 else image
    return Picture(_as_bgr(upright), width, height)


def _open(data: bytes, limits: ImageLimits) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge(f"The image has more than {limits.max_pixels} pixels. Send a smaller one.") from error
    except Exception as error:
        if data.startswith(_BEGINNINGS) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP"):
            raise UndecodableImage("The image's header is corrupt.") from error
        raise UnsupportedImage(f"This is not an image that we read. We read {READS}.") from error


def _check_size(width: int, height: int, limits: ImageLimits) -> None:
    if width * height > limits.max_pixels or max(width, height) > limits.max_side_px:
        raise ImageTooLarge(
            f"The image is {width}x{height} pixels; at most {limits.max_pixels} pixels and {limits.max_side_px} "
            "a side are read. Send a smaller one."
        )
    if min(width, height) < MIN_SIDE_PX:
        raise ImageTooSmall(
            f"The image is {width}x{height} pixels; a face needs {MIN_SIDE_PX}x{MIN_SIDE_PX} at least. Send a larger one."
        )


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; a broken EXIF block does not make the picture unreadable."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # as above
        return 1
    return orientation if orientation in range(1, 9) else 1


def _as_bgr(image: Image.Image) -> BgrImage:
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips 16-bit grey to white instead of scaling it.
        grey = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), np.uint8)
    if image.mode in ("I", "F"):
        raise UnsupportedImage(f"The image has 32-bit samples. We read {READS} of 8 or 16 bits.")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        canvas = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(canvas, image)
    return np.asarray(cv2.cvtColor(np.asarray(image.convert("RGB")), cv2.COLOR_RGB2BGR), np.uint8)
