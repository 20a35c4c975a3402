"""`python -m services.batch score INPUT… --out DIR`: read the faces of an archive."""

import argparse
import os
import re
import sys
from dataclasses import fields
from typing import cast, get_args

from services.batch.job import Job
from shared.answers import ANSWERS, Prior, PriorName, expected_shares
from shared.boxes import DetectorName
from shared.errors import MienError

_DEFAULT = Job()
_UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def main() -> int:
    """Run the command; 2 with one line for an error that says what to do."""
    try:
        options = _parser().parse_args()
        return _score(options)
    except MienError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(
            f"error: The package {error.name} is missing: pip install '.[batch]' installs what archives need.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on with what is left", file=sys.stderr)
        return 130


def _score(options: argparse.Namespace) -> int:
    from services.batch.commands import Request, described, score

    given = {field.name: getattr(options, field.name) for field in fields(Job)}
    given |= {
        name: os.path.abspath(given[name]) for name in ("model", "detector_model", "yunet_model")
    }  # workers start elsewhere
    request = Request(
        options.inputs, options.out, options.column, options.resume, options.csv, options.address, options.cpus
    )
    summary = score(Job(**given), request)
    print(described(options.out, summary, options.csv, options.crops))
    if summary.again:
        print(
            f"error: {summary.again:,} of the files could not be read completely; repeat the command to try again.",
            file=sys.stderr,
        )
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.batch", description="Read the faces of an archive.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    score = commands.add_parser("score", help="photos and films in, a table of faces out; goes on where it was stopped")
    score.add_argument(
        "inputs", nargs="+", metavar="INPUT",
        help="a folder, a photo, a film, a tar file, a pattern, a list (.csv, .tsv, .parquet, .txt), or a URL of these",
    )  # fmt: skip
    score.add_argument("--out", required=True, help="folder or URL to write to")
    score.add_argument(
        "--resume", action="store_true", help="go on although the output has rows of another model or other options"
    )
    score.add_argument("--csv", action="store_true", help="write faces.csv too")
    score.add_argument("--crops", action="store_true", help="write the faces as the trainer's prepare reads them")
    score.add_argument("--column", help="column of a list that holds the paths")
    score.add_argument(
        "--address",
        help="Ray cluster, HOST:PORT or auto; by default RAY_ADDRESS, else this machine alone",
        default=os.environ.get("RAY_ADDRESS"),
    )
    score.add_argument("--cpus", type=_count, help="cores to use; all without it")
    _add_film(score)
    _add_model(score)
    _add_faces(score)
    return parser


def _add_film(score: argparse.ArgumentParser) -> None:
    film = score.add_argument_group("films")
    film.add_argument(
        "--every",
        dest="every_s",
        type=_seconds,
        metavar="TIME",
        help="one frame each so often, as in 0.2s; all without it",
    )
    film.add_argument(
        "--from", dest="from_s", type=_seconds, default=0.0, metavar="TIME", help="first time, as in 90s or 1:30"
    )
    film.add_argument("--to", dest="to_s", type=_seconds, metavar="TIME", help="time before which to end")
    film.add_argument(
        "--smoothing", dest="smoothing_s", type=_seconds, default=0.5, metavar="TIME",
        help="width of the centred window over which probabilities are smoothed; 0 smooths nothing (%(default)s s)",
    )  # fmt: skip


def _add_model(score: argparse.ArgumentParser) -> None:
    model, set_to = score.add_argument_group("model, by default as in MIEN_MODEL and so on"), os.environ.get
    for name, default, text in (
        ("model", _DEFAULT.model, "model directory"),
        ("detector-model", _DEFAULT.detector_model, "directory of our own face detector"),
        ("yunet-model", _DEFAULT.yunet_model, "YuNet's file"),
    ):
        variable = f"MIEN_{name.upper().replace('-', '_')}"
        model.add_argument(f"--{name}", default=set_to(variable, default), help=f"{text} (%(default)s)")
    model.add_argument(
        "--detector", choices=("auto", *get_args(DetectorName)), help="auto is the best there is",
        default=set_to("MIEN_DETECTOR", _DEFAULT.detector),
    )  # fmt: skip
    model.add_argument(
        "--answer",
        choices=ANSWERS,
        default=set_to("MIEN_ANSWER") or None,
        help="people: as people see the face; labels: as FER2013 labels it",
    )
    model.add_argument(
        "--prior",
        type=_prior,
        default=set_to("MIEN_PRIOR") or None,
        help="natural, balanced, or seven expected shares with commas",
    )
    model.add_argument(
        "--flip",
        action="store_true",
        help="read each face with its mirror image, unless the model does so itself, at twice the time",
    )


def _add_faces(score: argparse.ArgumentParser) -> None:
    faces = score.add_argument_group("faces")
    for name, kind, text in (
        ("max_faces", _count, "most faces of a picture, the largest first"),
        ("min_confidence", _share, "least confidence of a face, 0 to 1"),
        (
            "min_face",
            float,
            "smallest face looked for: below 1 a share of the shorter side, else pixels; larger is faster",
        ),
        ("detect_side_px", _count, "longest side at which faces are searched"),
    ):
        option = f"--{name.replace('_', '-')}"
        faces.add_argument(option, type=kind, default=getattr(_DEFAULT, name), help=f"{text} (%(default)s)")


def _seconds(text: str) -> float:
    """A length of time: 0.2s, 200ms, 5min, 1:30, 1:02:03.5."""
    if found := re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|)", text):
        return float(found[1]) * _UNITS[found[2]]
    if re.fullmatch(r"(\d+:)?\d{1,2}:\d{1,2}(\.\d+)?", text):
        total = 0.0
        for part in text.split(":"):
            total = total * 60 + float(part)
        return total
    raise argparse.ArgumentTypeError(f"'{text}' is no time; write 0.2s, 200ms, 5min or 1:02:03")


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of 1 or more")
    return int(text)


def _prior(text: str) -> Prior:
    if text in ("natural", "balanced"):
        return cast(PriorName, text)
    try:
        return tuple(map(float, expected_shares([float(share) for share in text.split(",")])))
    except (ValueError, MienError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no number from 0 to 1")
    return share


if __name__ == "__main__":
    sys.exit(main())
