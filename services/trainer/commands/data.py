"""Commands that make data: `prepare`, `faces`, `morphs` and `geometry`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from services.trainer.commands.arguments import GEOMETRY, Subcommands, add_data, count, new_file

if TYPE_CHECKING:
    from services.trainer.data.sources import FaceFinder

_NAMED: Final = 3  # files that are named for each reason; the report names all


def add_commands(subcommands: Subcommands) -> None:
    """Every command of this file."""
    _add_prepare(subcommands)
    _add_faces(subcommands)
    _add_morphs(subcommands)
    _add_geometry(subcommands)


def _add_prepare(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("prepare", help="check and pack FER2013's CSV or class folders into one data file")
    parser.add_argument(
        "source", type=Path, help="fer2013.csv (plain, .gz, .bz2, .xz) or a folder with train/ and test/"
    )
    parser.add_argument("--votes", type=Path, help="FER+'s fer2013new.csv, one row per row of the CSV")
    parser.add_argument("--out", type=new_file, default="data/fer2013.npz", help="data file to write (%(default)s)")
    parser.add_argument(
        "--detect", action="store_true", help="find the face in each photo of the folders, and cut it out"
    )
    parser.add_argument("--yunet", type=Path, help="with --detect: find them with YuNet, from its .onnx")
    parser.add_argument("--name", help="what cards call the data (FER2013 for a CSV, the folder's name for folders)")
    parser.set_defaults(run=_run_prepare)


def _run_prepare(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from services.trainer.data.prepare import left_out_by_problem, prepare
    from services.trainer.errors import DataError

    if options.yunet and not options.detect:
        raise DataError("--yunet is the detector of --detect: add --detect, or leave --yunet out.")
    finder = _finder(options) if options.detect else None
    report = prepare(
        options.source,
        options.votes,
        options.out,
        lambda samples: tqdm(samples, unit="image"),
        finder,
        options.name,
    )
    print(f"{report['kept']} of {report['read']} images kept")
    for reason, sources in left_out_by_problem(report).items():
        more = f" and {len(sources) - _NAMED} more" if len(sources) > _NAMED else ""
        print(f"  {len(sources)} left out ({reason}): {', '.join(sources[:_NAMED])}{more}")
    print(
        f"written: {options.out}, {options.out.with_suffix('.report.json')}, {options.out.with_suffix('.classes.png')}"
    )


def _add_faces(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("faces", help="cut faces without labels out of photos, for teachers to label")
    parser.add_argument("archive", type=Path, help="folder or .zip of photos")
    parser.add_argument("--yunet", type=Path, help="find them with YuNet, from its .onnx")
    parser.add_argument("--name", help="what cards call them (the archive's name)")
    parser.add_argument("--out", type=new_file, required=True, help="file to write")
    parser.set_defaults(run=_run_faces)


def _run_faces(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from services.trainer.data.faces import collect_faces

    faces, found = collect_faces(
        options.archive,
        _finder(options),
        options.name or options.archive.resolve().stem,
        lambda data: tqdm(data, unit="photo"),
    )
    faces.save(options.out)
    print(
        f"{len(faces.pixels)} faces of {found.read} photos; {found.without_face} without a face, {found.damaged} damaged"
    )
    print(f"written: {options.out}")


def _add_morphs(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("morphs", help="make new faces out of the training faces, for teachers to label")
    add_data(parser)
    parser.add_argument("--count", type=count, default=90_000, help="faces to make (%(default)s)")
    parser.add_argument("--seed", type=count, default=1, help="another seed gives other faces (%(default)s)")
    parser.add_argument("--beside", type=Path, help="file of faces to keep with them")
    parser.add_argument("--out", type=new_file, required=True, help="file to write")
    parser.set_defaults(run=_run_morphs)


def _run_morphs(options: argparse.Namespace) -> None:
    from services.trainer.data.dataset import Dataset
    from services.trainer.data.faces import Faces
    from services.trainer.data.morphs import morph_faces

    beside = Faces.load(options.beside) if options.beside else None
    faces = morph_faces(Dataset.load(options.data), options.count, options.seed, beside)
    faces.save(options.out)
    print(f"{len(faces.pixels)} faces, {options.count} of them morphed; written: {options.out}")


def _add_geometry(subcommands: Subcommands) -> None:
    parser = subcommands.add_parser("geometry", help="measure where detectors draw their boxes in the data's images")
    add_data(parser)
    parser.add_argument("--yunet", type=Path, help="YuNet's .onnx, to measure it too")
    parser.add_argument("--detector", type=Path, help="directory of our own detector, to measure it too")
    parser.add_argument("--no-haar", action="store_true", help="keep what --out has of Haar, which takes longest")
    parser.add_argument("--images", type=int, default=3000, help="training images to measure on (%(default)s)")
    parser.add_argument("--out", type=new_file, required=True, help="JSON to write")
    parser.set_defaults(run=_run_geometry)


def _run_geometry(options: argparse.Namespace) -> None:
    from services.trainer.data.dataset import Dataset
    from services.trainer.data.geometry import measure, write_geometry
    from shared.assembly import open_detector
    from shared.detectors import DetectorFiles

    detectors = [] if options.no_haar else [open_detector("haar")]
    if options.detector:
        detectors.append(open_detector("mien", DetectorFiles(mien=options.detector)))
    if options.yunet:
        detectors.append(open_detector("yunet", DetectorFiles(yunet=options.yunet)))
    measured = measure(detectors, Dataset.load(options.data), options.images)
    for name, detector in measured["detectors"].items():
        print(f"{name}: found {detector['found']:.1%}, median box {detector['median']}, spread {detector['spread']}")
    write_geometry(measured, options.out)
    print(f"written: {options.out}")


def _finder(options: argparse.Namespace) -> "FaceFinder":
    from services.trainer.data.geometry import read_geometry
    from services.trainer.data.sources import FaceFinder
    from shared.assembly import open_detector
    from shared.detectors import DetectorFiles

    detector = open_detector("yunet", DetectorFiles(yunet=options.yunet)) if options.yunet else open_detector()
    return FaceFinder(detector, read_geometry(GEOMETRY)[detector.name])
