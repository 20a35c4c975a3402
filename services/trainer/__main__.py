"""The trainer's command line: `python -m services.trainer --help`."""

import argparse
import os
import sys
from pathlib import Path

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
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from the last whole epoch", file=sys.stderr)
        return 130
    return 0


# Each command imports what it needs when it runs: `prepare` needs no Keras, and `--help` needs nothing.


def _prepare(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from services.trainer.prepare import prepare

    report = prepare(options.source, options.votes, options.out, lambda samples: tqdm(samples, unit="image"))
    print(f"{report['kept']} of {report['read']} images kept; left out: {report['left_out_by_reason'] or 'none'}")
    print(
        f"written: {options.out}, {options.out.with_suffix('.report.json')}, {options.out.with_suffix('.classes.png')}"
    )


def _train(options: argparse.Namespace) -> None:
    from services.trainer.config import load_config
    from services.trainer.dataset import Dataset
    from services.trainer.train import train

    history = train(load_config(options.config), Dataset.load(options.data), options.workdir)
    best = max(history, key=lambda record: record["val_accuracy"])
    print(f"best: epoch {best['epoch']}, validation accuracy {best['val_accuracy']:.4f}; kept in {options.workdir}")


def _evaluate(options: argparse.Namespace) -> None:
    from services.trainer.dataset import SPLITS, Dataset
    from services.trainer.evaluate import as_table, evaluate, open_predictor, write_evaluation

    splits = [options.split] if options.split else SPLITS[1:]
    results = evaluate(open_predictor(options.target), Dataset.load(options.data), splits)
    print(as_table(results))
    out = options.out or (options.target / "evaluation.json" if (options.target / "run.json").exists() else None)
    if out:
        write_evaluation(results, out)
        print(f"\nwritten: {out}")


def _geometry(options: argparse.Namespace) -> None:
    from services.trainer.dataset import Dataset
    from services.trainer.geometry import measure, write_geometry
    from shared.pipeline.detect import Detector, HaarDetector, YuNetDetector

    detectors: list[Detector] = [HaarDetector(max_side_px=1024)]
    if options.yunet:
        detectors.append(YuNetDetector(options.yunet, max_side_px=1024))
    measured = measure(detectors, Dataset.load(options.data), options.images)
    for name, detector in measured["detectors"].items():
        print(f"{name}: found {detector['found']:.1%}, median box {detector['median']}, spread {detector['spread']}")
    write_geometry(measured, options.out)
    print(f"written: {options.out}")


def _export(options: argparse.Namespace) -> None:
    from services.trainer.dataset import Dataset
    from services.trainer.export import export
    from services.trainer.geometry import read_geometry

    data, geometry = Dataset.load(options.data), read_geometry(options.geometry)
    done = export(options.workdir, data, geometry, options.out)
    print(
        f"ONNX Runtime differs from Keras by {done.difference:.1e} at most; temperature {done.manifest.training['temperature']}"
    )
    for split, groups in done.manifest.metrics.items():
        print(f"{split}: " + ", ".join(f"{group} {scores['accuracy']:.4f}" for group, scores in groups.items()))
    print(f"written: {options.out} (serve it with MIEN_MODEL={options.out})")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.trainer", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    prepare = commands.add_parser("prepare", help="check and pack FER2013's CSV or class folders into one data file")
    prepare.add_argument("source", type=Path, help="fer2013.csv (plain, .gz, .xz) or a folder with train/ and test/")
    prepare.add_argument("--votes", type=Path, help="FER+'s fer2013new.csv, one row per row of the CSV")
    prepare.add_argument("--out", type=Path, default=Path("data/fer2013.npz"), help="data file to write (%(default)s)")
    prepare.set_defaults(run=_prepare)

    train = commands.add_parser("train", help="train a network; the same command resumes a run that was stopped")
    train.add_argument("--config", type=Path, required=True, help="TOML file, see services/trainer/configs/")
    _add_data(train)
    train.add_argument("--workdir", type=Path, required=True, help="folder of this run")
    train.set_defaults(run=_train)

    evaluate = commands.add_parser("evaluate", help="score a run or a model directory")
    evaluate.add_argument("target", type=Path, help="work directory of a run, or model directory")
    _add_data(evaluate)
    evaluate.add_argument(
        "--split", choices=("train", "validation", "test"), help="only this one (validation and test)"
    )
    evaluate.add_argument("--out", type=Path, help="JSON to write (evaluation.json in the work directory)")
    evaluate.set_defaults(run=_evaluate)

    geometry = commands.add_parser("geometry", help="measure where detectors draw their boxes in the data's images")
    _add_data(geometry)
    geometry.add_argument("--yunet", type=Path, help="YuNet's .onnx; without it only Haar is measured")
    geometry.add_argument("--images", type=int, default=3000, help="training images to measure on (%(default)s)")
    geometry.add_argument("--out", type=Path, required=True, help="JSON to write")
    geometry.set_defaults(run=_geometry)

    export = commands.add_parser("export", help="write model.onnx, manifest.json and card.md for the API")
    export.add_argument("--workdir", type=Path, required=True, help="folder of the run")
    _add_data(export)
    export.add_argument(
        "--geometry",
        type=Path,
        default=Path(__file__).parent / "geometry.json",
        help="measurement of geometry (shipped)",
    )
    export.add_argument("--out", type=Path, required=True, help="model directory to write, models/NAME")
    export.set_defaults(run=_export)
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, default=Path("data/fer2013.npz"), help="data file of prepare (%(default)s)"
    )


if __name__ == "__main__":
    sys.exit(main())
