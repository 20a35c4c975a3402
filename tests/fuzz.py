"""`python -m tests.fuzz --seconds 60`: edited files, bodies and sessions against what reads them; a table at the end.

An input is a seed with edits. What may come of it is an answer or an error that we expect; anything else, or a second of
CPU, is a finding: its bytes are written to fuzz-findings/.
"""

import argparse
import asyncio
import collections
import functools
import hashlib
import io
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import pillow_heif
from PIL import Image

from services.api.forms import base64_of, parse_form
from services.api.streaming.session import Session, SessionEnded
from services.api.telemetry import Telemetry
from shared.analysis import Analysis, Model, Options
from shared.errors import MienError, UndecodableImage
from shared.pictures import ImageLimits
from shared.pipeline.decode import decode
from shared.pipeline.formats.encoded import KINDS, Kind

Edit: TypeAlias = tuple[int, int, bytes]  # where, as a share of 65,536; how many bytes go; which come
SLOW_S: Final = 1.0
_SEPARATOR: Final = b"\0next\0"  # between the messages of a session
_LIMITS: Final = ImageLimits(max_pixels=4_000_000)
_NUMBERS: Final = (
    b"\xff" * 4,
    b"\0" * 4,
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\0\1",
    b"\xff\xda",
    b"\xff\xd9",
    b"\x80",
)


def edited(data: bytes, edits: Sequence[Edit]) -> bytes:
    """`data` with edits, each somewhere in what the one before it left."""
    for where, gone, come in edits:
        at = where * (len(data) + 1) >> 16
        data = data[:at] + come + data[at + gone :]
    return data


def image_seed(kind: Kind) -> bytes:
    """A small picture of `kind`, with what files of it carry."""
    pillow_heif.register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = 6
    options_of: dict[str, dict[str, Any]] = {
        "JPEG": {"progressive": True, "exif": exif}, "PNG": {"exif": exif}, "WEBP": {"exif": exif.tobytes()},
        "TIFF": {"compression": "jpeg"}, "AVIF": {"exif": exif}, "HEIC": {"exif": exif.tobytes()},
    }  # fmt: skip
    buffer, as_pillow = io.BytesIO(), "HEIF" if kind == "HEIC" else kind
    Image.radial_gradient("L").resize((80, 64)).convert("RGB").save(buffer, as_pillow, **options_of.get(kind, {}))
    return buffer.getvalue()


def read_image(data: bytes) -> str:
    """Decode a file; what came of it."""
    told: list[int] = []
    try:
        decode(data, _LIMITS, told.append)
    except MienError as error:
        return type(error).__name__
    return "read"


def read_json(data: bytes) -> str:
    """Find the image in a JSON body."""
    try:
        base64_of(data)
    except MienError as error:
        return type(error).__name__
    return "read"


def read_form(data: bytes) -> str:
    """Take a form apart."""
    try:
        parts = parse_form(data, "multipart/form-data; boundary=b", max_files=4)
    except MienError as error:
        return type(error).__name__
    assert sum(len(part.content) for part in parts) <= len(data)
    return "read"


class _Client:
    """A client that sends these messages and then leaves."""

    def __init__(self, messages: Sequence[bytes]) -> None:
        self._messages, self.answers = list(messages), 0

    async def receive(self) -> bytes | str:
        await asyncio.sleep(0)
        if not self._messages:
            await asyncio.sleep(0.005)
            raise SessionEnded(None)
        message = self._messages.pop(0)
        try:
            return message.decode()
        except UnicodeDecodeError:
            return message

    async def send(self, message: dict[str, Any]) -> None:
        json.dumps(message, allow_nan=False)
        self.answers += 1


class _Reader:
    """Answers every frame, or says that it is broken."""

    def check(self, options: Options) -> None: ...

    async def analyze_frame(self, take: Callable[[], bytes], options: Options) -> Analysis:
        data = take()
        await asyncio.sleep(0)
        if data.startswith(b"\xff\xff"):
            raise UndecodableImage("The image is truncated.")
        return Analysis(8, 8, (), {}, Model("m", "1", "haar"))


@functools.cache
def _telemetry() -> Telemetry:
    return Telemetry()


def run_session(data: bytes) -> str:
    """Hold a session; how it ended."""

    async def scenario() -> str:
        client = _Client(data.split(_SEPARATOR))
        session = Session(client, _Reader(), Options(), 250, 5, _telemetry())
        try:
            await session.run()
        except SessionEnded as ended:
            return f"ended {ended.code and ended.code.name}"
        return "returned"

    return asyncio.run(scenario())


_FORM: Final = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n\xff\xd8\r\n'
    b'--b\r\nContent-Disposition: form-data; name="text"\r\n\r\nhello\r\n--b--\r\n'
)
_MESSAGES: Final = (
    b"\xff\xd8frame", b'{"type":"configure","max_faces":3,"min_confidence":0.5,"smoothing":100}', b"\xff\xff",
    b'{"type":"frame","time_ms":40.5}', b"\xff\xd8next", b'{"type":"authenticate","key":"k"}', b"\xff\xd8last",
)  # fmt: skip
_TARGETS: Final[dict[str, tuple[Callable[[], bytes], Callable[[bytes], str]]]] = {
    **{kind: (lambda kind=kind: image_seed(kind), read_image) for kind in KINDS},  # type: ignore[misc] # bound now
    "JSON": (lambda: b'{"image": "data:image/jpeg;base64,/9j/4AAQ\\/w=="}', read_json),
    "form": (lambda: _FORM, read_form),
    "session": (lambda: _SEPARATOR.join(_MESSAGES), run_session),
}


def targets() -> Iterator[tuple[str, bytes, Callable[[bytes], str]]]:
    """Name, seed and reader of each target."""
    for name, (seed, read) in _TARGETS.items():
        yield name, seed(), read


def _random_edits(rng: random.Random, seed: bytes) -> list[Edit]:
    edits: list[Edit] = []
    for _ in range(1 + min(int(rng.expovariate(0.4)), 30)):
        at = rng.randrange(len(seed))
        come = rng.choice(
            [
                b"",
                bytes([rng.randrange(256)]),
                rng.randbytes(rng.randrange(1, 9)),
                rng.choice(_NUMBERS),
                seed[at : at + rng.randrange(64)],
            ]
        )
        edits.append((rng.randrange(65_536), rng.choice([0, len(come), rng.randrange(9)]), come))
    return edits


def main() -> int:
    """Fuzz each target in turn for its share of the time; 1 if there were findings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    options = parser.parse_args()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # decoders write there what they think of broken files
    rng, findings, folder = random.Random(options.seed), 0, Path("fuzz-findings")
    print(f"seed {options.seed}\n{'target':10}{'inputs':>10}{'slowest ms':>12}{'findings':>10}  outcomes")
    for name, seed, read in targets():
        outcomes: collections.Counter[str] = collections.Counter()
        slowest, found, end = 0.0, 0, time.monotonic() + options.seconds / len(_TARGETS)
        while time.monotonic() < end:
            data, started = edited(seed, _random_edits(rng, seed)), time.process_time()
            try:
                outcomes[read(data)] += 1
                fault = ""
            except Exception as error:
                fault = repr(error)
            taken = time.process_time() - started
            slowest = max(slowest, taken)
            if fault or taken > SLOW_S:
                found += 1
                folder.mkdir(exist_ok=True)
                path = folder / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}"
                path.write_bytes(data)
                print(f"{path}: {fault or f'{taken:.1f} s'}")
        findings += found
        told = ", ".join(f"{outcome} {count:,}" for outcome, count in outcomes.most_common(4))
        print(f"{name:10}{outcomes.total():10,}{slowest * 1000:12.1f}{found:10}  {told}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
