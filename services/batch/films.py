"""A film in, frames out: each with its number, its own presentation time, and upright."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import IO, Any, Final

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from services.batch.errors import UndecodableVideo, VideoCutShort
from shared.errors import ImageTooLarge
from shared.pictures import BgrImage, ImageLimits
from shared.pipeline.decode import Picture

_DEFAULT_RATE: Final = Fraction(25)  # of films that name none, and only where a frame has no time
_SHORT_S: Final = 1.0  # a film may end so much before its header says, as headers round
_SWAPPED: Final = 4  # frames that may be out of order; a clock further back than that has restarted


@dataclass(frozen=True, slots=True)
class Span:
    """Which frames of a film are read: all, or one each `every_s`, between two times."""

    every_s: float | None = None
    from_s: float = 0.0
    to_s: float | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame: `number` counts every frame of the film from 0, `time_s` is seconds from the film's beginning."""

    number: int
    time_s: float
    picture: Picture
    progress: float  # share of the film that is done, 0 where its length is unknown


def frames(file: IO[bytes] | str, span: Span, limits: ImageLimits) -> Iterator[Frame]:
    """The frames of `file` that `span` asks for, in the order in which they are shown, one at a time.

    Times are the frames' own and never run back. Raises UndecodableVideo or ImageTooLarge before the first frame, and
    after the last that could be read UndecodableVideo for damage or VideoCutShort for an early end.
    """
    try:
        container = av.open(file, "r", metadata_errors="ignore")
    except (FFmpegError, OSError, ValueError) as error:
        raise UndecodableVideo(f"This is not a film that FFmpeg reads: {_said(error)}.") from error
    with container:
        stream = container.streams.best("video")
        if not isinstance(stream, VideoStream) or stream.codec_context is None:
            raise UndecodableVideo("The file has no video.")
        stream.codec_context.thread_count = 1  # one film a core; cores are shared out by the engine
        _check_size(stream, limits)
        yield from _wanted(container, stream, span, limits)


def _wanted(container: InputContainer, stream: VideoStream, span: Span, limits: ImageLimits) -> Iterator[Frame]:
    length_s, clock, damage = _length_s(container, stream), _Clock(container, stream), _Damage()
    aspect = float(stream.sample_aspect_ratio or 1)  # old recordings have pixels that are not square
    taken, time_s = -1, 0.0
    for number, decoded in enumerate(_decoded(container, stream, damage)):
        time_s = clock.time_of(decoded)
        if span.to_s is not None and time_s >= span.to_s:
            break
        if time_s < span.from_s:
            continue
        if span.every_s:
            # The first frame in each step of the grid, so that a gap skips steps and never doubles a frame.
            step = math.floor((time_s - span.from_s) / span.every_s + 1e-6)
            if step <= taken:
                continue
            taken = step
        progress = min(1.0, time_s / (span.to_s or length_s)) if span.to_s or length_s else 0.0
        yield Frame(number, time_s, _picture(decoded, aspect, limits), progress)
    else:
        if length_s and time_s + 2 * clock.step_s < length_s - _SHORT_S:
            raise VideoCutShort(f"The film ends after {time_s:.1f} s; its header says {length_s:.1f} s.")
    if damage.packets:
        raise UndecodableVideo(f"{damage.packets} pieces of the film could not be decoded: {damage.said}.")


@dataclass(slots=True)
class _Damage:
    packets: int = 0
    said: str = ""


def _decoded(container: InputContainer, stream: VideoStream, damage: _Damage) -> Iterator[VideoFrame]:
    """Every frame that can be decoded; what cannot is counted in `damage` and passed over."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except (FFmpegError, OSError) as error:
            damage.packets, damage.said = damage.packets + 1, _said(error)
            return
        try:
            yield from packet.decode()
        except FFmpegError as error:
            damage.packets, damage.said = damage.packets + 1, _said(error)


class _Clock:
    """Seconds from the film's beginning, which is where a player's clock starts.

    A frame whose own time runs back gets the time of the one before. Where the clock has restarted, as in recordings
    that were joined, time goes on by a frame. At most five frames share a time, so time always goes on.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self.step_s = float(1 / (stream.average_rate or stream.guessed_rate or _DEFAULT_RATE))
        self._begin_s: float | None = None
        if container.start_time is not None:
            self._begin_s = container.start_time / av.time_base
        self._last_s: float | None = None
        self._behind = 0  # frames in a row that were not later than the one before

    def time_of(self, frame: VideoFrame) -> float:
        own_s, last_s = frame.time, self._last_s
        if own_s is None:  # a few old containers keep no times
            own_s = 0.0 if last_s is None else last_s + self.step_s + (self._begin_s or 0.0)
        if self._begin_s is None:
            self._begin_s = own_s
        time_s = max(0.0, own_s - self._begin_s)
        if last_s is not None and time_s <= last_s:
            time_s = self._held(own_s, time_s, last_s)
        else:
            self._behind = 0
        self._last_s = time_s
        return time_s

    def _held(self, own_s: float, time_s: float, last_s: float) -> float:
        """The time of a frame that is not later than the one before."""
        self._behind += 1
        jumped = last_s - time_s > _SWAPPED * self.step_s
        if not jumped and self._behind <= _SWAPPED:
            return last_s
        time_s = last_s + self._behind * self.step_s
        self._begin_s, self._behind = own_s - time_s, 0
        return time_s


def _length_s(container: InputContainer, stream: VideoStream) -> float:
    """How long the video is by its header; 0 where that says nothing, or speaks of the sound too."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if container.duration and len(container.streams) == 1:
        return container.duration / av.time_base
    return 0.0


def _check_size(stream: VideoStream, limits: ImageLimits) -> None:
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > limits.max_pixels or max(width, height) > limits.max_side_px:
        raise ImageTooLarge(
            f"The film is {width}x{height} pixels; at most {limits.max_pixels} pixels and {limits.max_side_px} a side are read."
        )


def _picture(frame: VideoFrame, aspect: float, limits: ImageLimits) -> Picture:
    """A frame as it is displayed: square pixels, turned as its metadata says, reduced while needlessly large."""
    width, height = round(frame.width * aspect), frame.height
    reduction = max(1, max(width, height) // limits.target_side_px)
    small: Any = frame.to_ndarray(
        format="bgr24", width=max(1, width // reduction), height=max(1, height // reduction), interpolation="AREA"
    )
    turns = round(frame.rotation / 90) % 4  # counter-clockwise
    pixels: BgrImage = np.asarray(small, np.uint8)
    if turns:
        pixels = np.ascontiguousarray(np.rot90(pixels, turns))
        width, height = (height, width) if turns % 2 else (width, height)
    return Picture(pixels, width, height)


def _said(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).rstrip(".")
