"""Read the expressions in a video file, a webcam or an RTSP camera through a Mien server.

    pip install opencv-python-headless websockets tqdm matplotlib
    python examples/stream_video.py talk.mp4 --out talk        # a file
    python examples/stream_video.py 0 --seconds 30             # the first webcam
    python examples/stream_video.py rtsp://camera/stream --seconds 60

Writes OUT.mp4 (boxes and labels drawn over the video), OUT.csv (a line for each face of each frame) and OUT.png (the
emotions over time). A file is read frame by frame, so nothing is missed; a camera at the pace of the server.
"""

import argparse
import csv
import itertools
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from tqdm import tqdm
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

LIVE_RATE = 15.0  # frames a second of the film of a camera
COLORS = {
    "angry": "#c9372c", "disgust": "#7a9a01", "fear": "#8250df", "happy": "#b77900",
    "neutral": "#7d8590", "sad": "#2f7de1", "surprise": "#d6409f",
}  # fmt: skip


def source_of(name: str) -> tuple[cv2.VideoCapture, float, bool]:
    """A video, its frames a second, and whether it is live."""
    live = name.isdigit() or "://" in name
    capture = cv2.VideoCapture(int(name) if name.isdigit() else name)
    if not capture.isOpened():
        sys.exit(f"error: {name} cannot be opened as a video.")
    return capture, (LIVE_RATE if live else capture.get(cv2.CAP_PROP_FPS) or LIVE_RATE), live


def frames(capture: cv2.VideoCapture, rate: float, live: bool) -> Iterator[tuple[float, np.ndarray]]:
    """(time in seconds, picture): of a file as its frames are numbered, of a camera as time passes."""
    started = time.monotonic()
    for number in itertools.count():
        there, picture = capture.read()
        if not there:
            return
        yield time.monotonic() - started if live else number / rate, picture


def ask(socket: ClientConnection, picture: np.ndarray) -> list[dict[str, Any]]:
    """The faces of one picture; none, and a line that says why, where the server could not read it."""
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
    """The labelled video. A camera's pictures are repeated as needed, so that the film lasts as long as life did."""

    def __init__(self, path: Path, rate: float) -> None:
        self._path, self._rate, self._writer, self._written = path, rate, None, 0

    def show(self, picture: np.ndarray, at: float) -> None:
        """Write a picture that was seen `at` so many seconds."""
        if self._writer is None:
            size = (picture.shape[1], picture.shape[0])
            self._writer = cv2.VideoWriter(str(self._path), cv2.VideoWriter.fourcc(*"mp4v"), self._rate, size)
        while self._written <= round(at * self._rate):
            self._writer.write(picture)
            self._written += 1

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()


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

    capture, rate, live = source_of(options.source)
    file = table_file(Path(f"{options.out}.csv"))
    rows: list[list[Any]] = []
    emotions: list[str] = list(COLORS)
    film, fault = Film(Path(f"{options.out}.mp4"), rate), ""
    headers = {"X-API-Key": options.key} if options.key else {}
    total = None if live else int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) or None
    # Whatever ends the reading, what was read until then is written.
    with file:
        table = csv.writer(file)
        try:
            with connect(options.url, additional_headers=headers, compression=None, max_size=None) as socket:
                socket.recv()  # ready
                file.truncate(0)
                table.writerow(["seconds", "face", "x", "y", "width", "height", "emotion", *emotions])
                for at, picture in tqdm(frames(capture, rate, live), total=total, unit="frame"):
                    if options.seconds is not None and at >= options.seconds:
                        break
                    faces = ask(socket, picture)
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
            capture.release()
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
