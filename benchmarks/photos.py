"""`python -m benchmarks.photos FOLDER`: accuracy on labelled photos, the whole way, with each detector.

FOLDER holds photos and labels.csv with the columns file and emotion. A photo counts as right when its largest face shows
the labelled emotion; one without a face is wrong.
"""

import argparse
import csv
from pathlib import Path

from services.api.settings import Settings
from shared.analysis import Options
from shared.assembly import available_detectors, open_analyzer
from shared.emotions import EMOTIONS


def main() -> None:
    """Print a line for each detector."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", type=Path, nargs="*", help="model directories (MIEN_MODEL)")
    options, settings = parser.parse_args(), Settings()
    with (options.folder / "labels.csv").open(newline="") as file:
        labels = {row["file"]: row["emotion"] for row in csv.DictReader(file) if row["emotion"] in EMOTIONS}
    for directory in options.models or [settings.model]:
        for detector in available_detectors(settings.detector_files):
            analyzer = open_analyzer(directory, detector, settings.detector_files, threads=0)
            found = right = 0
            for name, emotion in labels.items():
                faces = analyzer.analyze((options.folder / name).read_bytes(), Options()).faces
                found += bool(faces)
                right += bool(faces) and faces[0].emotion == emotion
            total = len(labels)
            print(
                f"{analyzer.model.name} {analyzer.model.version} {detector:6} face found in {found / total:6.1%}, "
                f"right {right / total:6.1%} of {total} photos, {right / max(found, 1):6.1%} of those with a face"
            )


if __name__ == "__main__":
    main()
