"""Read the expressions in a video file, a webcam or an RTSP camera through a Mien server.

    pip install av opencv-python-headless websockets tqdm matplotlib
    python examples/stream_video.py talk.mp4 --out talk        # a file
    python examples/stream_video.py 0 --seconds 30             # the first webcam
    python examples/stream_video.py rtsp://camera/stream --seconds 60

Writes OUT.mp4 (boxes and labels drawn over the video, H.264 with the timing of the source), OUT.csv (a line for each face
of each frame) and OUT.png (the emotions over time). A file is read frame by frame with each frame's own time, so nothing
is missed and the same film gives the same table; a camera is read at the pace of the server.
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
from typing import IO, Any

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
    """A video file: (seconds, picture) of each frame, by its presentation time and upright as players show it."""

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
    """A webcam or a network camera: (seconds since the start, picture), the newest each time."""

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
        """Let the camera go."""
        self._capture.release()


def ask(socket: ClientConnection, at: float, picture: np.ndarray) -> list[dict[str, Any]]:
    """The faces of one picture; none, and a line that says why, where the server could not read it."""
    socket.send(json.dumps({"type": "frame", "time_ms": round(at * 1000, 3)}))
    socket.send(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())
    answer = json.loads(socket.recv())
    if answer["type"] == "error":
        tqdm.write(f"frame {answer.get('frame', '')}: {answer['detail']}", file=sys.stderr)
    return list(answer.get("faces", []))


def table_file(path: Path) -> IO[str]:
    """The file of the table, found writable before anything is read; an earlier one is kept until there is news."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a", newline="", encoding="utf-8")
    except OSError as error:
        sys.exit(f"error: {path} cannot be written: {error.strerror}.")


class Film:
    """The labelled video: H.264, which browsers play, each picture at the time at which it was seen."""

    TICK = Fraction(1, 90_000)  # of a second: every usual frame rate in whole ticks

    def __init__(self, path: Path) -> None:
        self._path, self._file, self._stream = path, None, None
        self._last, self._step = -1, 0

    def show(self, picture: np.ndarray, at: float) -> None:
        """Write a picture that was seen `at` so many seconds."""
        height, width = (side - side % 2 for side in picture.shape[:2])  # H.264 has colour for two pixels at a time
        if self._stream is None:
            self._file = av.open(str(self._path), "w", options={"movflags": "+faststart"})
            self._stream = self._file.add_stream(
                "libx264", rate=30, options={"crf": "20", "preset": "veryfast", "bf": "0"}
            )
            self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
            self._stream.time_base = self._stream.codec_context.time_base = self.TICK
        if picture.shape[:2] != (self._stream.height, self._stream.width):
            picture = cv2.resize(picture, (self._stream.width, self._stream.height))
        frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
        frame.pts, frame.time_base = max(round(at / self.TICK), self._last + 1), self.TICK
        self._last, self._step = frame.pts, frame.pts - max(self._last, 0)
        self._file.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the file."""
        if self._file is not None:
            for packet in self._stream.encode():
                packet.duration = self._step  # or the last picture would be gone at once
                self._file.mux(packet)
            self._file.close()


def draw(picture: np.ndarray, faces: list[dict[str, Any]]) -> None:
    """Boxes and labels over a picture."""
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
    """The readings of each face that was seen for more than a moment, the longest first."""
    faces: dict[int, list[list[Any]]] = defaultdict(list)
    for row in rows:
        faces[row[1]].append(row)
    return dict(sorted((face for face in faces.items() if len(face[1]) >= 3), key=lambda face: -len(face[1])))


def plot(faces: dict[int, list[list[Any]]], emotions: list[str], path: Path) -> None:
    """The probabilities of the six longest faces over time, stacked."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    longest = list(faces.items())[:6]
    figure = Figure(figsize=(10, 0.8 + 1.9 * max(1, len(longest))), layout="constrained")
    grid = figure.subplots(max(1, len(longest)), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (number, seen) in zip(grid, longest, strict=False):
        shares = np.array([row[7:] for row in seen], float).T
        colors = [COLORS[emotion] for emotion in emotions]
        axes.stackplot([row[0] for row in seen], shares, labels=emotions, colors=colors)
        axes.set(ylim=(0, 1), ylabel=f"face {number}")
        axes.spines[["top", "right"]].set_visible(False)
    grid[-1].set_xlabel("seconds")
    if longest:
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=7, frameon=False)
    figure.savefig(path, dpi=120)


def main() -> int:
    """Read a source, ask the server about each frame, write video, table and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a file, the number of a webcam, or an rtsp:// address")
    parser.add_argument("--url", default="ws://localhost:8000/stream", help="of the server (%(default)s)")
    parser.add_argument("--key", help="API key, where the server asks for one")
    parser.add_argument("--out", type=Path, default=Path("expressions"), help="stem of the files written (%(default)s)")
    parser.add_argument("--seconds", type=float, help="stop after so long")
    options = parser.parse_args()

    source = (
        Camera(options.source) if options.source.isdigit() or "://" in options.source else Recording(options.source)
    )
    file = table_file(Path(f"{options.out}.csv"))
    rows: list[list[Any]] = []
    emotions: list[str] = list(COLORS)
    film, fault = Film(Path(f"{options.out}.mp4")), ""
    headers = {"X-API-Key": options.key} if options.key else {}
    # Whatever ends the reading, what was read until then is written.
    with file:
        table = csv.writer(file)
        try:
            with connect(options.url, additional_headers=headers, compression=None, max_size=None) as socket:
                socket.recv()  # ready
                file.truncate(0)
                table.writerow(["seconds", "face", "x", "y", "width", "height", "emotion", *emotions])
                for at, picture in tqdm(source, total=source.frames, unit="frame"):
                    if options.seconds is not None and at >= options.seconds:
                        break
                    faces = ask(socket, at, picture)
                    for face in faces:
                        box = [face["box"][key] for key in ("x", "y", "width", "height")]
                        probabilities = [face["probabilities"][emotion] for emotion in emotions]
                        rows.append([round(at, 3), face["id"], *box, face["emotion"], *probabilities])
                        table.writerow(rows[-1])
                    draw(picture, faces)
                    film.show(picture, at)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
        except (OSError, WebSocketException, ValueError) as error:
            fault = f"error: {options.url}: {error}"
        finally:
            film.close()
            source.close()
    if fault and not rows:
        sys.exit(fault)
    seen = tracks(rows)
    plot(seen, emotions, Path(f"{options.out}.png"))
    print(f"{len(rows)} readings of {len(seen)} faces; written: {options.out}.mp4, .csv, .png")
    if fault:
        print(f"{fault} (what was read until then is written)", file=sys.stderr)
    return 1 if fault else 0


if __name__ == "__main__":
    sys.exit(main())
