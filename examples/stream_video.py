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
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection, connect

COLORS = {  # BGR
    "angry": (44, 55, 201), "disgust": (1, 154, 122), "fear": (223, 80, 130), "happy": (0, 121, 183),
    "neutral": (144, 133, 125), "sad": (225, 125, 47), "surprise": (159, 64, 214),
}  # fmt: skip


def frames(source: str, seconds: float | None) -> Iterator[tuple[float, np.ndarray]]:
    """(time in seconds, picture) of a source: of a file as its frames are numbered, of a camera as time passes."""
    live = source.isdigit() or "://" in source
    capture = cv2.VideoCapture(int(source) if source.isdigit() else source)
    if not capture.isOpened():
        sys.exit(f"error: {source} cannot be opened as a video.")
    rate, started, number = capture.get(cv2.CAP_PROP_FPS) or 25.0, time.monotonic(), 0
    while True:
        there, picture = capture.read()
        at = time.monotonic() - started if live else number / rate
        if not there or (seconds is not None and at >= seconds):
            return
        yield at, picture
        number += 1


def ask(socket: ClientConnection, picture: np.ndarray) -> dict[str, Any]:
    """The server's answer to one picture."""
    socket.send(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())
    answer = json.loads(socket.recv())
    if answer["type"] == "error":
        sys.exit(f"error: {answer['detail']}")
    return dict(answer)


def draw(picture: np.ndarray, faces: list[dict[str, Any]]) -> None:
    """Boxes and labels over a picture."""
    size = picture.shape[1] / 1100 + 0.2
    for face in faces:
        x, y, width, height = (face["box"][key] for key in ("x", "y", "width", "height"))
        color, label = COLORS[face["emotion"]], f"{face['emotion']} {face['probabilities'][face['emotion']]:.0%}"
        (text_width, text_height), _ = cv2.getTextSize(label, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
        top = y if y > text_height + 10 else y + height + text_height + 10
        cv2.rectangle(picture, (x, y), (x + width, y + height), color, 2)
        cv2.rectangle(picture, (x, top - text_height - 10), (x + text_width + 8, top), color, -1)
        cv2.putText(picture, label, (x + 4, top - 5), cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), 1, cv2.LINE_AA)


def plot(rows: list[list[Any]], emotions: list[str], path: Path) -> None:
    """The probabilities of each face over time, stacked."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    faces: dict[int, list[list[Any]]] = defaultdict(list)
    for row in rows:
        faces[row[1]].append(row)
    longest = sorted(faces.items(), key=lambda face: -len(face[1]))[:6]
    figure = Figure(figsize=(10, 0.8 + 1.9 * max(1, len(longest))), layout="constrained")
    grid = figure.subplots(max(1, len(longest)), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (number, seen) in zip(grid, longest, strict=False):
        shares = np.array([row[7:] for row in seen], float).T
        colors = [tuple(value / 255 for value in reversed(COLORS[emotion])) for emotion in emotions]
        axes.stackplot([row[0] for row in seen], shares, labels=emotions, colors=colors)
        axes.set(ylim=(0, 1), ylabel=f"face {number}")
        axes.spines[["top", "right"]].set_visible(False)
    grid[-1].set_xlabel("seconds")
    if longest:
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=7, frameon=False)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Read a source, ask the server about each frame, write video, table and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a file, the number of a webcam, or an rtsp:// address")
    parser.add_argument("--url", default="ws://localhost:8000/stream", help="of the server (%(default)s)")
    parser.add_argument("--key", help="API key, where the server asks for one")
    parser.add_argument("--out", type=Path, default=Path("expressions"), help="stem of the files written (%(default)s)")
    parser.add_argument("--seconds", type=float, help="stop after so long")
    options = parser.parse_args()

    rows: list[list[Any]] = []
    writer = None
    headers = {"X-API-Key": options.key} if options.key else {}
    try:
        with connect(options.url, additional_headers=headers, compression=None, max_size=None) as socket:
            emotions = json.loads(socket.recv())["labels"]
            for at, picture in tqdm(frames(options.source, options.seconds), unit="frame"):
                answer = ask(socket, picture)
                for face in answer["faces"]:
                    box = [face["box"][key] for key in ("x", "y", "width", "height")]
                    probabilities = [face["probabilities"][emotion] for emotion in emotions]
                    rows.append([round(at, 3), face["id"], *box, face["emotion"], *probabilities])
                draw(picture, answer["faces"])
                if writer is None:
                    size = (picture.shape[1], picture.shape[0])
                    writer = cv2.VideoWriter(f"{options.out}.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 15, size)
                writer.write(picture)
    except KeyboardInterrupt:
        print("stopped; what was read so far is written", file=sys.stderr)
    except (OSError, InvalidHandshake, ConnectionClosed) as error:
        sys.exit(f"error: {options.url}: {error}")
    finally:
        if writer is not None:
            writer.release()
    with Path(f"{options.out}.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["seconds", "face", "x", "y", "width", "height", "emotion", *emotions])
        table.writerows(rows)
    plot(rows, emotions, Path(f"{options.out}.png"))
    print(f"{len(rows)} readings of {len({row[1] for row in rows})} faces; written: {options.out}.mp4, .csv, .png")


if __name__ == "__main__":
    main()
