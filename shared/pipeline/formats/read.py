"""From the bytes of a file to what its header says: finds out its kind, and calls the reader of that kind."""

from collections.abc import Callable, Collection
from typing import Final

from shared.errors import ImageError, OutOfMemory, UndecodableImage, UnsupportedImage
from shared.pipeline.formats.base64 import looks_like_base64
from shared.pipeline.formats.bmp import read_bmp
from shared.pipeline.formats.encoded import KINDS, Encoded, Kind
from shared.pipeline.formats.gif import read_gif
from shared.pipeline.formats.heif import read_avif, read_heif
from shared.pipeline.formats.jpeg import read_jpeg
from shared.pipeline.formats.png import read_png
from shared.pipeline.formats.tiff import read_tiff
from shared.pipeline.formats.webp import read_webp

_NAMES: Final[dict[Kind, str]] = {
    "JPEG": "JPEG", "PNG": "PNG", "WEBP": "WebP", "GIF": "GIF (first frame)", "BMP": "BMP", "TIFF": "TIFF",
    "HEIC": "HEIC", "AVIF": "AVIF",
}  # fmt: skip
_READERS: Final[dict[Kind, Callable[[bytes], Encoded]]] = {
    "JPEG": read_jpeg, "PNG": read_png, "WEBP": read_webp, "GIF": read_gif, "BMP": read_bmp, "TIFF": read_tiff,
    "HEIC": read_heif, "AVIF": read_avif,
}  # fmt: skip
_MAGIC: Final[dict[bytes, Kind]] = {
    b"\xff\xd8": "JPEG", b"\x89PNG": "PNG", b"GIF87a": "GIF", b"GIF89a": "GIF", b"BM": "BMP", b"II*\0": "TIFF",
    b"MM\0*": "TIFF", b"II+\0": "TIFF", b"MM\0+": "TIFF",
}  # fmt: skip
_HEIF_BRANDS: Final = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}
_AVIF_BRANDS: Final = {b"avif", b"avis"}
# What people send instead of an image, by how it begins.
_FOREIGN: Final = {
    b"%PDF": "a PDF", b"<svg": "SVG", b"<?xml": "XML", b"\x00\x00\x01\x00": "an icon", b"\x1a\x45\xdf\xa3": "a video",
    b"PK\x03\x04": "an archive", b"\xff\x0a": "JPEG XL", b"\x00\x00\x00\x0cJXL ": "JPEG XL",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000",
}  # fmt: skip


def read_header(data: bytes, kinds: Collection[Kind] = KINDS) -> Encoded:
    """What the header of an encoded image says; no decoder has run yet.

    Raises UndecodableImage for an empty or broken file, UnsupportedImage for one that is not of `kinds`, or OutOfMemory.
    """
    if not data:
        raise UndecodableImage("The image is empty (0 bytes).")
    kind = kind_of(data)
    if kind is None or kind not in kinds:
        what = _NAMES[kind] if kind else _foreign(data)
        raise UnsupportedImage(
            f"This is not a supported image{f' ({what})' if what else ''}. Supported: {_listed(kinds)}."
        )
    try:
        return _READERS[kind](data)
    except ImageError:
        raise
    except MemoryError as error:
        raise OutOfMemory("There is too little memory for this image right now.") from error
    except Exception as error:  # libraries raise many types on broken bytes
        raise UndecodableImage(f"The {kind} image's header is corrupt.") from error


def kind_of(data: bytes) -> Kind | None:
    """The kind of an image file, told by how it begins; None for anything else."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        size = min(int.from_bytes(data[:4], "big"), 256)
        brands = {data[8:12], *(data[at : at + 4] for at in range(16, size, 4))}
        return "AVIF" if brands & _AVIF_BRANDS else "HEIC" if brands & _HEIF_BRANDS else None
    return next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), None)


def _listed(kinds: Collection[Kind]) -> str:
    names = [_NAMES[kind] for kind in KINDS if kind in kinds]
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1]


def _foreign(data: bytes) -> str:
    if looks_like_base64(data):
        return "it is base64: send JSON or the bytes"
    if data[4:8] == b"ftyp":
        return "a video"
    return next((name for magic, name in _FOREIGN.items() if data.startswith(magic)), "")
