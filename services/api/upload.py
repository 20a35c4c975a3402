"""The images of a request, in the forms that a client may send them. Nothing of them is ever written to disk."""

import asyncio
import base64
import binascii
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Final

import anyio.to_thread
from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser

from services.api.errors import BadForm, MissingImage, PayloadTooLarge, SlowUpload, UnsupportedForm
from services.api.service import Service

FIELD: Final = "file"
FILES: Final = "files"  # of /predict/batch, repeated
_FRAMING: Final = 4096  # bytes of boundaries and headers around the files of a form
_CHUNK_WITHIN_S: Final = 30.0  # a client that sends nothing for so long is given up
_FORMS: Final = (
    f"Send multipart/form-data with the field '{FIELD}', or the image itself as the body, "
    'or application/json {"image": "<base64 or data URI>"}.'
)


class ImageJson(BaseModel):
    """An image in JSON."""

    model_config = ConfigDict(extra="forbid")

    image: Annotated[str, Field(description="The file in base64, or a data URI.")]


@asynccontextmanager
async def image_of(request: Request, service: Service) -> AsyncIterator[bytes]:
    """The encoded image that `request` carries, with room held for it as long as the block lasts.

    A body that is neither a form nor JSON is taken as the image itself: what it is, its bytes tell. Raises
    PayloadTooLarge, SlowUpload, Overloaded, or BadForm or MissingImage for a body that is not what its type says.
    """
    most, kind = service.settings.max_upload_bytes, _kind(request)
    if kind == "multipart/form-data":
        async with _form(request, service, most + _FRAMING, max_files=1) as form:
            yield _bounded(await _file_of(form), most)
    elif kind == "application/json":
        async with _body(request, service, most * 4 // 3 + _FRAMING) as body:
            yield _bounded(await anyio.to_thread.run_sync(_from_json, body), most)
    else:
        async with _body(request, service, most) as body:
            yield body


@asynccontextmanager
async def images_of(request: Request, service: Service) -> AsyncIterator[list[tuple[str, bytes]]]:
    """Name and content of each file of a form with the repeated field `files`; together as large as four images.

    Raises as image_of does, and UnsupportedForm for another body than a form.
    """
    settings = service.settings
    if _kind(request) != "multipart/form-data":
        raise UnsupportedForm(f"Many images are sent as multipart/form-data with the repeated field '{FILES}'.")
    limit = 4 * settings.max_upload_bytes + _FRAMING * settings.max_batch_files
    async with _form(request, service, limit, settings.max_batch_files) as form:
        uploads = [upload for upload in form.getlist(FILES) if not isinstance(upload, str)]
        if not uploads:
            raise MissingImage(f"The form has no files in the field '{FILES}' {_fields(form)}.")
        yield [(upload.filename or "", await upload.read()) for upload in uploads]


async def _file_of(form: FormData) -> bytes:
    upload = form.get(FIELD)
    if isinstance(upload, str):
        raise MissingImage(f"The field '{FIELD}' is text, not a file; with curl write -F {FIELD}=@photo.jpg.")
    if upload is None:
        raise MissingImage(f"The form has no field '{FIELD}' {_fields(form)}; name the field of the image '{FIELD}'.")
    return await upload.read()


@asynccontextmanager
async def _form(request: Request, service: Service, limit: int, max_files: int) -> AsyncIterator[FormData]:
    with service.upload(_announced(request, limit)):
        parser = MultiPartParser(request.headers, _limited(request, limit), max_files=max_files, max_fields=8)
        parser.spool_max_size = limit + 1  # an upload stays in memory
        try:
            form = await parser.parse()
        except MultiPartException as error:
            many = f" At most {max_files}." + (" /predict/batch takes many." if max_files == 1 else "")
            hint = many if "Too many files" in error.message else ""
            raise BadForm(f"The multipart body cannot be read: {error.message}{hint}") from error
        except KeyError as error:  # no boundary in the Content-Type
            raise BadForm("The multipart body names no boundary: let your client set the Content-Type.") from error
        try:
            yield form
        finally:
            await form.close()


@asynccontextmanager
async def _body(request: Request, service: Service, limit: int) -> AsyncIterator[bytes]:
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
        raise BadForm("'image' is an address; the service fetches nothing. Send the file itself in base64.")
    if text.startswith("data:"):
        head, _, text = text.partition(",")
        if not head.endswith(";base64"):
            raise BadForm("The data URI is not base64; it must begin data:image/...;base64,")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadForm(f"'image' is not base64: {error}.") from error


async def _limited(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    """The body's chunks; more than `limit` bytes raise PayloadTooLarge, and a pause that is too long SlowUpload."""
    stream, received = request.stream(), 0
    while True:
        try:
            async with asyncio.timeout(_CHUNK_WITHIN_S):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise SlowUpload(f"Nothing came for {_CHUNK_WITHIN_S:.0f} s.") from None
        received += len(chunk)
        if received > limit:
            raise _too_large()
        yield chunk


def _announced(request: Request, limit: int) -> int:
    """The length that the request announces, `limit` where it announces none. Raises PayloadTooLarge beyond `limit`."""
    announced = request.headers.get("content-length", "")
    size = int(announced) if announced.isdigit() else limit
    if size > limit:
        raise _too_large()
    return size


def _bounded(data: bytes, limit: int) -> bytes:
    if len(data) > limit:
        raise _too_large()
    return data


def _too_large() -> PayloadTooLarge:
    return PayloadTooLarge(
        "More bytes than are taken: an image may have MIEN_MAX_UPLOAD_BYTES, the images of a batch together four times "
        "that. Send a smaller image, or fewer at once."
    )


def _fields(form: FormData) -> str:
    return f"(there are: {', '.join(repr(name) for name in form) or 'none'})"


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
