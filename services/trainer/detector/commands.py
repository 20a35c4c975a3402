"""What the detector's commands do, and what they print."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.trainer.detector.sources import Kind


def run_prepare(options: argparse.Namespace) -> None:
    import cv2
    from tqdm import tqdm

    from services.trainer.detector.prepare import prepare

    cv2.setNumThreads(1)
    archives: dict[Kind, Path] = {"people": options.people, "faces": options.faces, "scenes": options.scenes}
    report = prepare(archives, options.yunet, options.out, lambda names: tqdm(names, unit="image"))
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
