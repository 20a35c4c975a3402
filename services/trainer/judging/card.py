"""The model card: front matter as Hugging Face reads it, then what a person should know before using the model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

from services.trainer.data.dataset import FER2013
from services.trainer.judging import groups, provenance, steadiness
from services.trainer.judging.evaluate import own_scores
from services.trainer.judging.robustness import as_markdown
from services.trainer.judging.tables import YARDSTICKS, class_table, score_table
from shared.answers import AnswerName
from shared.atomic import write_text
from shared.manifest import CARD_FILE, ModelManifest, load_manifest
from shared.scores import OWN_YARDSTICK, Groups, Robustness, Steadiness

_SPLITS: Final = {"validation": "PublicTest", "test": "PrivateTest"}
_ANSWERS: Final[dict[AnswerName, str]] = {
    "people": "what people see in a face, as FER+'s ten raters voted",
    "labels": "the emotion that FER2013's label names",
}
_FIELDS: Final = {Robustness: "robustness", Steadiness: "steadiness", Groups: "groups"}  # of the manifest
_MIRRORED: Final = " It reads each face together with its mirror image, so both get the same answer."
_SHIFTED: Final = ", and shifted so that each emotion is expected as often as it is found,"
_MEANT_FOR: Final = (
    "For software that reacts to how a face looks: interaction, research, statistics over many images. "
    "An expression is not a feeling: a smile may be polite, a frown may be thought. Do not decide about a person "
    "by it (employment, education, credit, policing, health), and tell people when it is used."
)
_LAW: Final = (
    "In the European Union, the AI Act (Regulation (EU) 2024/1689) forbids inferring the emotions of people at work and in "
    "education, except for medical or safety reasons (Article 5(1)(f)). Elsewhere, whoever uses emotion recognition must "
    "tell the people exposed to it (Article 50(3)), and Annex III, point 1(c), counts it as high-risk. Other laws, on "
    "biometric and personal data among them, may bind you too."
)


def model_card(manifest: ModelManifest) -> str:
    """Markdown for card.md; every figure is one of the manifest's."""
    name = manifest.training.data
    size = f"{manifest.input.size_px}x{manifest.input.size_px}"
    lines = [
        *_front_matter(manifest),
        "",
        f"# {manifest.name}",
        "",
        f"Reads the expression of one face: a grey {size} image in, the probabilities of {', '.join(manifest.labels)} out.",
        *_answers(manifest),
        "",
        f"Network `{manifest.training.network}`, {manifest.parameters:,} parameters, {manifest.precision}, version "
        f"`{manifest.version}`.{_MIRRORED if manifest.mirrored else ''}",
        "",
        *_section("Meant for, and not meant for", _MEANT_FOR, _LAW),
        *_section(
            "Limits",
            f"{provenance.limits(name)}{_bias(manifest)}.{_least_well(manifest)} Profiles, covered mouths or eyes, and "
            "faces below 30 pixels are guesses.",
        ),
        "## How good",
        "",
        *score_table(manifest.metrics, _caller(manifest)).as_markdown(),
        "",
        *_default_prior(manifest),
        *_per_class(manifest),
        *_quantization(manifest),
        *_robustness(manifest),
        *_steadiness(manifest),
        *_groups(manifest),
        *_section("How it was made", _training(manifest), _temperatures(manifest)),
        *_section("Terms", provenance.terms(manifest)),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


def add_measured(directory: Path, measured: Robustness | Steadiness | Groups) -> None:
    """Write what was measured of a model directory into its manifest and its card.

    Raises ModelError when there is no model in `directory`.
    """
    manifest = load_manifest(directory).model_copy(update={_FIELDS[type(measured)]: measured})
    manifest.save(directory)
    write_text(directory / CARD_FILE, model_card(manifest))


def _section(title: str, *paragraphs: str) -> list[str]:
    return [f"## {title}", "", *(line for paragraph in paragraphs for line in (paragraph, ""))]


def _called(split: str, manifest: ModelManifest) -> str:
    """A split's name as users of that data know it."""
    return _SPLITS.get(split, split) if manifest.training.data == FER2013 else split


def _front_matter(manifest: ModelManifest) -> list[str]:
    name = manifest.training.data
    lines = [
        "---",
        f"license: {provenance.licence_id(manifest)}",
        "library_name: onnx",
        "pipeline_tag: image-classification",
        f"tags: [facial-expression-recognition, emotion, {'fer2013, ' * (name == FER2013)}onnxruntime]",
        "model-index:",
        f"- name: {manifest.name}",
        "  results:",
    ]
    for split, answers in manifest.metrics.items():
        for answer, yardsticks in answers.items():
            s, what = own_scores(answer, yardsticks), "FER+ consensus" if answer == "people" else "original labels"
            lines += [
                f"  - task: {{type: image-classification, name: {json.dumps(f'{answer} ({what})')}}}",
                f"    dataset: {{name: {json.dumps(name)}, type: {json.dumps(name.lower())}, split: {_called(split, manifest)}}}",
                "    metrics:",
                f"    - {{type: accuracy, value: {s.accuracy}}}",
                f"    - {{type: f1, name: macro F1, value: {s.macro_f1}}}",
            ]
    return [*lines, "---"]


def _answers(manifest: ModelManifest) -> list[str]:
    if len(manifest.answers) == 1:
        return []
    told = (f"`{name}` is {_ANSWERS[name]}" for name in sorted(manifest.answers, reverse=True))
    return [
        "",
        f"It gives {len(manifest.answers)} answers: {'; '.join(told)}. The default is `{manifest.default_answer}`.",
    ]


def _bias(manifest: ModelManifest) -> str:
    measured = "; the section on groups says what was measured" if manifest.groups else " and unmeasured"
    return f", so bias between groups is likely{measured}"


def _least_well(manifest: ModelManifest) -> str:
    if "test" not in manifest.metrics:
        return ""
    answer = manifest.default_answer
    per_class = own_scores(answer, manifest.metrics["test"][answer]).per_class
    worst = sorted((e for e in per_class if per_class[e].images), key=lambda emotion: per_class[emotion].f1)[:2]
    return f" {worst[0].capitalize()} and {worst[1]} are read least well."


def _default_prior(manifest: ModelManifest) -> list[str]:
    prior, answer = manifest.default_prior, manifest.default_answer
    if prior.metrics is None:
        return []
    table = score_table({split: {answer: scores} for split, scores in prior.metrics.items()}, _caller(manifest))
    return [
        f"These expect rare emotions to be as rare as they are here. Unless a request says otherwise, `{answer}` is "
        f"answered with a {prior.kind} prior (probabilities divided by the natural shares to the power of "
        f"{prior.strength}), chosen on {_called('validation', manifest)}'s consensus by the mean of accuracy and mean recall:",
        "",
        *table.as_markdown(),
        "",
    ]


def _caller(manifest: ModelManifest) -> Callable[[str], str]:
    return lambda split: _called(split, manifest)


def _per_class(manifest: ModelManifest) -> list[str]:
    lines: list[str] = []
    for answer, yardsticks in manifest.metrics.get("test", {}).items():
        named = f"`{answer}`, " if len(manifest.answers) > 1 else ""
        yardstick = OWN_YARDSTICK[answer] if OWN_YARDSTICK[answer] in yardsticks else "all"
        lines += [f"{_called('test', manifest)}, {named}{YARDSTICKS[yardstick]}:", ""]
        lines += [*class_table(own_scores(answer, yardsticks)).as_markdown(), ""]
    return lines


def _quantization(manifest: ModelManifest) -> list[str]:
    """What 8-bit integers cost and save, where the model is one."""
    made = manifest.training.quantization
    if made is None:
        return []
    lost = ", ".join(
        f"{_called(split, manifest)}{f' `{answer}`' if len(manifest.answers) > 1 else ''} {before:.4f} in fp32, "
        f"{own_scores(answer, manifest.metrics[split][answer]).accuracy:.4f} in INT8"
        for split, answers in made.fp32_accuracy.items()
        for answer, before in answers.items()
    )
    return _section(
        "INT8",
        f"Quantized from version `{made.from_version}` ({made.scheme}; {made.calibration_faces} training faces). "
        f"{made.size_ratio:.2f} of the size and {made.time_ratio:.2f} of the time of fp32, measured in one run on one "
        f"thread ({made.ms_per_face_one_thread[1]} ms per face). Accuracy: {lost}.",
    )


def _robustness(manifest: ModelManifest) -> list[str]:
    """What worse pictures cost, where it was measured."""
    if manifest.robustness is None:
        return []
    split = _called(manifest.robustness.split, manifest)
    return [f"## When pictures get worse ({split})", "", *as_markdown(manifest.robustness), ""]


def _steadiness(manifest: ModelManifest) -> list[str]:
    """How much the answer moves when a photo hardly changes, where it was measured."""
    if manifest.steadiness is None:
        return []
    return ["## Steadiness", "", *steadiness.as_markdown(manifest.steadiness), ""]


def _groups(manifest: ModelManifest) -> list[str]:
    """What it does on photos of different groups of people, where it was measured."""
    if manifest.groups is None:
        return []
    return ["## Groups of people", "", *groups.as_markdown(manifest.groups), ""]


def _training(manifest: ModelManifest) -> str:
    training = manifest.training
    made_from = [provenance.targets(training, provenance.has_votes(manifest)), provenance.ancestors(training)]
    return (
        f"Trained from {provenance.origin(training)} on {training.data}'s training split by this repository's trainer: commit "
        f"`{training.commit}`, seed {training.seed}, {training.epochs} epochs ({training.train_seconds / 3600:.1f} h on "
        f"{training.device}), the weights of epoch {training.best_epoch}, chosen on {_called('validation', manifest)}. "
        f"Training images repeated in the test splits were removed first. {' '.join(filter(None, made_from))} "
        f"Data `sha256:{training.data_sha256}`."
    )


def _temperatures(manifest: ModelManifest) -> str:
    named = len(manifest.answers) > 1
    each = [f"{a.temperature}{f' (`{name}`)' if named else ''}" for name, a in manifest.answers.items()]
    shifted = _SHIFTED if any(any(answer.shift or ()) for answer in manifest.answers.values()) else ""
    return (
        f"Logits are divided by {' and '.join(each)}{shifted or ','} fitted on {_called('validation', manifest)}, inside the "
        "graph. docs/training.md gives the commands."
    )
