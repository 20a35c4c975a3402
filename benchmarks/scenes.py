"""What benchmarks look at: scenes made from a public-domain photo."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter


def scene_jpeg(width: int, height: int) -> bytes:
    """The astronaut of scikit-image at (height, width) as a JPEG of quality 90."""
    from skimage import data

    buffer = io.BytesIO()
    Image.fromarray(data.astronaut()).resize((width, height), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def pictures(folder: Path) -> list[bytes]:
    """The JPEGs of `folder`; where there are none, the astronaut at 350x350."""
    return [path.read_bytes() for path in sorted(folder.glob("*.jpg"))] or [scene_jpeg(350, 350)]


@dataclass(frozen=True, slots=True)
class LabelledPicture:
    """A JPEG, and of each face in it the centre (x, y in pixels) and the emotion that people named."""

    data: bytes
    faces: list[tuple[tuple[float, float], str]]


def labelled(folder: Path) -> list[LabelledPicture]:
    """The photos of `folder/labels.csv` (file, emotion), each with one face at its centre; or the astronaut, who smiles."""
    if not (folder / "labels.csv").is_file():
        return [LabelledPicture(scene_jpeg(350, 350), [((154, 80), "happy")])]
    with (folder / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    pictures = []
    for row in rows:
        data = (folder / row["file"]).read_bytes()
        width, height = Image.open(io.BytesIO(data)).size
        pictures.append(LabelledPicture(data, [((width / 2, height / 2), row["emotion"])]))
    return pictures


def crowds(pictures: Sequence[LabelledPicture], count: int) -> list[LabelledPicture]:
    """Scenes of 1280x720 with one to five of the faces, 130 to 300 pixels each with their surroundings, over a blur."""
    made, rng = [], np.random.default_rng(0)
    for number in range(count):
        canvas = Image.open(io.BytesIO(scene_jpeg(1280, 720))).filter(ImageFilter.GaussianBlur(40))
        faces = []
        for place in rng.permutation(8)[: number % 5 + 1]:
            picture = pictures[int(rng.integers(len(pictures)))]
            image, side = Image.open(io.BytesIO(picture.data)).convert("RGB"), int(rng.integers(130, 301))
            left = int(place % 4 * 320 + rng.integers(0, 321 - side))
            top = int(place // 4 * 360 + rng.integers(0, 361 - side))
            canvas.paste(image.resize((side, side), Image.Resampling.LANCZOS), (left, top))
            (x, y), emotion = picture.faces[0]
            faces.append(((left + x * side / image.width, top + y * side / image.height), emotion))
        buffer = io.BytesIO()
        canvas.save(buffer, "JPEG", quality=90)
        made.append(LabelledPicture(buffer.getvalue(), faces))
    return made
