"""`python -m benchmarks.peers`: our HTTP service beside the library `fer`, one core each, on the same pictures.

`fer` (PyPI) is called in its own process, with its defaults, without HTTP before it; it is installed in an environment of
its own, once. Speed is shown beside recall and agreement, so that nobody wins by finding no face.
"""

import argparse
import json
import os
import subprocess
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import httpx2

from benchmarks.client import request
from benchmarks.load import Rate, middle, served
from benchmarks.scenes import LabelledPicture, crowds, labelled
from benchmarks.server import server

HOME: Final = Path(".venv-peers")
# fer without what its defaults never call (Torch with CUDA, MoviePy): five gigabytes less.
FER: Final = ("fer==25.10.3",)
NEEDS: Final = (
    "tensorflow-cpu>=2.16", "opencv-python-headless>=4.10,<5", "numpy", "pandas", "pillow", "requests", "tqdm",
    "setuptools<81",
)  # fmt: skip
TURNS: Final = 3
Found: TypeAlias = list[list[tuple[list[float], str]]]  # for each picture its faces: box (x, y, width, height), emotion


def main() -> None:
    """Print a table for each kind of picture; the last column is the ratio to fer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, default=Path("photos"), help="a folder of photos with labels.csv")
    parser.add_argument("--seconds", type=float, default=6, help="seconds for each figure (%(default)s)")
    options = parser.parse_args()
    photos = labelled(options.photos)
    python = fer_python()
    for title, pictures in (
        (f"{len(photos)} photos of one face", photos),
        ("1280x720 with 1 to 5 faces", crowds(photos, 20)),
    ):
        compare(title, pictures, python, options.seconds)


def compare(title: str, pictures: Sequence[LabelledPicture], python: Path, seconds: float) -> None:
    """One kind of picture: fer and our service in turns, both on the first core, our client on the others."""
    first, *others = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder, server(core=first, MIEN_WORKERS="1") as url:
        for number, picture in enumerate(pictures):
            (Path(folder) / f"{number:04}.jpg").write_bytes(picture.data)
        os.sched_setaffinity(0, others or [first])
        rates: dict[str, list[Rate]] = {"fer": [], "mien, HTTP, 4 clients": [], "mien, HTTP, 1 client": []}
        requests = [request("/predict", picture.data) for picture in pictures]
        found = run_fer(python, folder, 0, first)["found"]
        for _ in range(TURNS):
            fer = run_fer(python, folder, seconds / TURNS, first)
            rates["fer"].append(Rate(fer["a_second"], fer["cpu_ms"]))
            for clients in (1, 4):
                name = f"mien, HTTP, {clients} client{'s' * (clients > 1)}"
                rates[name].append(served(url, requests, clients, seconds / TURNS)[1])
        ours = ask_all(url, pictures)
        os.sched_setaffinity(0, [first, *others])
    print(f"\n{title}\n{'':24}{'images/s':>10}{'ratio':>8}{'CPU ms':>9}{'ratio':>8}", end="")
    print(f"{'recall':>9}{'agreement':>11}{'false faces':>13}")
    peer = middle(rates["fer"])
    for name, values in rates.items():
        quality, rate = judge(found if name == "fer" else ours, pictures), middle(values)
        print(f"{name:24}{rate.a_second:10.1f}{rate.a_second / peer.a_second:8.2f}", end="")
        print(f"{rate.cpu_ms:9.2f}{peer.cpu_ms / rate.cpu_ms:8.2f}{quality}")


def judge(found: Found, pictures: Sequence[LabelledPicture]) -> str:
    """Share of the faces that were found, share of all faces that got their label, and false faces."""
    faces = hits = right = false = 0
    for picture, answers in zip(pictures, found, strict=True):
        left = list(answers)
        for centre, emotion in picture.faces:
            faces += 1
            match = next((answer for answer in left if inside(centre, answer[0])), None)
            if match is not None:
                left.remove(match)
                hits += 1
                right += match[1] == emotion
        false += len(left)
    return f"{hits / faces:9.1%}{right / faces:11.1%}{false:13}"


def inside(point: tuple[float, float], box: Sequence[float]) -> bool:
    """Whether a point lies in a box."""
    return box[0] <= point[0] <= box[0] + box[2] and box[1] <= point[1] <= box[1] + box[3]


def ask_all(url: str, pictures: Sequence[LabelledPicture]) -> Found:
    """What our service finds in each picture."""
    found: Found = []
    with httpx2.Client(timeout=60) as http:
        for picture in pictures:
            answer = http.post(f"{url}/predict", content=picture.data, headers={"Content-Type": "image/jpeg"}).json()
            found.append([(list(face["box"].values()), face["emotion"]) for face in answer["faces"]])
    return found


def fer_python() -> Path:
    """The interpreter of an environment with fer, which is made where it is missing."""
    home = HOME / "fer"
    python = home / "bin/python"
    if not (home / "ready").exists():
        print(f"installing fer into {home}, once…", flush=True)
        venv.create(home, with_pip=True, clear=True)
        install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*install, *NEEDS], check=True)
        subprocess.run([*install, "--no-deps", *FER], check=True)
        (home / "ready").touch()
    return python


def run_fer(python: Path, folder: str, seconds: float, core: int) -> dict[str, Any]:
    """`a_second` and `cpu_ms` for so many seconds; with 0 the faces `found` in every picture of `folder`."""
    command = [str(python), str(Path(__file__).with_name("peer_fer.py")), folder, str(seconds), str(core)]
    quiet = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=quiet, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
