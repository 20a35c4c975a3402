"""Read the expressions in a video file, a webcam or an RTSP camera with a Mien server.

    pip install av opencv-python-headless websockets tqdm matplotlib
    python examples/stream_video.py talk.mp4 --out talk        # a file
    python examples/stream_video.py 0 --seconds 30             # the first webcam
    python examples/stream_video.py rtsp://camera/stream --seconds 60

Writes OUT.mp4 (the video with boxes and labels, H.264, with the timing of the source), OUT.csv (a line per face and frame)
and OUT.png (the emotions over time). A file is read frame by frame with each frame's own time, so nothing is missed and
the same film gives the same table. A camera is read at the pace of the server.
"""

import argparse
import csv
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from tqdm import tqdm
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

COLORS = {
    "angry": "#c9372c", "disgust": "#7a9a01", "fear": "#8250df", "happy": "#b77900",
    "neutral": "#7d8590", "sad": "#2f7de1", "surprise": "#d6409f",
}  # fmt: skip


class Recording:
    """A video file: (seconds, picture) of each frame, at its presentation time and upright as players show it."""

    def __init__(self, name: str) -> None:
        try:
            self._file = av.open(name)
            self._stream = self._file.streams.video[0]
        except (OSError, IndexError):
            sys.exit(f"error: {name} cannot be opened as a video.")
        self._stream.thread_type = "AUTO"
        self.frames = self._stream.frames or None

    def __iter__(self) -> Iterator[tuple[float, np.ndarray]]:
        start = (self._file.start_time or 0) / av.time_base
        for frame in self._file.decode(self._stream):
            if frame.time is not None:
                picture = np.rot90(frame.to_ndarray(format="bgr24"), frame.rotation // 90)
                yield max(0.0, frame.time - start), np.ascontiguousarray(picture)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Camera:
    """A webcam or a network camera: (seconds since the start, picture), always the newest."""

    def __init__(self, name: str) -> None:
        self._capture = cv2.VideoCapture(int(name) if name.isdigit() else name)
        if not self._capture.isOpened():
            sys.exit(f"error: {name} cannot be opened as a video.")
        self.frames = None

    def __iter__(self) -> Iterator[tuple[float, np.ndarray]]:
        started = time.monotonic()
        while (read := self._capture.read())[0]:
            yield time.monotonic() - started, read[1]

    def close(self) -> None:
        """Release the camera."""
        self._capture.release()


def ask(socket: ClientConnection, at: float, picture: np.ndarray) -> list[dict[str, Any]]:
    """The faces of one picture; none, with a line that says why, if the server could not read it."""
    socket.send(json.dumps({"type": "frame", "time_ms": round(at * 1000, 3)}))
    socket.send(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())
    answer = json.loads(socket.recv())
    if answer["type"] == "error":
        tqdm.write(f"frame {answer.get('frame', '')}: {answer['detail']}", file=sys.stderr)
    return list(answer.get("faces", []))


class Table:
    """The table file. It is opened before anything is read; an earlier one is kept until the first answer."""

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", newline="", encoding="utf-8")
        except OSError as error:
            sys.exit(f"error: {path} cannot be written: {error.strerror}.")
        self.rows: list[list[Any]] = []

    def begin(self) -> None:
        """Replace an earlier table."""
        self._file.truncate(0)
        csv.writer(self._file).writerow(["seconds", "face", "x", "y", "width", "height", "emotion", *COLORS])

    def add(self, at: float, faces: list[dict[str, Any]]) -> None:
        """Add the faces of one frame."""
        for face in faces:
            box = [face["box"][key] for key in ("x", "y", "width", "height")]
            probabilities = [face["probabilities"][emotion] for emotion in COLORS]
            self.rows.append([round(at, 3), face["id"], *box, face["emotion"], *probabilities])
            csv.writer(self._file).writerow(self.rows[-1])

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


class Film:
    """The labelled video: H.264, which browsers play, with each picture at its own time."""

    TICK = Fraction(1, 90_000)  # of a second: every usual frame rate in whole ticks

    def __init__(self, path: Path) -> None:
        self._path, self._last, self._step = path, -1, 0
        self._output: tuple[av.container.OutputContainer, av.VideoStream] | None = None

    def show(self, picture: np.ndarray, at: float) -> None:
        """Write the picture of the time `at`, in seconds."""
        if self._output is None:
            self._output = self._open(picture)
        file, stream = self._output
        if picture.shape[:2] != (stream.height, stream.width):
            picture = cv2.resize(picture, (stream.width, stream.height))
        frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
        frame.pts, frame.time_base = max(round(at / self.TICK), self._last + 1), self.TICK
        self._last, self._step = frame.pts, frame.pts - max(self._last, 0)
        file.mux(stream.encode(frame))

    def _open(self, picture: np.ndarray) -> tuple[av.container.OutputContainer, av.VideoStream]:
        file = av.open(str(self._path), "w", options={"movflags": "+faststart"})
        stream = file.add_stream("libx264", rate=30, options={"crf": "20", "preset": "veryfast", "bf": "0"})
        height, width = (side - side % 2 for side in picture.shape[:2])  # H.264 stores colour for pairs of pixels
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = self.TICK
        return file, stream

    def close(self) -> None:
        """Finish the file."""
        if self._output is not None:
            file, stream = self._output
            for packet in stream.encode():
                packet.duration = self._step  # otherwise the last picture would not be shown
                file.mux(packet)
            file.close()


def draw(picture: np.ndarray, faces: list[dict[str, Any]]) -> None:
    """Draw boxes and labels on a picture."""
    size = picture.shape[1] / 1100 + 0.2
    for face in faces:
        x, y, width, height = (face["box"][key] for key in ("x", "y", "width", "height"))
        color = bytes.fromhex(COLORS[face["emotion"]][1:])[::-1]  # BGR
        label = f"{face['emotion']} {face['probabilities'][face['emotion']]:.0%}"
        (text_width, text_height), _ = cv2.getTextSize(label, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
        top = y if y > text_height + 10 else y + height + text_height + 10
        cv2.rectangle(picture, (x, y), (x + width, y + height), color, 2)
        cv2.rectangle(picture, (x, top - text_height - 10), (x + text_width + 8, top), color, -1)
        cv2.putText(picture, label, (x + 4, top - 5), cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), 1, cv2.LINE_AA)


def tracks(rows: list[list[Any]]) -> dict[int, list[list[Any]]]:
    """The rows of each face with at least three, the longest first."""
    faces: dict[int, list[list[Any]]] = defaultdict(list)
    for row in rows:
        faces[row[1]].append(row)
    return dict(sorted((face for face in faces.items() if len(face[1]) >= 3), key=lambda face: -len(face[1])))


def plot(faces: dict[int, list[list[Any]]], path: Path) -> None:
    """Plot the probabilities of the six longest faces over time, stacked."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    longest = list(faces.items())[:6]
    figure = Figure(figsize=(10, 0.8 + 1.9 * max(1, len(longest))), layout="constrained")
    grid = figure.subplots(max(1, len(longest)), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (number, seen) in zip(grid, longest, strict=False):
        shares = np.array([row[7:] for row in seen], float).T
        axes.stackplot([row[0] for row in seen], shares, labels=list(COLORS), colors=list(COLORS.values()))
        axes.set(ylim=(0, 1), ylabel=f"face {number}")
        axes.spines[["top", "right"]].set_visible(False)
    grid[-1].set_xlabel("seconds")
    if longest:
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=7, frameon=False)
    figure.savefig(path, dpi=120)


def read(source: Recording | Camera, options: argparse.Namespace, table: Table, film: Film) -> None:
    """Ask the server about each frame. Raises OSError, WebSocketException or ValueError when that fails."""
    headers = {"X-API-Key": options.key} if options.key else {}
    with connect(options.url, additional_headers=headers, compression=None, max_size=None) as socket:
        socket.recv()  # ready
        table.begin()
        for at, picture in tqdm(source, total=source.frames, unit="frame"):
            if options.seconds is not None and at >= options.seconds:
                break
            faces = ask(socket, at, picture)
            table.add(at, faces)
            draw(picture, faces)
            film.show(picture, at)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a file, the number of a webcam, or an rtsp:// address")
    parser.add_argument("--url", default="ws://localhost:8000/stream", help="the server (%(default)s)")
    parser.add_argument("--key", help="API key, if the server needs one")
    parser.add_argument("--out", type=Path, default=Path("expressions"), help="stem of the files written (%(default)s)")
    parser.add_argument("--seconds", type=float, help="stop after this time")
    return parser.parse_args()


def main() -> int:
    """Read a source, ask the server about each frame, write video, table and plot."""
    options = parsed()
    live = options.source.isdigit() or "://" in options.source
    source = Camera(options.source) if live else Recording(options.source)
    table, film, fault = Table(Path(f"{options.out}.csv")), Film(Path(f"{options.out}.mp4")), ""
    # Whatever ends the reading, what was read until then is written.
    try:
        read(source, options, table, film)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    except (OSError, WebSocketException, ValueError) as error:
        fault = f"error: {options.url}: {error}"
    finally:
        film.close()
        source.close()
        table.close()
    if fault and not table.rows:
        sys.exit(fault)
    seen = tracks(table.rows)
    plot(seen, Path(f"{options.out}.png"))
    print(f"{len(table.rows)} readings of {len(seen)} faces; written: {options.out}.mp4, .csv, .png")
    if fault:
        print(f"{fault} (what was read until then is written)", file=sys.stderr)
    return 1 if fault else 0


if __name__ == "__main__":
    sys.exit(main())
