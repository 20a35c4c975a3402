"""Reads the images of a request, in each form a client may send. Nothing is ever written to disk."""

import asyncio
from dataclasses import dataclass
from typing import Final

from fastapi import Request
from starlette.requests import ClientDisconnect

from services.api.budget import Held
from services.api.faults import InvalidForm, MissingImage, PayloadTooLarge, SlowUpload, UnsupportedForm
from services.api.forms import Part, base64_of, parse_form
from services.api.service import Image, Service
from shared.pipeline.formats.base64 import looks_like_base64

FIELD: Final = "file"
FILES: Final = "files"  # of /predict/batch, repeated
_FORM_OVERHEAD_BYTES: Final = 4096  # boundaries and headers around a file of a form
# In shares of the time that an upload may take: a client that sends nothing for so long is dropped; and after so long an
# upload must have arrived at this rate, a tenth of a bad mobile connection's.
_PAUSE: Final = 1 / 6
_GRACE: Final = 1 / 12
_MIN_BYTES_PER_S: Final = 1000


@dataclass(frozen=True, slots=True)
class _Limit:
    """Maximum bytes of the images, and of the body that carries them."""

    images: int
    body: int


async def image_of(request: Request, service: Service, held: Held) -> Image:
    """The encoded image in `request`; `held` takes what it needs of the service's memory budget.

    A body that is neither a form nor JSON is the image itself, whatever its Content-Type. Raises PayloadTooLarge,
    SlowUpload, Overloaded, BadForm or MissingImage; before the body is read, if that is known.
    """
    most, kind = service.settings.max_upload_bytes, _kind(request.headers.get("content-type", ""))
    overhead = 0
    if kind == "multipart/form-data":
        overhead = _FORM_OVERHEAD_BYTES
    elif kind == "application/json":
        overhead = most // 3 + _FORM_OVERHEAD_BYTES
    body = await _body(request, service, _Limit(most, most + overhead), held)
    return image_in(body, request.headers.get("content-type", ""), most)


def image_in(body: bytes, content_type: str, most: int) -> Image:
    """The encoded image in a body, of at most `most` bytes. Raises PayloadTooLarge, BadForm or MissingImage."""
    kind = _kind(content_type)
    if kind == "multipart/form-data":
        return Image(_bounded(_file_of(parse_form(body, content_type, max_files=1)), most))
    if kind != "application/json":
        return Image(body)
    text = base64_of(body)
    if _decoded_bytes(text) > most:  # perhaps only by its line breaks
        text = text.translate(None, b" \t\r\n")
    if _decoded_bytes(text) > most:
        raise _too_large(most, _decoded_bytes(text))
    return Image(text, base64=True)


async def images_of(request: Request, service: Service, held: Held) -> list[tuple[str, bytes]]:
    """Name and content of each file in the repeated field `files` of a form; together at most the size of four images.

    Raises as image_of does, and UnsupportedForm when the body is not a form.
    """
    settings = service.settings
    if _kind(request.headers.get("content-type", "")) != "multipart/form-data":
        raise UnsupportedForm(f"Send the images as multipart/form-data, in the repeated field '{FILES}'.")
    most = 4 * settings.max_upload_bytes
    limit = _Limit(most, most + _FORM_OVERHEAD_BYTES * settings.max_batch_files)
    body = await _body(request, service, limit, held)
    parts = parse_form(body, request.headers["content-type"], settings.max_batch_files)
    fields = [part for part in parts if part.name == FILES]
    uploads = [(part.filename, part.content) for part in fields if part.filename is not None]
    if not uploads:
        raise MissingImage(f"The form has no files in the field '{FILES}'; {_names(parts)}.")
    if len(uploads) < len(fields):
        raise InvalidForm(f"{len(fields) - len(uploads)} of the {len(fields)} fields '{FILES}' are text, not files.")
    return uploads


def _file_of(parts: list[Part]) -> bytes:
    part = next((part for part in parts if part.name == FIELD), None)
    if part is None:
        raise MissingImage(f"The form has no field '{FIELD}'; {_names(parts)}.")
    if part.filename is None and looks_like_base64(part.content):
        raise MissingImage(f"The field '{FIELD}' is text, and this is base64: send JSON or the bytes.")
    if part.filename is None:
        raise MissingImage(f"The field '{FIELD}' is text, not a file; with curl, use -F {FIELD}=@photo.jpg.")
    return part.content


async def _body(request: Request, service: Service, limit: _Limit, held: Held) -> bytes:
    """The body. Raises PayloadTooLarge above `limit`, Overloaded when memory runs out, SlowUpload for one that trickles."""
    service.check_room(_announced(request, limit))
    loop, pieces, received = asyncio.get_running_loop(), list[bytes](), 0
    timeout_s = service.settings.upload_timeout_s
    started, more = loop.time(), True
    while more:
        piece, more = await _piece(request, timeout_s * _PAUSE)
        received += len(piece)
        if received > limit.body:
            raise _too_large(limit.images)
        held.grow(len(piece))
        pieces.append(piece)
        taken = loop.time() - started
        if taken > timeout_s or (taken > timeout_s * _GRACE and received < _MIN_BYTES_PER_S * taken):
            raise SlowUpload(f"The upload is too slow: {received:,} bytes arrived in {taken:.1f} s.")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def _piece(request: Request, pause_s: float) -> tuple[bytes, bool]:
    """The next piece of the body, and whether more may follow. Raises SlowUpload, or ClientDisconnect."""
    try:
        async with asyncio.timeout(pause_s):
            message = await request.receive()
    except TimeoutError:
        raise SlowUpload(f"The upload stalled: nothing arrived for {pause_s:g} s.") from None
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message.get("body", b""), message.get("more_body", False)


def _announced(request: Request, limit: _Limit) -> int:
    """The request's Content-Length, 0 without one. Raises PayloadTooLarge above `limit`."""
    announced = request.headers.get("content-length", "")
    size = int(announced) if announced.isdecimal() and len(announced) < 20 else 0
    if size > limit.body:
        raise _too_large(limit.images, size)
    return size


def _bounded(data: bytes, limit: int) -> bytes:
    if len(data) > limit:
        raise _too_large(limit, len(data))
    return data


def _decoded_bytes(base64: bytes) -> int:
    """The size of what base64 without line breaks encodes."""
    return len(base64) * 3 // 4 - base64[-2:].count(b"=")


def _too_large(limit: int, size: int | None = None) -> PayloadTooLarge:
    sent = f"The upload is {in_bytes(size)}" if size else "The upload is too large"
    return PayloadTooLarge(f"{sent}; at most {in_bytes(limit)} are allowed. Send a smaller image, or fewer at once.")


def in_bytes(size: int) -> str:
    """A size as people read it: 9,000 bytes, 11.2 MB."""
    return f"{size:,} bytes" if size < 1_000_000 else f"{size / 1e6:.1f} MB".replace(".0 ", " ")


def _names(parts: list[Part]) -> str:
    return f"its fields: {', '.join(repr(part.name[:100]) for part in parts) or 'none'}"


def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()
