"""The detector's card: what it is for, how good it is, how it was made; every figure comes from the manifest."""

from typing import Any, Final

from shared.analysis import MIN_FACE_PX
from shared.boxes import POINTS
from shared.detector_manifest import DetectorManifest

_NAMES: Final = {"haar": "Haar", "yunet": "YuNet", "yunet_opencv": "YuNet through OpenCV", "mien": "this detector"}
_KINDS: Final = {
    "people": "photos of people",
    "faces": "tightly cut faces",
    "scenes": "photos of places, most without people",
}
_POINTS: Final = {"mouth_right": "right corner of the mouth", "mouth_left": "left corner of the mouth"}
_LIMITS: Final = (
    "YuNet labelled its training faces, in photos that show one person each, composed into scenes. Crowds, helmets, "
    "masks, drawings and profiles are rare in them, and it may take a body against a plain background, or one far out of focus, for a face. "
    "The composed pictures that it is scored on come from held-out photos of the same archives, which favours it "
    "over the other detectors. The times were measured in one run: compare them within a row. It finds faces; it "
    "does not recognize anyone."
)


def detector_card(manifest: DetectorManifest) -> str:
    """Markdown for card.md."""
    training = manifest.training
    return "\n".join(
        [
            "---",
            f"license: {manifest.license.lower()}",
            "pipeline_tag: object-detection",
            "---",
            "",
            f"# {manifest.name}: face detector",
            "",
            "Finds faces in a picture: a box, a confidence and five points for each "
            f"({', '.join(_POINTS.get(name, name.replace('_', ' ')) for name in POINTS)}; right and left are the person's own).",
            "",
            f"{manifest.parameters:,} parameters, strides {', '.join(map(str, manifest.strides))}, any picture size, "
            f"version `{manifest.version}`. Every figure below is at a confidence of {manifest.min_confidence}, "
            f"in pictures searched for faces of at least {MIN_FACE_PX:g} pixels, the defaults of the service.",
            "",
            "## Limits",
            "",
            _LIMITS,
            "",
            "## How good",
            "",
            *_figures(manifest.metrics),
            "## How it was made",
            "",
            _made(manifest),
            "",
            "Data, by name and sha256: "
            + "; ".join(f"{name} `{sha[:12]}…`" for name, sha in training["data"]["sources_sha256"].items())
            + ".",
            "",
        ]
    )


def _made(manifest: DetectorManifest) -> str:
    training, counts = manifest.training, manifest.training["data"]["counts"]
    pictures = ", ".join(f"{count['pictures']:,} {_KINDS.get(kind, kind)}" for kind, count in counts.items())
    return (
        f"By this repository's trainer (`detector prepare|train|export`): {training['steps']:,} steps, the last ones on "
        f"{training['config']['batch_size']} scenes of {training['config']['side_px']} pixels each, "
        f"{training['train_seconds'] / 3600:.1f} h of wall time on a shared CPU, from {pictures}. Faces and points are "
        "those on which YuNet (MIT) agrees in a picture and in its mirror image. Scores are calibrated so that "
        f"at {manifest.min_confidence}, {training['threshold']['precision']:.0%} of its detections are faces on scenes composed "
        f"of held-out pictures. There it finds {training['threshold']['recall']:.0%} of the faces, many of which are tiny, dark or "
        f"partly covered. Points are moved {training['stretch'] - 1:.1%} further apart than the network sees them, as measured there."
    )


def _figures(metrics: dict[str, Any]) -> list[str]:
    """A table for each figure that was measured: one row for each case, one column for each detector."""
    titles = {
        "missed_by_group": ("Share of FairFace's validation faces missed, by group", 1),
        "missed_photos": ("Share of web photos of a face in which none is found", 0),
        "found_in_collages": ("Share found of 2 to 12 faces of 60 to 300 pixels in 1280x960", 0),
        "found_20_of_40px_in_1920x1080": ("Share found of 20 faces of 40 pixels in 1920x1080", 0),
        "found_20_of_24px_in_1024x768": ("Share found of 20 faces of 24 pixels in 1024x768", 0),
        "false_alarms_per_scene": ("False alarms per photo of a place without people", 0),
        "found_by_size_px": ("Share found, by the size of the face in pixels", 1),
        "found_by_turn_deg": ("Share found, by how far the face is turned in the picture, in degrees either way", 1),
        "found_by_light": ("Share found, by brightness (a factor)", 1),
        "speed_ms": ("Milliseconds for the whole stage, on one thread", 1),
    }
    lines: list[str] = []
    single = {name: metrics[name] for name, (_, deep) in titles.items() if not deep and name in metrics}
    if single:
        lines += _table("", {titles[name][0]: values for name, values in single.items()})
    for name, (title, deep) in titles.items():
        if deep and name in metrics:
            detectors = metrics[name]
            cases = list(next(iter(detectors.values())))
            lines += [
                f"{title}:",
                "",
                *_table("", {c.replace("_", " or "): {d: v[c] for d, v in detectors.items()} for c in cases}),
            ]
    if "by_min_face" in metrics:
        lines += ["What `min_face` costs, and what it finds, in 1280x960:", "", *_min_face(metrics["by_min_face"])]
    return lines


def _table(corner: str, rows: dict[str, dict[str, float]]) -> list[str]:
    detectors = list(dict.fromkeys(name for values in rows.values() for name in values))
    lines = [
        f"| {corner} | " + " | ".join(_NAMES.get(name, name) for name in detectors) + " |",
        "|---|" + "--:|" * len(detectors),
    ]
    for title, values in rows.items():
        lines.append(
            f"| {title} | " + " | ".join(f"{values[name]:g}" if name in values else "-" for name in detectors) + " |"
        )
    return [*lines, ""]


def _min_face(rows: dict[str, dict[str, float]]) -> list[str]:
    lines = [
        "| `min_face`, share of the shorter side | ms | share found of faces of that size | of twice that size |",
        "|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {share} | {r['ms']:g} | {r['found']:g} | {r['found_twice_as_large']:g} |" for share, r in rows.items()
    ]
    return [*lines, ""]
