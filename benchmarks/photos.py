"""`python -m benchmarks.photos FOLDER`: accuracy on labelled photos, the whole way, with each detector.

FOLDER holds photos and labels.csv with the columns file and emotion. A photo counts as right when its largest face shows
the labelled emotion; one without a face is wrong.
"""

import argparse
import csv
from pathlib import Path

from services.api.settings import Settings
from shared.analyzer import Analyzer, Options
from shared.emotions import EMOTIONS
from shared.manifest import load_manifest
from shared.pipeline.classify import open_classifier
from shared.pipeline.decode import ImageLimits
from shared.pipeline.detect import Detector, HaarDetector
from shared.pipeline.yunet import open_yunet


def main() -> None:
    """Print a line for each detector."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", type=Path, nargs="*", help="model directories (MIEN_MODEL)")
    options, settings = parser.parse_args(), Settings()
    with (options.folder / "labels.csv").open(newline="") as file:
        labels = {row["file"]: row["emotion"] for row in csv.DictReader(file) if row["emotion"] in EMOTIONS}
    detectors: list[Detector] = [HaarDetector(settings.detect_side_px)]
    if settings.yunet_model.is_file():
        detectors.append(open_yunet(settings.yunet_model, settings.detect_side_px))
    for directory in options.models or [settings.model]:
        manifest = load_manifest(directory)
        classifier = open_classifier(directory, manifest, threads=0)
        for detector in detectors:
            analyzer = Analyzer(manifest, classifier, detector, ImageLimits())
            found = right = 0
            for name, emotion in labels.items():
                faces = analyzer.analyze((options.folder / name).read_bytes(), Options()).faces
                found += bool(faces)
                right += bool(faces) and faces[0].emotion == emotion
            total = len(labels)
            print(
                f"{manifest.name} {manifest.version} {detector.name:6} face found in {found / total:6.1%}, "
                f"right {right / total:6.1%} of {total} photos, {right / max(found, 1):6.1%} of those with a face"
            )


if __name__ == "__main__":
    main()
