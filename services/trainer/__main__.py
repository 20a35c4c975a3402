"""The trainer's command line: `python -m services.trainer --help`."""

import argparse
import os
import sys
from pathlib import Path
from typing import get_args

from services.trainer import commands
from services.trainer.detector import commands as detector_commands
from shared.boxes import DetectorName
from shared.errors import MienError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 when it is done, 2 with one line that says what to do when it cannot be."""
    options = _parser().parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes would bury ours
    try:
        options.run(options)
    except MienError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(
            f"error: The package {error.name} is missing. `make trainer` installs what the trainer needs; another "
            f"KERAS_BACKEND than tensorflow is installed by itself: `pip install {error.name}`.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        resumes = options.run in (commands.run_train, commands.run_prune, detector_commands.run_train)
        print("\nstopped" + "; the same command goes on from the last whole epoch" * resumes, file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.trainer", description=__doc__)
    subcommands = parser.add_subparsers(required=True, metavar="COMMAND")

    prepare = subcommands.add_parser("prepare", help="check and pack FER2013's CSV or class folders into one data file")
    prepare.add_argument(
        "source", type=Path, help="fer2013.csv (plain, .gz, .bz2, .xz) or a folder with train/ and test/"
    )
    prepare.add_argument("--votes", type=Path, help="FER+'s fer2013new.csv, one row per row of the CSV")
    prepare.add_argument("--out", type=Path, default=Path("data/fer2013.npz"), help="data file to write (%(default)s)")
    prepare.add_argument(
        "--detect", action="store_true", help="find the face in each photo of the folders, and cut it out"
    )
    prepare.add_argument("--yunet", type=Path, help="with --detect: YuNet's .onnx, which misses fewer faces than Haar")
    prepare.add_argument("--name", help="what cards call the data (FER2013 for a CSV, the folder's name for folders)")
    prepare.set_defaults(run=commands.run_prepare)

    faces = subcommands.add_parser("faces", help="cut unlabeled faces out of photos, for teachers to label")
    faces.add_argument("archive", type=Path, help="folder or .zip of photos")
    faces.add_argument("--yunet", type=Path, help="YuNet's .onnx, which misses fewer faces than Haar")
    faces.add_argument("--name", help="what cards call them (the archive's name)")
    faces.add_argument("--out", type=Path, required=True, help="file to write")
    faces.set_defaults(run=commands.run_faces)

    teach = subcommands.add_parser("teach", help="let trained models label the training faces, and unlabeled ones")
    teach.add_argument("teachers", type=Path, nargs="+", help="work directories of runs, or model directories")
    _add_data(teach)
    teach.add_argument("--faces", type=Path, help="file of faces to label as well")
    teach.add_argument("--out", type=Path, required=True, help="file to write, for train --taught")
    teach.set_defaults(run=commands.run_teach)

    train = subcommands.add_parser("train", help="train a network; the same command resumes a run that was stopped")
    train.add_argument("--config", type=Path, required=True, help="TOML file, see services/trainer/configs/")
    _add_data(train)
    train.add_argument("--workdir", type=Path, required=True, help="folder of this run")
    train.add_argument(
        "--init", type=Path, help="start from the weights of this .keras file or model directory of the same network"
    )
    train.add_argument(
        "--taught", type=Path, help="file of teach: teachers' answers, part of the targets (teacher_weight)"
    )
    train.add_argument(
        "--faces", type=Path, help="file of faces: unlabeled faces that teachers labeled (unlabeled_share)"
    )
    train.add_argument(
        "--weights",
        default="imagenet",
        help="of a network from keras.applications: imagenet (downloads), a local file, or none (%(default)s); "
        "of mobilenet-v1: EmotiEffLib's mobilenet_7.tflite, or none",
    )
    train.add_argument("--devices", help="2 or gpu:2 spreads each batch over two GPUs (KERAS_BACKEND=jax)")
    train.set_defaults(run=commands.run_train)

    evaluate = subcommands.add_parser("evaluate", help="score a run or a model directory")
    evaluate.add_argument("target", type=Path, help="work directory of a run, or model directory")
    _add_data(evaluate)
    evaluate.add_argument(
        "--split", choices=("train", "validation", "test"), help="only this one (validation and test)"
    )
    evaluate.add_argument(
        "--flip", action="store_true", help="read each face and its mirror image, as MIEN_FLIP=on does"
    )
    evaluate.add_argument(
        "--out", type=Path, help="JSON to write (evaluation.json in the work directory, for both splits)"
    )
    evaluate.set_defaults(run=commands.run_evaluate)

    geometry = subcommands.add_parser("geometry", help="measure where detectors draw their boxes in the data's images")
    _add_data(geometry)
    geometry.add_argument("--yunet", type=Path, help="YuNet's .onnx, to measure it too")
    geometry.add_argument("--detector", type=Path, help="directory of our own detector, to measure it too")
    geometry.add_argument("--images", type=int, default=3000, help="training images to measure on (%(default)s)")
    geometry.add_argument("--out", type=Path, required=True, help="JSON to write")
    geometry.set_defaults(run=commands.run_geometry)

    export = subcommands.add_parser("export", help="write model.onnx, manifest.json and card.md for the API")
    export.add_argument("--workdir", type=Path, required=True, help="folder of the run")
    _add_data(export)
    export.add_argument(
        "--geometry",
        type=Path,
        default=commands.GEOMETRY,
        help="measurement of geometry (shipped)",
    )
    export.add_argument("--out", type=Path, required=True, help="model directory to write, models/NAME")
    export.set_defaults(run=commands.run_export)

    quantize = subcommands.add_parser("quantize", help="make the INT8 model of a model directory")
    quantize.add_argument("model", type=Path, help="model directory of export")
    _add_data(quantize)
    quantize.add_argument("--out", type=Path, required=True, help="model directory to write")
    quantize.add_argument(
        "--cpu", choices=("auto", "vnni", "avx2", "arm"), default="auto", help="that it is meant for (auto: this one)"
    )
    quantize.add_argument(
        "--max-loss",
        type=float,
        default=0.005,
        help="validation accuracy that any answer may lose (%(default)s)",
    )
    quantize.set_defaults(run=commands.run_quantize)

    prune = subcommands.add_parser("prune", help="take channels out of a trained network and fine-tune it")
    prune.add_argument("--workdir", type=Path, required=True, help="folder of the trained run")
    _add_data(prune)
    prune.add_argument("--keep", type=float, default=0.5, help="share of each block's inner channels (%(default)s)")
    prune.add_argument("--epochs", type=int, default=10, help="of fine-tuning (%(default)s)")
    prune.add_argument("--out", type=Path, required=True, help="work directory of the pruned run")
    prune.set_defaults(run=commands.run_prune)

    report = subcommands.add_parser("report", help="write report.html: scores, curves, faces, calibration, robustness")
    report.add_argument("target", type=Path, help="work directory of a run, or model directory")
    _add_data(report)
    report.add_argument("--split", choices=("validation", "test"), default="test", help="(%(default)s)")
    report.add_argument("--out", type=Path, required=True, help="folder to write")
    report.set_defaults(run=commands.run_report)

    robustness = subcommands.add_parser("robustness", help="accuracy when pictures get worse")
    robustness.add_argument("targets", type=Path, nargs="+", help="work directories or model directories")
    _add_data(robustness)
    robustness.add_argument("--split", choices=("validation", "test"), default="validation", help="(%(default)s)")
    robustness.add_argument("--card", action="store_true", help="write the table into these model directories' cards")
    robustness.add_argument("--out", type=Path, default=Path("robustness"), help="stem of .json and .png (%(default)s)")
    robustness.set_defaults(run=commands.run_robustness)

    steadiness = subcommands.add_parser("steadiness", help="how much the answer moves when photos hardly change")
    steadiness.add_argument("model", type=Path, help="model directory")
    steadiness.add_argument("photos", type=Path, help="folder or .zip of photos of people")
    _add_detector(steadiness)
    steadiness.set_defaults(run=commands.run_steadiness)

    groups = subcommands.add_parser("groups", help="what a model does on photos of different groups of people")
    groups.add_argument("model", type=Path, help="model directory")
    groups.add_argument("images", type=Path, help="folder or .zip of photos of people")
    groups.add_argument(
        "table", help="CSV, by itself or among the images: file, columns to group by, and perhaps emotion"
    )
    groups.add_argument("--name", help="what the card calls the images (their folder's or archive's name)")
    _add_detector(groups)
    groups.set_defaults(run=commands.run_groups)

    baselines = subcommands.add_parser("baselines", help="majority class, HOG and LBP with SVM on the same splits")
    _add_data(baselines)
    baselines.add_argument("--out", type=Path, default=Path("baselines.json"), help="JSON to write (%(default)s)")
    baselines.set_defaults(run=commands.run_baselines)

    compare = subcommands.add_parser("compare", help="runs, models and baselines side by side")
    compare.add_argument("paths", type=Path, nargs="+", help="work or model directories, JSON of evaluate or baselines")
    compare.set_defaults(run=commands.run_compare)

    detector = subcommands.add_parser("detector", help="the face detector of our own: prepare, train, evaluate, export")
    detector_commands.add_commands(detector)
    return parser


def _add_detector(parser: argparse.ArgumentParser) -> None:
    names = ("auto", *get_args(DetectorName))
    parser.add_argument("--detector", choices=names, default="auto", help="auto: the best installed (%(default)s)")
    parser.add_argument("--yunet", type=Path, help="YuNet's .onnx (where `make yunet` puts it)")
    parser.add_argument("--card", action="store_true", help="write the result into the model's manifest and card")


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, default=Path("data/fer2013.npz"), help="data file of prepare (%(default)s)"
    )


if __name__ == "__main__":
    sys.exit(main())
