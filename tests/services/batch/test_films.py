"""Frames come with their own times, upright, each once."""

import io
from collections import Counter
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from services.batch.errors import UndecodableVideo, VideoCutShort
from services.batch.films import Frame, Span, frames
from shared.errors import ImageTooLarge
from shared.pictures import ImageLimits
from tests.services.batch.conftest import square, write_film

# As ffmpeg writes where the rate varies: gaps of .12, .08, .1 and then half seconds.
VARIABLE = [0, 0.12, 0.2, *(round(0.3 + n / 10, 1) for n in range(8)), *(1.5 + n / 2 for n in range(8))]


def read(film: Path, span: Span | None = None) -> list[Frame]:
    return list(frames(str(film), span or Span(), ImageLimits()))


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi"])
def test_every_frame_has_the_time_at_which_it_is_shown(tmp_path: Path, ending: str) -> None:
    times = VARIABLE if ending != "avi" else [n / 25 for n in range(20)]  # AVI knows one rate only
    got = read(write_film(tmp_path / f"film.{ending}", times))
    assert [frame.number for frame in got] == list(range(len(times)))
    assert [frame.time_s for frame in got] == pytest.approx(times, abs=0.002)


def test_a_film_s_clock_begins_where_a_player_s_does(tmp_path: Path) -> None:
    got = read(write_film(tmp_path / "film.ts", [5 + n / 25 for n in range(10)]))
    assert [frame.time_s for frame in got] == pytest.approx([n / 25 for n in range(10)], abs=0.002)


def test_every_so_often_takes_one_frame_a_step_and_doubles_none(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", VARIABLE)
    got = read(film, Span(every_s=0.2))
    assert [frame.time_s for frame in got] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5])
    assert got[1].number == 2  # numbers count the film's frames, not those taken


def test_from_and_to_keep_the_film_s_own_numbers_and_times(tmp_path: Path) -> None:
    got = read(write_film(tmp_path / "film.mp4", VARIABLE), Span(from_s=0.3, to_s=1.0))
    assert [(frame.number, frame.time_s) for frame in got] == [(3 + n, pytest.approx(0.3 + n / 10)) for n in range(7)]


@pytest.mark.parametrize(("rotation", "where"), [(0, (20, 10)), (90, (10, 46)), (180, (46, 24)), (-90, (24, 20))])
def test_rotation_metadata_is_obeyed(tmp_path: Path, rotation: int, where: tuple[int, int]) -> None:
    (frame,) = read(write_film(tmp_path / "film.mp4", [0], lambda _: square(20, 10), rotation))
    rows, columns = np.nonzero(frame.picture.pixels.max(axis=2) > 128)
    assert (columns.min(), rows.min()) == pytest.approx(where, abs=2)
    assert (frame.picture.width, frame.picture.height) == ((96, 64) if rotation in (0, 180) else (64, 96))


def test_what_is_no_film_is_told(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"no film" * 100)
    (tmp_path / "empty.mp4").touch()
    for name in ("film.mp4", "empty.mp4"):
        with pytest.raises(UndecodableVideo, match="not a film"):
            read(tmp_path / name)
    with pytest.raises(ImageTooLarge):
        list(frames(str(write_film(tmp_path / "a.mp4", [0])), Span(), ImageLimits(max_pixels=1000)))


def test_a_film_that_is_cut_short_gives_its_frames_and_then_says_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    film = write_film(
        tmp_path / "a.mkv", [n / 25 for n in range(100)], lambda _: rng.integers(0, 255, (64, 96, 3), np.uint8)
    )
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    got = []
    with pytest.raises(VideoCutShort, match="ends after"):
        got.extend(frame.number for frame in frames(str(film), Span(), ImageLimits()))
    assert 20 < len(got) < 80


def test_large_frames_are_reduced_and_say_how_large_they_are_displayed(tmp_path: Path) -> None:
    (frame,) = read(write_film(tmp_path / "film.mp4", [0], lambda _: square(size=(2400, 1200), side=200)))
    assert frame.picture.pixels.shape == (600, 1200, 3)
    assert (frame.picture.width, frame.picture.height, frame.picture.scale) == (2400, 1200, 2.0)


class Endless(io.RawIOBase):
    """A stream that goes on: the same part again and again."""

    def __init__(self, part: bytes) -> None:
        self._part, self._at = part, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        start = self._at % len(self._part)
        piece = self._part[start : start + min(size if size > 0 else 65_536, 65_536)]
        self._at += len(piece)
        return piece


@pytest.mark.parametrize("frames_a_part", [3, 20, 75])
def test_a_film_without_an_end_whose_clock_begins_again_is_read_as_far_as_it_is_asked_for(
    tmp_path: Path, frames_a_part: int
) -> None:
    part = write_film(tmp_path / "part.ts", [number / 25 for number in range(frames_a_part)]).read_bytes()
    times = [frame.time_s for frame in frames(Endless(part), Span(to_s=10), ImageLimits())]  # type: ignore[arg-type] # read is all it takes
    assert times == sorted(times)
    assert len(times) == pytest.approx(250, abs=5)
    assert max(Counter(times).values()) <= 5


def test_a_clock_that_begins_again_goes_on_at_the_rate_of_the_frames(tmp_path: Path) -> None:
    part = write_film(tmp_path / "part.ts", [number / 25 for number in range(20)]).read_bytes()
    (tmp_path / "film.ts").write_bytes(part * 5)
    times = [frame.time_s for frame in read(tmp_path / "film.ts")]
    assert times == pytest.approx([number / 25 for number in range(len(times))], abs=0.04)
    assert len(times) >= 95


def test_frames_whose_times_are_swapped_keep_the_film_s_clock(tmp_path: Path) -> None:
    ticks = [40 * number for number in range(50)]
    ticks[10], ticks[11] = ticks[11], ticks[10]
    with av.open(str(tmp_path / "film.mkv"), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        for number, tick in enumerate(ticks):
            for packet in stream.encode(av.VideoFrame.from_ndarray(square(20 + number % 20), format="bgr24")):
                packet.pts, packet.dts, packet.time_base = tick, min(tick, 40 * number), Fraction(1, 1000)
                container.mux_one(packet)
    own = [frame.time_s for frame in read(tmp_path / "film.mkv")]
    assert own == pytest.approx([*(n / 25 for n in range(10)), 0.44, 0.44, *(n / 25 for n in range(12, 50))], abs=0.002)
