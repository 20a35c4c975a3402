"""The kinds of image file that are read, and what is known about one before it is decoded."""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from shared.errors import UndecodableImage

Kind: TypeAlias = Literal["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIC", "AVIF"]
KINDS: Final[tuple[Kind, ...]] = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIC", "AVIF")

# Blocks of metadata, tables and chunks in one file. A real file has dozens, a long PNG a few thousand; reading each costs
# microseconds, so this bounds the time that a header can take.
MAX_BLOCKS: Final = 50_000
# A scan of a progressive JPEG passes over the whole picture. Encoders write about ten of them.
MAX_SCANS: Final = 100
MAX_SCANNED_PIXELS: Final = 1_000_000_000  # scans times pixels: 20 scans of 50 megapixels


@dataclass(frozen=True, slots=True)
class Encoded:
    """One encoded image as its header describes it.

    `data` holds what the picture needs and nothing else: no metadata, no thumbnails, no second picture. `orientation` is
    EXIF's, 1 to 8, and is still to be applied; `width` and `height` are as stored. `coefficients_bytes` is what a
    decoder has to keep beside the pixels, whatever the size at which it decodes.
    """

    kind: Kind
    data: bytes
    width: int
    height: int
    orientation: int = 1
    bytes_per_pixel: int = 4
    coefficients_bytes: int = 0

    @property
    def pixels(self) -> int:
        """Pixels as stored."""
        return self.width * self.height


def bounded(blocks: int, kind: Kind) -> None:
    """Raise UndecodableImage for a file with more blocks than any real one."""
    if blocks > MAX_BLOCKS:
        raise UndecodableImage(f"The {kind} file has more than {MAX_BLOCKS:,} blocks.")


def bounded_scans(scans: int, pixels: int) -> None:
    """Raise UndecodableImage for JPEG data whose scans together pass over more pixels than a real file's do."""
    if scans > MAX_SCANS or scans * pixels > MAX_SCANNED_PIXELS:
        raise UndecodableImage(f"The JPEG image has {scans} scans of {pixels:,} pixels, more than any real image has.")


def cut_short(kind: Kind) -> UndecodableImage:
    """The error for a file that ends too early."""
    return UndecodableImage(f"The {kind} image is truncated or corrupt.")
