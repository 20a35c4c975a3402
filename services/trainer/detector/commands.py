"""What the detector's commands do, and what they print."""

import argparse
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from services.trainer.commands.arguments import new_file, new_folder

if TYPE_CHECKING:
    from services.trainer.detector.sources import Kind

CONFIG: Final = Path(__file__).parent / "detector.toml"
DATA: Final = Path("data/detector")
LEAST_FACE_PX: Final = 16.0


def add_commands(parser: argparse.ArgumentParser) -> None:
    """The commands below `detector`."""
    subcommands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_making(subcommands)
    _add_shipping(subcommands)


def _add_making(subcommands: Any) -> None:
    prepare = subcommands.add_parser("prepare", help="label and pack the pictures that scenes are made of")
    prepare.add_argument("--people", type=Path, required=True, help="zip of photos of people with their surroundings")
    prepare.add_argument("--faces", type=Path, required=True, help="zip of faces, cut tightly")
    prepare.add_argument("--scenes", type=Path, required=True, help="zip of places, most without people")
    prepare.add_argument("--yunet", type=Path, required=True, help="YuNet's .onnx, which says where faces are")
    prepare.add_argument("--limit", type=int, help="pictures of each zip (all)")
    prepare.add_argument("--out", type=new_folder, default=str(DATA), help="folder to write (%(default)s)")
    prepare.set_defaults(run=run_prepare)

    train = subcommands.add_parser("train", help="train the network; the same command resumes a run that was stopped")
    train.add_argument("--config", type=Path, default=CONFIG, help="TOML file (the one of the detector that ships)")
    train.add_argument("--data", type=Path, default=DATA, help="folder of prepare (%(default)s)")
    train.add_argument("--workdir", type=new_folder, required=True, help="folder of this run")
    train.add_argument("--threads", type=int, default=0, help="CPU threads of the network (all)")
    train.set_defaults(run=run_train, resumes=True)


def _add_shipping(subcommands: Any) -> None:
    evaluate = subcommands.add_parser("evaluate", help="recall and false alarms of detectors, in one run")
    evaluate.add_argument("--detector", type=Path, help="directory of our own")
    evaluate.add_argument("--yunet", type=Path, help="YuNet's .onnx")
    evaluate.add_argument("--haar", action="store_true", help="Haar too, which takes a long time")
    evaluate.add_argument("--data", type=Path, default=DATA, help="folder of prepare; its held-out pictures are used")
    evaluate.add_argument("--faces", type=Path, help="zip of tight faces with labels.csv (file, race)")
    evaluate.add_argument("--photos", type=Path, help="folder of photos with a face each")
    evaluate.add_argument("--max-side-px", type=int, default=1024, help="as MIEN_DETECT_SIDE_PX (%(default)s)")
    evaluate.add_argument("--out", type=new_file, required=True, help="JSON to write")
    evaluate.set_defaults(run=run_evaluate)

    export = subcommands.add_parser("export", help="write model.onnx, manifest.json and card.md for the service")
    export.add_argument("--workdir", type=Path, required=True, help="folder of the run")
    export.add_argument("--data", type=Path, default=DATA, help="folder of prepare (%(default)s)")
    export.add_argument("--figures", type=Path, help="JSON of evaluate, for the card")
    export.add_argument(
        "--least-face-px", type=float, default=LEAST_FACE_PX, help="smallest face found nearly always (%(default)s)"
    )
    export.add_argument("--out", type=new_folder, required=True, help="detector directory to write")
    export.set_defaults(run=run_export)


def run_prepare(options: argparse.Namespace) -> None:
    import cv2
    from tqdm import tqdm

    from services.trainer.detector.prepare import YuNetLabeller, prepare

    cv2.setNumThreads(1)
    archives: dict[Kind, Path] = {"people": options.people, "faces": options.faces, "scenes": options.scenes}
    report = prepare(
        archives,
        YuNetLabeller(options.yunet),
        options.out,
        lambda names: tqdm(list(islice(names, options.limit)), unit="image"),
    )
    for kind, counts in report["counts"].items():
        print(f"{kind}: " + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items()))
    print(f"written: {options.out}")


def run_train(options: argparse.Namespace) -> None:
    import cv2

    from services.trainer.detector.config import load_detector_config
    from services.trainer.detector.train import train

    cv2.setNumThreads(1)
    config = load_detector_config(options.config)
    if options.threads:
        _limit_threads(options.threads)
    train(config, options.data, options.workdir, _print)


def _limit_threads(threads: int) -> None:
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow

        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)


def _print(record: dict[str, float]) -> None:
    print("  ".join(f"{name} {value}" for name, value in record.items()), flush=True)


def run_evaluate(options: argparse.Namespace) -> None:
    import cv2

    from services.trainer.detector.judge import BASELINE, YuNetThroughOpenCV, judge, write_figures
    from services.trainer.detector.sources import Sources
    from shared.assembly import open_detector
    from shared.detectors import DetectorFiles
    from shared.pipeline.detect import Detector

    cv2.setNumThreads(1)
    detectors: dict[str, Detector] = {}
    timed: dict[str, Detector] = {}
    side_px = options.max_side_px
    if options.haar:
        detectors["haar"] = open_detector("haar", max_side_px=side_px)
    if options.yunet:
        detectors["yunet"] = open_detector("yunet", DetectorFiles(yunet=options.yunet), side_px)
        timed[BASELINE] = YuNetThroughOpenCV(options.yunet, side_px)
    if options.detector:
        detectors["mien"] = open_detector("mien", DetectorFiles(mien=options.detector), side_px)
    figures = judge(
        detectors,
        timed,
        Sources.load(options.data),
        options.faces,
        options.photos,
        lambda name, value: print(f"{name}: {value}", flush=True),
    )
    write_figures(figures, options.out)
    print(f"written: {options.out}")


def run_export(options: argparse.Namespace) -> None:
    import json

    from services.trainer.detector.export import export

    figures = json.loads(options.figures.read_text(encoding="utf-8")) if options.figures else {}
    manifest = export(options.workdir, options.data, figures, options.least_face_px, options.out)
    threshold = manifest.training["threshold"]
    print(
        f"{manifest.parameters:,} parameters, {manifest.training['steps']} steps; threshold {threshold['score']}: "
        f"recall {threshold['recall']:.3f}, precision {threshold['precision']:.3f} on composed scenes"
    )
    print(f"written: {options.out}")
