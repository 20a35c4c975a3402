"""The model card: front matter as Hugging Face reads it, then what a person should know before using the model."""

import json
from pathlib import Path
from typing import Any, Final

from services.trainer.data.dataset import FER2013
from services.trainer.judging.robustness import as_markdown
from shared.atomic import write_text
from shared.manifest import CARD_FILE, ModelManifest, load_manifest

_HEADINGS: Final = {
    "all": "all images, original labels",
    "without_repeated": "without images repeated in training",
    "consensus": "consensus of at least 6 of 10 FER+ raters",
    "consensus_without_repeated": "consensus, without repeated images",
}
_SPLITS: Final = {"validation": "PublicTest", "test": "PrivateTest"}


def model_card(manifest: ModelManifest) -> str:
    """Markdown for card.md; every figure is one of the manifest's."""
    training = manifest.training
    name, chosen_on = _data_name(manifest), _called("validation", manifest)
    return "\n".join(
        [
            *_front_matter(manifest),
            "",
            f"# {manifest.name}",
            "",
            f"Reads the expression of one face: a grey {manifest.input.size_px}x{manifest.input.size_px} image in, the "
            f"probabilities of {', '.join(manifest.labels)} out.",
            "",
            f"Network `{training['network']}`, {manifest.parameters:,} parameters, {manifest.precision}, version `{manifest.version}`.",
            "",
            "## Meant for, and not meant for",
            "",
            "For software that reacts to how a face looks: interaction, research, statistics over many images. "
            "An expression is not a feeling: a smile may be polite, a frown may be thought. Do not decide about a person "
            "by it (employment, education, credit, policing, health), and tell people when it is used.",
            "",
            "## Limits",
            "",
            f"{_limits(name)}, so bias between groups is likely and unmeasured.{_least_well(manifest.metrics)} "
            "Profiles, covered mouths or eyes, and faces below 30 pixels are guesses.",
            "",
            "## How good",
            "",
            *_scores(manifest),
            *_per_class(manifest),
            *_quantization(manifest),
            *_robustness(manifest),
            "## How it was made",
            "",
            f"Trained from {_origin(training)} on {name}'s training split by this repository's trainer: commit `{training['commit']}`, "
            f"seed {training['seed']}, {training['epochs']} epochs ({training['train_seconds'] / 3600:.1f} h on "
            f"{training.get('device', 'CPU')}), the weights of epoch {training['best_epoch']}, chosen on {chosen_on}. "
            f"Training images repeated in the test splits were removed first. {_targets(training)} "
            f"Data `sha256:{training['data_sha256']}`.",
            "",
            f"Logits are divided by {training['temperature']}, fitted on {chosen_on}, inside the graph. "
            "docs/training.md gives the commands.",
            "",
            "## Terms",
            "",
            f"Weights: {_licence(manifest)}. {_terms(name)}",
            "",
        ]
    )


def add_robustness(directory: Path, result: dict[str, Any], split: str) -> None:
    """Write what `robustness` measured of a model directory into its manifest and its card.

    Raises ModelError when there is no model in `directory`.
    """
    manifest = load_manifest(directory).model_copy(update={"robustness": {"split": split, **result}})
    manifest.save(directory)
    write_text(directory / CARD_FILE, model_card(manifest))


def _data_name(manifest: ModelManifest) -> str:
    # The models of earlier trainers were all made from FER2013.
    return str(manifest.training.get("data", FER2013))


def _called(split: str, manifest: ModelManifest) -> str:
    """A split's name as users of that data know it."""
    return _SPLITS.get(split, split) if _data_name(manifest) == FER2013 else split


def _front_matter(manifest: ModelManifest) -> list[str]:
    name = _data_name(manifest)
    lines = [
        "---",
        f"license: {manifest.license.lower()}",
        "library_name: onnx",
        "pipeline_tag: image-classification",
        f"tags: [facial-expression-recognition, emotion, {'fer2013, ' * (name == FER2013)}onnxruntime]",
        "model-index:",
        f"- name: {manifest.name}",
        "  results:",
    ]
    for split, groups in manifest.metrics.items():
        lines += [
            "  - task: {type: image-classification}",
            f"    dataset: {{name: {json.dumps(name)}, type: {json.dumps(name.lower())}, split: {_called(split, manifest)}}}",
            "    metrics:",
            f"    - {{type: accuracy, value: {groups['all']['accuracy']}}}",
            f"    - {{type: f1, name: macro F1, value: {groups['all']['macro_f1']}}}",
        ]
    return [*lines, "---"]


def _limits(name: str) -> str:
    """What is known of the faces, up to the point that nothing is known of groups of people."""
    if name == FER2013:
        return (
            "FER2013's labels are noisy: people agree with them on about 65 % of the images. Its faces came from web "
            "searches in 2013 for words of emotion; ages, skin tones, poses and cultures are unevenly there and not labelled"
        )
    return (
        f"Its faces and labels are those of {name}, which this trainer knows nothing about; how right they are, and whom "
        "they show how often, was not measured"
    )


def _terms(name: str) -> str:
    if name == FER2013:
        return (
            "FER2013 was published for research; its images are not part of this repository, "
            "and whoever retrains must hold them under its terms. FER+ votes: MIT."
        )
    return f"The images of {name} are no part of this model; whoever collected them sets their terms."


def _least_well(metrics: dict[str, Any]) -> str:
    if "test" not in metrics:
        return ""
    per_class = metrics["test"]["all"]["per_class"]
    worst = sorted(per_class, key=lambda emotion: per_class[emotion]["f1"])[:2]
    return f" {worst[0].capitalize()} and {worst[1]} are read least well."


def _origin(training: dict[str, Any]) -> str:
    if training.get("init_sha256"):
        return f"the weights of another run (`sha256:{training['init_sha256']}`)"
    if training.get("pretrained"):
        return f"weights of keras.applications ({training['pretrained']})"
    return "random weights"


def _targets(training: dict[str, Any]) -> str:
    """What the network was told is right: whoever compares with FER2013 alone must know the votes' part in it."""
    target = training["config"]["target"]
    label = target["original_weight"]
    votes = (
        "" if label == 1 else f" for {label:.0%}, the share of FER+'s votes, where there are any, for {1 - label:.0%}"
    )
    smoothed = f", smoothed by {target['label_smoothing']}" if target["label_smoothing"] else ""
    dropped = (
        " Images that at least half of the raters call no face were left out." if target["drop_not_a_face"] else ""
    )
    taught = ""
    if training.get("teachers_sha256"):
        teachers = ", ".join(f"`sha256:{sha256}`" for sha256 in training["teachers_sha256"])
        taught = f" Of these, {target['teacher_weight']:.0%} gave way to what trained models say of the same faces ({teachers})."
    return f"Its targets were the original label{votes}{smoothed}.{taught}{dropped}"


def _licence(manifest: ModelManifest) -> str:
    pretrained = manifest.training.get("pretrained")
    return f"under the terms of those they began with ({pretrained})" if pretrained else manifest.license


def _quantization(manifest: ModelManifest) -> list[str]:
    """What 8-bit integers cost and save, where the model is one."""
    made = manifest.training.get("quantization")
    if made is None:
        return []
    lost = ", ".join(
        f"{_called(split, manifest)} {before:.4f} in fp32, {manifest.metrics[split]['all']['accuracy']:.4f} in INT8"
        for split, before in made["fp32_accuracy"].items()
    )
    return [
        "## INT8",
        "",
        f"Quantized from version `{made['from_version']}` ({made['scheme']}; {made['calibration_faces']} training faces). "
        f"{made['size_ratio']:.2f} of the size and {made['time_ratio']:.2f} of the time of fp32, measured in one run on one "
        f"thread ({made['ms_a_face_one_thread'][1]} ms a face). Accuracy: {lost}.",
        "",
    ]


def _robustness(manifest: ModelManifest) -> list[str]:
    """What worse pictures cost, where it was measured."""
    if manifest.robustness is None:
        return []
    split = manifest.robustness["split"]
    return [f"## When pictures get worse ({_called(split, manifest)})", "", *as_markdown(manifest.robustness), ""]


def _scores(manifest: ModelManifest) -> list[str]:
    lines = [
        "| split | images of it | images | accuracy | macro-F1 | NLL | Brier | ECE |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for split, groups in manifest.metrics.items():
        for group, s in groups.items():
            cells = [
                f"{s['accuracy']:.4f}",
                f"{s['macro_f1']:.4f}",
                f"{s['nll']:.3f}",
                f"{s['brier']:.3f}",
                f"{s['ece']:.3f}",
            ]
            lines.append(
                f"| {_called(split, manifest)} | {_HEADINGS.get(group, group)} | {s['images']} | {' | '.join(cells)} |"
            )
    return [*lines, ""]


def _per_class(manifest: ModelManifest) -> list[str]:
    if "test" not in manifest.metrics:
        return []
    lines = [
        f"{_called('test', manifest)}, original labels:",
        "",
        "| emotion | precision | recall | F1 | images |",
        "|---|--:|--:|--:|--:|",
    ]
    for emotion, s in manifest.metrics["test"]["all"]["per_class"].items():
        lines.append(f"| {emotion} | {s['precision']:.3f} | {s['recall']:.3f} | {s['f1']:.3f} | {s['images']} |")
    return [*lines, ""]
