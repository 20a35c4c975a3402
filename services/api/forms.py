"""What carries an image: a multipart form (RFC 7578) or JSON, split without a step per byte."""

import re
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from python_multipart.multipart import parse_options_header

from services.api.faults import BadForm, InvalidForm, MissingImage

_MAX_PART_HEAD_BYTES: Final = 4096
_MAX_FIELDS: Final = 8  # beside the files
# The JSON we expect is recognized without a parser; only small bodies reach a parser, for a good error message.
_MAX_PARSED_JSON_BYTES: Final = 65_536
_JSON_START: Final = re.compile(rb'[ \t\r\n]*\{[ \t\r\n]*"image"[ \t\r\n]*:[ \t\r\n]*"')
_JSON_END: Final = re.compile(rb'"[ \t\r\n]{0,64}\}[ \t\r\n]{0,64}')
_JSON_ESCAPES: Final = {rb"\/": b"/", rb"\n": b"", rb"\r": b"", rb"\t": b"", rb"\u003d": b"=", rb"\u002b": b"+"}
_JSON_FORM: Final = 'The JSON must be {"image": "<base64 or data URI>"} and nothing else.'
_FORMS: Final = (
    "Send multipart/form-data with the field 'file', or the image itself as the body, "
    'or application/json {"image": "<base64 or data URI>"}.'
)


class ImageJson(BaseModel):
    """An image in JSON."""

    model_config = ConfigDict(extra="forbid")

    image: Annotated[str, Field(description="The file in base64, or a data URI.")]


@dataclass(frozen=True, slots=True)
class Part:
    """One field of a form; `filename` is None where it is text."""

    name: str
    filename: str | None
    content: bytes


def parse_form(body: bytes, content_type: str, max_files: int) -> list[Part]:
    """The fields of a multipart body, in order. Raises BadForm or InvalidForm."""
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise BadForm("The Content-Type has no boundary; let your client set it.")
    most = max_files + _MAX_FIELDS
    parts: list[Part] = []
    start = _first(body, boundary)
    while len(parts) <= most and not body.startswith(b"--", start):
        end = body.find(b"\r\n--" + boundary, start)
        if end < 0:
            raise BadForm("The multipart body is truncated: its closing boundary is missing.")
        parts.append(_part(body, start, end))
        start = end + 4 + len(boundary)
    files = sum(part.filename is not None for part in parts)
    if files > max_files:
        hint = " Use /predict/batch for several images." if max_files == 1 else ""
        raise InvalidForm(f"The form has too many files; the limit is {max_files}.{hint}")
    if len(parts) > most:
        raise InvalidForm(f"The form has too many fields; the limit is {most}.")
    return parts


def _first(body: bytes, boundary: bytes) -> int:
    """Where the first part begins."""
    if body.startswith(b"--" + boundary):
        return 2 + len(boundary)
    found = body.find(b"\r\n--" + boundary)
    if found < 0:
        raise BadForm("The multipart body is invalid: its boundary does not occur in it.")
    return found + 4 + len(boundary)


def _part(body: bytes, start: int, end: int) -> Part:
    """The part that lies there; its content is the only copy."""
    separator = body.find(b"\r\n\r\n", start, min(end, start + _MAX_PART_HEAD_BYTES + 4))
    if separator < 0:
        raise BadForm("The multipart body is invalid: a part has no headers, or headers that are too long.")
    for line in body[start:separator].split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-disposition":
            options = parse_options_header(value)[1]
            filename = options.get(b"filename")
            return Part(
                options.get(b"name", b"").decode(errors="replace"),
                None if filename is None else filename.decode(errors="replace"),
                body[separator + 4 : end],
            )
    raise BadForm("The multipart body is invalid: a part has no Content-Disposition.")


def base64_of(body: bytes) -> bytes:
    """The base64 text in the JSON body, unchecked. Raises BadForm or MissingImage."""
    text = _image_text(body)
    if text.startswith((b"http://", b"https://")):
        raise BadForm("'image' is a URL; the service does not fetch images. Send the file itself in base64.")
    if text.startswith(b"data:"):
        comma = text.find(b",", 0, 256)
        if not text[: max(comma, 0)].endswith(b";base64"):
            raise BadForm("The data URI is not base64; it must begin with data:image/...;base64,")
        return text[comma + 1 :]
    return text


def _image_text(body: bytes) -> bytes:
    start = _JSON_START.match(body)
    if start:
        end = body.find(b'"', start.end())
        if end >= 0 and _JSON_END.fullmatch(body, end):
            text = _unescaped(body[start.end() : end])
            if text is not None:
                return text
    if len(body) > _MAX_PARSED_JSON_BYTES:
        raise BadForm(_JSON_FORM)
    try:
        return ImageJson.model_validate_json(body).image.encode()
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, fault["loc"]))[:100]
        message = f"{where + ': ' if where else ''}{fault['msg']}. {_FORMS}"
        missing = fault["type"] == "missing" or where == "image"
        raise (MissingImage if missing else BadForm)(message) from None


def _unescaped(text: bytes) -> bytes | None:
    """The string without the escapes that encoders use in base64; None if it has others."""
    if b"\\" not in text:
        return text
    for escape, meaning in _JSON_ESCAPES.items():
        text = text.replace(escape, meaning)
    return None if b"\\" in text else text
