"""The trainer's command line: `python -m services.trainer --help`."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shared.errors import MienError

if TYPE_CHECKING:
    from services.trainer.sources import FaceFinder

GEOMETRY: Final = Path(__file__).parent / "geometry.json"


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

    finder = _finder(options) if options.detect else None
    report = prepare(options.source, options.votes, options.out, lambda samples: tqdm(samples, unit="image"), finder)
    print(f"{report['kept']} of {report['read']} images kept; left out: {report['left_out_by_reason'] or 'none'}")
    print(
        f"written: {options.out}, {options.out.with_suffix('.report.json')}, {options.out.with_suffix('.classes.png')}"
    )


def _finder(options: argparse.Namespace) -> "FaceFinder":
    from services.trainer.geometry import read_geometry
    from services.trainer.sources import FaceFinder
    from shared.pipeline.detect import HaarDetector, YuNetDetector

    side_px = 1024
    detector = YuNetDetector(options.yunet, side_px) if options.yunet else HaarDetector(side_px)
    return FaceFinder(detector, read_geometry(GEOMETRY)[detector.name])


def _train(options: argparse.Namespace) -> None:
    from services.trainer.config import load_config
    from services.trainer.dataset import Dataset
    from services.trainer.devices import use_devices
    from services.trainer.train import Start, train

    config, data = load_config(options.config), Dataset.load(options.data)
    if options.devices:
        use_devices(options.devices)
    start = Start(None if options.weights == "none" else options.weights, options.init)
    history = train(config, data, options.workdir, start)
    best = max(history, key=lambda record: record["val_accuracy"])
    print(f"best: epoch {best['epoch']}, validation accuracy {best['val_accuracy']:.4f}; kept in {options.workdir}")


def _evaluate(options: argparse.Namespace) -> None:
    from services.trainer.dataset import SPLITS, Dataset
    from services.trainer.evaluate import as_table, evaluate, mirrored, open_predictor, write_evaluation

    splits = [options.split] if options.split else SPLITS[1:]
    predict = open_predictor(options.target)
    results = evaluate(mirrored(predict) if options.flip else predict, Dataset.load(options.data), splits)
    print(as_table(results))
    beside = options.target / "evaluation.json" if (options.target / "run.json").exists() and not options.flip else None
    out = options.out or beside
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


def _quantize(options: argparse.Namespace) -> None:
    from services.trainer.dataset import Dataset
    from services.trainer.quantize import quantize

    done = quantize(options.model, Dataset.load(options.data), options.out, options.cpu, options.most_lost)
    saved = done.comparison
    print(f"PublicTest accuracy {done.accuracy[0]:.4f} in fp32, {done.accuracy[1]:.4f} in INT8")
    print(
        f"size x{saved.size_ratio:.2f}, time x{saved.time_ratio:.2f} ({saved.ms_a_face[1]:.2f} ms a face, one thread)"
    )
    print(f"weights of {'7 bits, for CPUs without VNNI' if done.reduced_range else '8 bits'}; written: {options.out}")


def _prune(options: argparse.Namespace) -> None:
    from services.trainer.dataset import Dataset
    from services.trainer.prune import prune

    done = prune(options.workdir, Dataset.load(options.data), options.keep, options.epochs, options.out)
    whole, cut, tuned = done.accuracy
    print(f"PublicTest accuracy {whole:.4f} whole, {cut:.4f} cut, {tuned:.4f} fine-tuned")
    print(f"parameters {done.parameters[0]:,} to {done.parameters[1]:,}")
    saved = done.comparison
    print(
        f"size x{saved.size_ratio:.2f}, time x{saved.time_ratio:.2f} ({saved.ms_a_face[1]:.2f} ms a face, one thread)"
    )


def _report(options: argparse.Namespace) -> None:
    from services.trainer.dataset import Dataset
    from services.trainer.report import report

    print(f"written: {report(options.target, Dataset.load(options.data), options.out, options.split)}")


def _robustness(options: argparse.Namespace) -> None:
    import json

    from services.trainer import plots
    from services.trainer.dataset import Dataset
    from services.trainer.evaluate import open_predictor
    from services.trainer.robustness import as_markdown, robustness
    from shared.atomic import write_text

    part = Dataset.load(options.data).split(options.split)
    results = {target.name: robustness(open_predictor(target), part) for target in options.targets}
    for name, result in results.items():
        print("\n".join([f"## {name}", *as_markdown(result), ""]))
    write_text(options.out.with_suffix(".json"), json.dumps(results, indent=1) + "\n")
    plots.save(plots.robustness_curves(results), options.out.with_suffix(".png"))
    print(f"written: {options.out.with_suffix('.json')}, {options.out.with_suffix('.png')}")


def _baselines(options: argparse.Namespace) -> None:
    import json

    from services.trainer.baselines import run_baselines
    from services.trainer.compare import compare
    from services.trainer.dataset import Dataset
    from shared.atomic import write_text

    write_text(options.out, json.dumps(run_baselines(Dataset.load(options.data)), indent=1) + "\n")
    print(compare([options.out]))
    print(f"written: {options.out}")


def _compare(options: argparse.Namespace) -> None:
    from services.trainer.compare import compare

    print(compare(options.paths))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.trainer", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    prepare = commands.add_parser("prepare", help="check and pack FER2013's CSV or class folders into one data file")
    prepare.add_argument("source", type=Path, help="fer2013.csv (plain, .gz, .xz) or a folder with train/ and test/")
    prepare.add_argument("--votes", type=Path, help="FER+'s fer2013new.csv, one row per row of the CSV")
    prepare.add_argument("--out", type=Path, default=Path("data/fer2013.npz"), help="data file to write (%(default)s)")
    prepare.add_argument(
        "--detect", action="store_true", help="find the face in each photo of the folders, and cut it out"
    )
    prepare.add_argument("--yunet", type=Path, help="with --detect: YuNet's .onnx, which misses fewer faces than Haar")
    prepare.set_defaults(run=_prepare)

    train = commands.add_parser("train", help="train a network; the same command resumes a run that was stopped")
    train.add_argument("--config", type=Path, required=True, help="TOML file, see services/trainer/configs/")
    _add_data(train)
    train.add_argument("--workdir", type=Path, required=True, help="folder of this run")
    train.add_argument("--init", type=Path, help="start from the weights of this .keras file of the same network")
    train.add_argument(
        "--weights",
        default="imagenet",
        help="of a network from keras.applications: imagenet (downloads), a local file, or none (%(default)s)",
    )
    train.add_argument("--devices", help="2 or gpu:2 spreads each batch over two GPUs (KERAS_BACKEND=jax)")
    train.set_defaults(run=_train)

    evaluate = commands.add_parser("evaluate", help="score a run or a model directory")
    evaluate.add_argument("target", type=Path, help="work directory of a run, or model directory")
    _add_data(evaluate)
    evaluate.add_argument(
        "--split", choices=("train", "validation", "test"), help="only this one (validation and test)"
    )
    evaluate.add_argument(
        "--flip", action="store_true", help="read each face and its mirror image, as MIEN_FLIP=on does"
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
        default=GEOMETRY,
        help="measurement of geometry (shipped)",
    )
    export.add_argument("--out", type=Path, required=True, help="model directory to write, models/NAME")
    export.set_defaults(run=_export)

    quantize = commands.add_parser("quantize", help="make the INT8 model of a model directory")
    quantize.add_argument("model", type=Path, help="model directory of export")
    _add_data(quantize)
    quantize.add_argument("--out", type=Path, required=True, help="model directory to write")
    quantize.add_argument(
        "--cpu", choices=("auto", "vnni", "avx2", "arm"), default="auto", help="that it is meant for (auto: this one)"
    )
    quantize.add_argument(
        "--most-lost", type=float, default=0.005, help="PublicTest accuracy that may be lost (%(default)s)"
    )
    quantize.set_defaults(run=_quantize)

    prune = commands.add_parser("prune", help="take channels out of a trained network and fine-tune it")
    prune.add_argument("--workdir", type=Path, required=True, help="folder of the trained run")
    _add_data(prune)
    prune.add_argument("--keep", type=float, default=0.5, help="share of each block's inner channels (%(default)s)")
    prune.add_argument("--epochs", type=int, default=10, help="of fine-tuning (%(default)s)")
    prune.add_argument("--out", type=Path, required=True, help="work directory of the pruned run")
    prune.set_defaults(run=_prune)

    report = commands.add_parser("report", help="write report.html: scores, curves, faces, calibration, robustness")
    report.add_argument("target", type=Path, help="work directory of a run, or model directory")
    _add_data(report)
    report.add_argument("--split", choices=("validation", "test"), default="test", help="(%(default)s)")
    report.add_argument("--out", type=Path, required=True, help="folder to write")
    report.set_defaults(run=_report)

    robustness = commands.add_parser("robustness", help="accuracy when pictures get worse")
    robustness.add_argument("targets", type=Path, nargs="+", help="work directories or model directories")
    _add_data(robustness)
    robustness.add_argument("--split", choices=("validation", "test"), default="validation", help="(%(default)s)")
    robustness.add_argument("--out", type=Path, default=Path("robustness"), help="stem of .json and .png (%(default)s)")
    robustness.set_defaults(run=_robustness)

    baselines = commands.add_parser("baselines", help="majority class, HOG and LBP with SVM on the same splits")
    _add_data(baselines)
    baselines.add_argument("--out", type=Path, default=Path("baselines.json"), help="JSON to write (%(default)s)")
    baselines.set_defaults(run=_baselines)

    compare = commands.add_parser("compare", help="runs, models and baselines side by side")
    compare.add_argument("paths", type=Path, nargs="+", help="work or model directories, JSON of evaluate or baselines")
    compare.set_defaults(run=_compare)
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, default=Path("data/fer2013.npz"), help="data file of prepare (%(default)s)"
    )


if __name__ == "__main__":
    sys.exit(main())
