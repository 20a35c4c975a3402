"""Encoded bytes in, an upright picture out."""

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from shared.errors import (
    ImageError,
    ImageTooLarge,
    ImageTooSmall,
    OutOfMemory,
    UndecodableImage,
    UnsupportedImage,
)
from shared.pictures import BgrImage, ImageLimits
from shared.pipeline.formats.encoded import Encoded, Kind
from shared.pipeline.formats.heif import open_avif, open_heif
from shared.pipeline.formats.read import read_header

MIN_SIDE_PX: Final = 16  # below this no face has a readable expression

_BGR_BYTES: Final = 3  # per pixel
_BAND_ROWS: Final = 64  # pictures are converted a band at a time, so that no second copy of a large one is made
# EXIF orientations: 5 to 8 swap rows and columns, then these directions are reversed.
_FLIPS: Final = {
    1: (), 2: ("right",), 3: ("right", "down"), 4: ("down",), 5: (), 6: ("right",), 7: ("right", "down"), 8: ("down",),
}  # fmt: skip


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


def decode(data: bytes, limits: ImageLimits, reserve: Callable[[int], None] = lambda _: None) -> Picture:
    """The picture in `data` as displayed: EXIF orientation applied, transparency on white, 8 bits per channel.

    Animations give their first frame. The size is checked against `limits` from the header, before decoding; then
    `reserve` is called with the bytes of memory that decoding takes, and may wait for them or raise.

    Raises UndecodableImage, UnsupportedImage, ImageTooLarge, ImageTooSmall or OutOfMemory.
    """
    encoded = _checked_header(data, limits)
    reserve(memory_bytes(encoded, limits))
    try:
        pixels = _DECODERS.get(encoded.kind, _by_pillow)(encoded, limits)
    except ImageError:
        raise
    except MemoryError as error:
        raise OutOfMemory("There is too little memory for this image right now.") from error
    except Exception as error:  # decoders raise many types on broken bytes
        raise UndecodableImage(f"The {encoded.kind} image is truncated or corrupt: {error}.") from error
    turned = encoded.orientation >= 5  # by 90 degrees
    width, height = (encoded.height, encoded.width) if turned else (encoded.width, encoded.height)
    return Picture(_upright(pixels, encoded.orientation), width, height)


def memory_to_draw_on(data: bytes, limits: ImageLimits, encoder_bytes_per_pixel: int) -> int:
    """The most memory that it takes to decode an image at full size and then to encode it again. Raises as `decode` does."""
    encoded = _checked_header(data, limits)
    whole = replace(limits, target_side_px=limits.max_side_px)
    drawing = encoded.pixels * (_BGR_BYTES + encoder_bytes_per_pixel)
    return max(memory_bytes(encoded, whole), drawing + len(encoded.data))


def memory_bytes(encoded: Encoded, limits: ImageLimits) -> int:
    """The most memory that decoding takes, known from the file's header."""
    draft = _draft(encoded, limits)
    width, height = -(-encoded.width // draft), -(-encoded.height // draft)
    decoded, reduced = width * height, width * height // max(1, max(width, height) // limits.target_side_px) ** 2
    # The decoder's own picture and the one made of it: at full size as BGR, and by the time it is turned the decoder's is
    # gone; a reduced one also as Pillow has it, and turned. A band in four forms. The file, its copy without metadata, tables.
    pixels = decoded * encoded.bytes_per_pixel + reduced * (_BGR_BYTES if reduced == decoded else 2 * _BGR_BYTES + 4)
    bands = 4 * 4 * _BAND_ROWS * width
    return pixels + bands + encoded.coefficients_bytes + 2 * len(encoded.data) + 2**22


def _checked_header(data: bytes, limits: ImageLimits) -> Encoded:
    encoded = read_header(data, limits.kinds)
    _check_size(encoded, limits)
    return encoded


def _reduction(encoded: Encoded, limits: ImageLimits) -> int:
    return max(1, max(encoded.width, encoded.height) // limits.target_side_px)


def _draft(encoded: Encoded, limits: ImageLimits) -> int:
    """JPEGs are decoded at a half, a quarter or an eighth of their size."""
    reduction = _reduction(encoded, limits)
    return next(scale for scale in (8, 4, 2, 1) if scale <= reduction) if encoded.kind == "JPEG" else 1


def _check_size(encoded: Encoded, limits: ImageLimits) -> None:
    width, height = encoded.width, encoded.height
    if width * height > limits.max_pixels or max(width, height) > limits.max_side_px:
        raise ImageTooLarge(
            f"The image is {width}x{height}, {width * height:,} pixels; the limit is {limits.max_pixels:,} pixels and "
            f"{limits.max_side_px:,} per side. Send a smaller one."
        )
    if min(width, height) < MIN_SIDE_PX:
        raise ImageTooSmall(
            f"The image is {width}x{height} pixels; at least {MIN_SIDE_PX}x{MIN_SIDE_PX} are needed. Send a larger one."
        )


def _jpeg(encoded: Encoded, limits: ImageLimits) -> BgrImage:
    """By libjpeg-turbo, straight to BGR: the same pixels as Pillow's. Pillow gets what it is not at ease with."""
    draft = _draft(encoded, limits)
    height, width = -(-encoded.height // draft), -(-encoded.width // draft)
    try:
        pixels = simplejpeg.decode_jpeg(encoded.data, "BGR", min_height=height, min_width=width)
    except ValueError:  # CMYK, or damaged: Pillow says how badly
        return _by_pillow(encoded, limits)
    if pixels.shape != (height, width, 3):
        return _by_pillow(encoded, limits)
    return _shrunk(pixels, limits.target_side_px)


def _by_pillow(encoded: Encoded, limits: ImageLimits) -> BgrImage:
    with Image.open(io.BytesIO(encoded.data), formats=[encoded.kind]) as image:
        return _loaded(image, encoded, limits)


def _avif(encoded: Encoded, limits: ImageLimits) -> BgrImage:
    with open_avif(encoded.data) as image:
        return _loaded(image, encoded, limits)


def _loaded(image: Image.Image, encoded: Encoded, limits: ImageLimits) -> BgrImage:
    if image.size != (encoded.width, encoded.height):
        raise UndecodableImage(f"The {encoded.kind} image has two conflicting sizes in its header.")
    draft = _draft(encoded, limits)
    image.draft(None, (image.width // draft, image.height // draft))
    image.load()
    return _as_bgr(_reduced(image, limits.target_side_px))


def _webp(encoded: Encoded, limits: ImageLimits) -> BgrImage:
    """By OpenCV, which takes half of the memory that Pillow takes for a WebP."""
    pixels = cv2.imdecode(np.frombuffer(encoded.data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.shape[:2] != (encoded.height, encoded.width):
        raise UndecodableImage("The WebP image is truncated or corrupt.")
    return _shrunk(np.asarray(pixels, np.uint8), limits.target_side_px)


def _heif(encoded: Encoded, limits: ImageLimits) -> BgrImage:
    file = open_heif(encoded.data)
    pixels = np.asarray(file)
    if pixels.dtype != np.uint8 or pixels.shape[0] != encoded.height or pixels.shape[1] < encoded.width:
        raise UnsupportedImage(f"The HEIC image is stored in a way that is not supported ({file.mode}).")
    return _shrunk(pixels[:, : encoded.width], limits.target_side_px)


def _shrunk(pixels: npt.NDArray[np.uint8], target_side_px: int) -> BgrImage:
    """Grey, BGR or BGRA (H, W[, C]) as BGR on white, reduced by averaging where it is larger than needed."""
    reduction = max(pixels.shape[:2]) // target_side_px
    if reduction > 1:
        size = (-(-pixels.shape[1] // reduction), -(-pixels.shape[0] // reduction))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    if pixels.ndim == 2:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR), np.uint8)
    if pixels.shape[2] == 3:
        return pixels
    shown = np.empty((*pixels.shape[:2], 3), np.uint8)
    for top in range(0, len(pixels), _BAND_ROWS):
        band = pixels[top : top + _BAND_ROWS]
        alpha = band[..., 3:].astype(np.uint16)
        shown[top : top + _BAND_ROWS] = (band[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255
    return shown


_DECODERS: Final[dict[Kind, Callable[[Encoded, ImageLimits], BgrImage]]] = {
    "JPEG": _jpeg,
    "WEBP": _webp,
    "HEIC": _heif,
    "AVIF": _avif,
}


def _reduced(image: Image.Image, target_side_px: int) -> Image.Image:
    """`image` in a mode that converts to BGR, reduced by averaging squares of whole pixels where it is larger than needed.

    Large pictures are reduced first of all: every copy of 50 million pixels is 200 MB.
    """
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips 16-bit grey to white instead of scaling it.
        image = Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise UnsupportedImage("The image has 32-bit samples; 8 and 16 bits are supported.")
    if image.mode in ("1", "P", "PA") or (image.has_transparency_data and image.mode not in ("RGBA", "LA")):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    reduction = max(image.size) // target_side_px
    return image.reduce(reduction) if reduction > 1 else image


def _as_bgr(image: Image.Image) -> BgrImage:
    bgr = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _BAND_ROWS):
        band = image.crop((0, top, image.width, min(top + _BAND_ROWS, image.height)))
        if band.has_transparency_data:
            canvas = Image.new("RGB", band.size, "white")
            canvas.paste(band, mask=band.getchannel("A"))
            band = canvas
        rgb = band if band.mode == "RGB" else band.convert("RGB")
        cv2.cvtColor(np.asarray(rgb), cv2.COLOR_RGB2BGR, dst=bgr[top : top + _BAND_ROWS])
    return bgr


def _upright(pixels: BgrImage, orientation: int) -> BgrImage:
    """Turn the picture upright, as EXIF says the camera was held."""
    turned = pixels.transpose(1, 0, 2) if orientation >= 5 else pixels
    flips = _FLIPS[orientation]
    return np.ascontiguousarray(turned[:: -1 if "down" in flips else 1, :: -1 if "right" in flips else 1])
