"""`python -m benchmarks.steadiness PHOTOS [MODEL ...]`: how steady answers are on photos, model by model and detector by detector.

PHOTOS is a folder or .zip. docs/training.md describes each change.
"""

import argparse
from pathlib import Path

from services.api.settings import Settings
from services.trainer.data.photos import read_photos
from services.trainer.judging.steadiness import steadiness, steadiness_table
from shared.assembly import available_detectors, open_analyzer


def main() -> None:
    """Print a table for each model and detector."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("models", type=Path, nargs="*", help="model directories (MIEN_MODEL)")
    options, settings = parser.parse_args(), Settings()
    for directory in options.models or [settings.model]:
        for detector in available_detectors(settings.detector_files):
            analyzer = open_analyzer(directory, detector, settings.detector_files)
            result = steadiness(analyzer, read_photos(options.photos))
            print(
                f"{analyzer.model.name} {analyzer.model.version}, {result.answer}, {detector}: {result.photos} photos"
            )
            print(steadiness_table(result).as_text(), end="\n\n")


if __name__ == "__main__":
    main()
