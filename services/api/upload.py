"""The image of a request, in the three forms that a client may send it."""

import base64
import binascii
from collections.abc import AsyncGenerator
from typing import Annotated, Final

import anyio.to_thread
from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser

from services.api.errors import BadForm, MissingImage, PayloadTooLarge, UnsupportedForm

FIELD: Final = "file"
FILES: Final = "files"  # of /predict/batch, repeated
_FORMS: Final = (
    f"Send multipart/form-data with the field '{FIELD}', or the image itself with its type (image/jpeg, say), "
    'or application/json {"image": "<base64 or data URI>"}.'
)


class ImageJson(BaseModel):
    """An image in JSON."""

    model_config = ConfigDict(extra="forbid")

    image: Annotated[str, Field(description="The file in base64, or a data URI.")]


async def read_image(request: Request, max_bytes: int) -> bytes:
    """The encoded image that `request` carries; nothing of it is ever written to disk.

    Raises PayloadTooLarge beyond `max_bytes` of image, UnsupportedForm for another Content-Type, BadForm or
    MissingImage for a body that is not what its type says.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _from_form(request, max_bytes)
    if kind == "application/json":
        body = await _body(request, max_bytes * 4 // 3 + 1024)
        return await anyio.to_thread.run_sync(_from_json, body, max_bytes)
    if kind.startswith("image/") or kind == "application/octet-stream":
        return await _body(request, max_bytes)
    raise UnsupportedForm(f"A body of type '{kind or 'none'}' carries no image for us. {_FORMS}")


async def read_images(request: Request, max_bytes: int, max_files: int) -> list[tuple[str, bytes]]:
    """Name and content of each file of a form with the repeated field `files`.

    Raises as read_image does: PayloadTooLarge when all together are larger than `max_bytes`.
    """
    form = await _form(request, max_bytes + 1024 * max_files, max_files)
    try:
        uploads = [upload for upload in form.getlist(FILES) if not isinstance(upload, str)]
        if not uploads:
            there = ", ".join(f"'{name}'" for name in form) or "none"
            raise MissingImage(f"The form has no files in the field '{FILES}' (fields: {there}).")
        return [(upload.filename or "", await upload.read()) for upload in uploads]
    finally:
        await form.close()


async def _from_form(request: Request, max_bytes: int) -> bytes:
    form = await _form(request, max_bytes + 4096, max_files=1)
    try:
        upload = form.get(FIELD)
        if upload is None or isinstance(upload, str):
            there = ", ".join(f"'{name}'" for name in form) or "none"
            raise MissingImage(f"The form has no file in the field '{FIELD}' (fields: {there}).")
        return await upload.read()
    finally:
        await form.close()


async def _form(request: Request, limit: int, max_files: int) -> FormData:
    """A multipart form of at most `limit` bytes: the files, and the boundaries and headers between them."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise UnsupportedForm(f"A body of type '{kind or 'none'}' carries no files. Send multipart/form-data.")
    parser = MultiPartParser(request.headers, _limited(request, limit), max_files=max_files, max_fields=8)
    parser.spool_max_size = limit + 1  # an upload stays in memory: nothing is stored
    try:
        return await parser.parse()
    except MultiPartException as error:
        raise BadForm(f"The multipart body cannot be read: {error.message}") from error
    except KeyError as error:  # no boundary in the Content-Type
        raise BadForm("The multipart body names no boundary.") from error


def _from_json(body: bytes, max_bytes: int) -> bytes:
    try:
        text = ImageJson.model_validate_json(body).image
    except ValidationError as error:
        fault = error.errors()[0]
        if fault["type"] == "json_invalid":
            raise BadForm(f"The body is not JSON: {fault['ctx']['error']}. {_FORMS}") from error
        where = ".".join(map(str, fault["loc"]))
        raise MissingImage(f"{where + ': ' if where else ''}{fault['msg']}. {_FORMS}") from error
    if text.startswith("data:"):
        head, _, text = text.partition(",")
        if not head.endswith(";base64"):
            raise BadForm("The data URI is not base64; it must begin data:image/...;base64,")
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadForm(f"'image' is not base64: {error}.") from error
    if len(data) > max_bytes:
        raise _too_large(max_bytes)
    return data


async def _body(request: Request, limit: int) -> bytes:
    return b"".join([chunk async for chunk in _limited(request, limit)])


async def _limited(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    """The body's chunks; more than `limit` bytes raise PayloadTooLarge, at once where the length is announced."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise _too_large(limit)
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > limit:
            raise _too_large(limit)
        yield chunk


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The image is larger than {limit:,} bytes. Send a smaller one.")
