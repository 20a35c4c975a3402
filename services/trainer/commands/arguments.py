"""Arguments that several commands share, checked before a command begins its work."""

import argparse
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, get_args

from shared.boxes import DetectorName

if TYPE_CHECKING:
    from shared.analyzer import Analyzer

GEOMETRY: Final = Path(__file__).parents[1] / "data/geometry.json"
Subcommands: TypeAlias = Any  # what add_subparsers returns; argparse has no public name for it


def new_file(text: str) -> Path:
    """A file to write. An hour of training must not end with a folder that cannot be written."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a folder; name a file")
    return _writable(path)


def new_folder(text: str) -> Path:
    """A folder to write."""
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a file; name a folder")
    return _writable(path)


def share(text: str) -> float:
    """A share of something, of which some is kept and some is not."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is no share; give a number above 0 and below 1")
    return value


def count(text: str) -> int:
    """A number of things, at least one."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of 1 or more")
    return int(text)


def add_data(parser: argparse.ArgumentParser) -> None:
    """The data file."""
    parser.add_argument(
        "--data", type=Path, default=Path("data/fer2013.npz"), help="data file of prepare (%(default)s)"
    )


def add_detector(parser: argparse.ArgumentParser) -> None:
    """Which detector finds the faces, and whether the card is told."""
    names = ("auto", *get_args(DetectorName))
    parser.add_argument("--detector", choices=names, default="auto", help="auto: the best installed (%(default)s)")
    parser.add_argument("--yunet", type=Path, help="YuNet's .onnx (where `make yunet` puts it)")
    parser.add_argument("--card", action="store_true", help="write the result into the model's manifest and card")


def analyzer_of(options: argparse.Namespace) -> "Analyzer":
    """The analyzer of `options.model` with the detector of `add_detector`."""
    from shared.assembly import open_analyzer
    from shared.detectors import YUNET_MODEL, DetectorFiles

    return open_analyzer(options.model, options.detector, DetectorFiles(yunet=options.yunet or YUNET_MODEL))


def _writable(path: Path) -> Path:
    """`path`, which need not exist yet, if its nearest existing folder can be written."""
    there = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    folder = there if there.is_dir() else there.parent
    if (there != path and not there.is_dir()) or not os.access(folder, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"{path} cannot be written: {there} is not a folder that you may write to")
    return path
