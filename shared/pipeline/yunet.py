"""YuNet, run by ONNX Runtime: a third of the time that OpenCV takes for the same file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from shared.errors import DetectorError, ModelError
from shared.pipeline.session import open_session
from shared.pipeline.single_shot import INPUT, OUTPUTS, SingleShotDetector

# Field numbers of ONNX's messages (onnx.proto3).
_GRAPH: Final = 7  # of ModelProto
_INPUTS, _OUTPUTS, _BETWEEN = 11, 12, 13  # of GraphProto: names and shapes of what goes in, comes out, lies between
_SHAPED: Final = (_INPUTS, _OUTPUTS, _BETWEEN)
_FLOAT: Final = 1
_MIN_FACE_PX: Final = 24


def open_yunet(model: Path, max_side_px: int) -> SingleShotDetector:
    """YuNet (Wu et al. 2023) from its published file; larger pictures are searched at `max_side_px`.

    Its landmarks follow a turned head only in part: for 30 degrees, `roll_deg` is 10 to 20.

    Raises DetectorError when the file is missing or is not YuNet's.
    """
    if not model.is_file():
        raise DetectorError(f"There is no YuNet model at {model}; `make yunet` fetches it.")
    try:
        session = open_session(_of_any_size(model.read_bytes()), threads=1)
    except (ModelError, ValueError, IndexError) as error:
        raise DetectorError(f"{model} is not YuNet's ONNX model: {error}") from error
    return SingleShotDetector("yunet", session, max_side_px, _MIN_FACE_PX)


def _of_any_size(model: bytes) -> bytes:
    """The model with a free height and width.

    The published file declares 640x640 for its input, its outputs and what lies between; none of its operations needs
    that. We rewrite these few fields ourselves: the package onnx, which could, would be the service's largest dependency.
    """
    graph = b"".join(raw for number, raw, _ in _fields(_body(model, _GRAPH)) if number not in _SHAPED)
    graph += _field(_INPUTS, _value(INPUT, (1, 3, "height", "width")))
    graph += b"".join(_field(_OUTPUTS, _value(name)) for name in OUTPUTS)
    return b"".join(raw for number, raw, _ in _fields(model) if number != _GRAPH) + _field(_GRAPH, graph)


def _value(name: str, shape: tuple[int | str, ...] | None = None) -> bytes:
    """A ValueInfoProto: a float tensor with its name and, where it is given, its shape."""
    tensor = b"\x08" + bytes([_FLOAT])  # elem_type
    if shape is not None:
        tensor += _field(2, b"".join(_field(1, _dimension(size)) for size in shape))
    return _field(1, name.encode()) + _field(2, _field(1, tensor))


def _dimension(size: int | str) -> bytes:
    return b"\x08" + bytes([size]) if isinstance(size, int) else _field(2, size.encode())


def _field(number: int, body: bytes) -> bytes:
    """A length-delimited field of Protocol Buffers."""
    size, length = len(body), bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + body


def _body(message: bytes, wanted: int) -> bytes:
    for number, _, body in _fields(message):
        if number == wanted:
            return body
    raise ValueError(f"it has no field {wanted}.")


def _fields(message: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Each field of a message of Protocol Buffers: its number, all its bytes, and its content if it is length-delimited.

    Raises ValueError or IndexError if the bytes are not such a message.
    """
    at = 0
    while at < len(message):
        start = at
        key, at = _varint(message, at)
        kind, length = key & 7, 0
        if kind == 0:
            _, at = _varint(message, at)
        elif kind == 2:
            length, at = _varint(message, at)
            at += length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError("it is not an ONNX file.")
        if at > len(message):
            raise ValueError("it is truncated.")
        yield key >> 3, message[start:at], message[at - length : at]


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, and where it ends."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
