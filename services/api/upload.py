"""Reads the images of a request, in each form a client may send. Nothing is ever written to disk."""

import asyncio
import base64
import binascii
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Final

import anyio.to_thread
from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser

from services.api.faults import BadForm, InvalidForm, MissingImage, PayloadTooLarge, SlowUpload, UnsupportedForm
from services.api.service import Service

FIELD: Final = "file"
FILES: Final = "files"  # of /predict/batch, repeated
_FORM_OVERHEAD_BYTES: Final = 4096  # boundaries and headers around a file of a form
_STALLED_AFTER_S: Final = 30.0  # a client that sends nothing for this long is dropped
_FORMS: Final = (
    f"Send multipart/form-data with the field '{FIELD}', or the image itself as the body, "
    'or application/json {"image": "<base64 or data URI>"}.'
)


@dataclass(frozen=True, slots=True)
class _Limit:
    """Maximum bytes of the images, and of the body that carries them."""

    images: int
    body: int


class ImageJson(BaseModel):
    """An image in JSON."""

    model_config = ConfigDict(extra="forbid")

    image: Annotated[str, Field(description="The file in base64, or a data URI.")]


@asynccontextmanager
async def image_of(request: Request, service: Service) -> AsyncIterator[bytes]:
    """The encoded image in `request`, with upload capacity reserved for it while the block lasts.

    A body that is neither a form nor JSON is the image itself, whatever its Content-Type. Raises PayloadTooLarge,
    SlowUpload, Overloaded, BadForm or MissingImage.
    """
    most, kind = service.settings.max_upload_bytes, _kind(request)
    if kind == "multipart/form-data":
        async with _form(request, service, _Limit(most, most + _FORM_OVERHEAD_BYTES), max_files=1) as form:
            yield _bounded(await _file_of(form), most)
    elif kind == "application/json":
        async with _body(request, service, _Limit(most, most * 4 // 3 + _FORM_OVERHEAD_BYTES)) as body:
            yield _bounded(await anyio.to_thread.run_sync(_from_json, body), most)
    else:
        async with _body(request, service, _Limit(most, most)) as body:
            yield body


@asynccontextmanager
async def images_of(request: Request, service: Service) -> AsyncIterator[list[tuple[str, bytes]]]:
    """Name and content of each file in the repeated field `files` of a form; together at most the size of four images.

    Raises as image_of does, and UnsupportedForm when the body is not a form.
    """
    settings = service.settings
    if _kind(request) != "multipart/form-data":
        raise UnsupportedForm(f"Send the images as multipart/form-data, in the repeated field '{FILES}'.")
    most = 4 * settings.max_upload_bytes
    limit = _Limit(most, most + _FORM_OVERHEAD_BYTES * settings.max_batch_files)
    async with _form(request, service, limit, settings.max_batch_files) as form:
        fields = form.getlist(FILES)
        uploads = [upload for upload in fields if not isinstance(upload, str)]
        if not uploads:
            raise MissingImage(f"The form has no files in the field '{FILES}'; {_fields(form)}.")
        if len(uploads) < len(fields):
            raise InvalidForm(
                f"{len(fields) - len(uploads)} of the {len(fields)} fields '{FILES}' are text, not files."
            )
        yield [(upload.filename or "", await upload.read()) for upload in uploads]


async def _file_of(form: FormData) -> bytes:
    upload = form.get(FIELD)
    if isinstance(upload, str):
        raise MissingImage(f"The field '{FIELD}' is text, not a file; with curl, use -F {FIELD}=@photo.jpg.")
    if upload is None:
        raise MissingImage(f"The form has no field '{FIELD}'; {_fields(form)}.")
    return await upload.read()


@asynccontextmanager
async def _form(request: Request, service: Service, limit: _Limit, max_files: int) -> AsyncIterator[FormData]:
    with service.upload(_announced(request, limit)):
        parser = MultiPartParser(request.headers, _limited(request, limit), max_files=max_files, max_fields=8)
        parser.spool_max_size = limit.body + 1  # an upload stays in memory
        try:
            form = await parser.parse()
        except MultiPartException as error:
            if error.message.startswith("Too many files"):
                hint = " Use /predict/batch for several images." if max_files == 1 else ""
                raise InvalidForm(f"The form has too many files; the limit is {max_files}.{hint}") from error
            raise BadForm(f"The multipart body is invalid: {error.message}") from error
        except KeyError as error:  # no boundary in the Content-Type
            raise BadForm("The Content-Type has no boundary; let your client set it.") from error
        try:
            yield form
        finally:
            await form.close()


@asynccontextmanager
async def _body(request: Request, service: Service, limit: _Limit) -> AsyncIterator[bytes]:
    with service.upload(_announced(request, limit)):
        yield b"".join([chunk async for chunk in _limited(request, limit)])


def _from_json(body: bytes) -> bytes:
    try:
        text = ImageJson.model_validate_json(body).image
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        message = f"{where + ': ' if where else ''}{fault['msg']}. {_FORMS}"
        missing = fault["type"] == "missing" or where == "image"
        raise (MissingImage if missing else BadForm)(message) from error
    if text.startswith(("http://", "https://")):
        raise BadForm("'image' is a URL; the service does not fetch images. Send the file itself in base64.")
    if text.startswith("data:"):
        head, _, text = text.partition(",")
        if not head.endswith(";base64"):
            raise BadForm("The data URI is not base64; it must begin with data:image/...;base64,")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadForm(f"'image' is not base64: {error}.") from error


async def _limited(request: Request, limit: _Limit) -> AsyncGenerator[bytes, None]:
    """The body's chunks. Raises PayloadTooLarge above `limit`, SlowUpload after a long pause."""
    stream, received = request.stream(), 0
    while True:
        try:
            async with asyncio.timeout(_STALLED_AFTER_S):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise SlowUpload(f"The upload stalled: nothing arrived for {_STALLED_AFTER_S:.0f} s.") from None
        received += len(chunk)
        if received > limit.body:
            raise _too_large(limit.images)
        yield chunk


def _announced(request: Request, limit: _Limit) -> int:
    """The request's Content-Length, `limit` without one. Raises PayloadTooLarge above `limit`."""
    announced = request.headers.get("content-length", "")
    size = int(announced) if announced.isdigit() else limit.body
    if size > limit.body:
        raise _too_large(limit.images, size)
    return size


def _bounded(data: bytes, limit: int) -> bytes:
    if len(data) > limit:
        raise _too_large(limit, len(data))
    return data


def _too_large(limit: int, size: int | None = None) -> PayloadTooLarge:
    sent = f"The upload is {in_bytes(size)}" if size else "The upload is too large"
    return PayloadTooLarge(f"{sent}; at most {in_bytes(limit)} are allowed. Send a smaller image, or fewer at once.")


def in_bytes(size: int) -> str:
    """A size as people read it: 9,000 bytes, 11.2 MB."""
    return f"{size:,} bytes" if size < 1_000_000 else f"{size / 1e6:.1f} MB".replace(".0 ", " ")


def _fields(form: FormData) -> str:
    return f"its fields: {', '.join(repr(name) for name in form) or 'none'}"


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
