"""Where a model comes from, in words for its card: weights, data, teachers, and their terms."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from services.trainer.data.dataset import FER2013
from services.trainer.training.config import TargetConfig, TrainConfig
from shared.manifest import ModelManifest, Source, Training, beginnings

# Weights that the trainer can start from, by the hash of their file.
_KNOWN: Final = {
    "sha256:37dabf4f1da9f816f1413d236ee9d9e4ac24686c44450fb64f05b307f1b1a7dc": (
        "EmotiEffLib's `mobilenet_7.tflite` (Apache-2.0 upstream; trained on VGGFace2 and AffectNet, which their authors "
        "give for research)"
    ),
    "imagenet": "keras.applications (Apache-2.0; trained on ImageNet, which is given for research)",
}
_FAIRFACE: Final = "FairFace (Karkkainen and Joo 2021, CC BY 4.0)"


def origin(training: Training) -> str:
    """What the weights were before training."""
    return _beginning(beginnings(training.began_with, training.init_sha256), training.pretrained)


def ancestors(training: Training) -> str:
    """How each run before this one was made, the nearest first."""
    lineage = _lineage(training)
    told = [_made_from(run) for run in lineage if run.data is not None]
    unknown = [_named(run) for run in lineage if run.data is None]
    if unknown:
        told.append(f"What {_listed(unknown)} {'was' if len(unknown) == 1 else 'were'} made from is not known.")
    return " ".join(told)


def is_ours(training: Training) -> bool:
    """Whether the weights, and all that they began with, are known to be this trainer's own work on FER2013."""
    return all(run.data == FER2013 and not run.pretrained for run in _with_lineage(training))


def licence_id(manifest: ModelManifest) -> str:
    """The licence of the weights, as model cards abbreviate it."""
    return manifest.license.lower() if is_ours(manifest.training) else "other"


def limits(data: str) -> str:
    """What is known of the faces, up to the point that nothing is known of groups of people."""
    if data == FER2013:
        return (
            "FER2013's labels are noisy: people agree with them on about 65 % of the images. Its faces came from web "
            "searches in 2013 for words of emotion; ages, skin tones, poses and cultures are unevenly represented and not "
            "labelled"
        )
    return (
        f"Its faces and labels are those of {data}, about which this trainer knows nothing; how right the labels are, and "
        "how often the data shows whom, was not measured"
    )


def has_votes(manifest: ModelManifest) -> bool:
    """Whether the data had FER+'s votes: only then are there scores by them."""
    return any("consensus" in scores for answers in manifest.metrics.values() for scores in answers.values())


def targets(training: Training, votes: bool) -> str:
    """What the network was told is right: whoever compares with FER2013 alone must know the part of the `votes` in it."""
    config = TrainConfig.model_validate(training.config)
    people = config.people if votes else None
    parts = [f"Its targets were {_target(config.target, votes)}."]
    if people is not None:
        parts = [
            f"The targets of `labels` were {_target(config.target, votes)}; of `people`, {_target(people, votes)}."
        ]
    if training.teachers_sha256:
        named = ", ".join(_named(teacher) for teacher in training.teachers)
        hashes = ", ".join(f"`sha256:{sha256}`" for sha256 in training.teachers_sha256)
        parts.append(f"The teachers were {named or hashes}.")
    if training.faces is not None:
        parts.append(
            f"{config.unlabeled_share:.0%} of the faces came from {_faces(training.faces)}, labelled by the teachers alone."
        )
    if config.target.drop_not_a_face and votes:
        parts.append("Images that at least half of the raters call no face were left out.")
    return " ".join(parts)


def terms(manifest: ModelManifest) -> str:
    """The terms of the weights, and of everything that they were made from, as far as it is known."""
    runs = _with_lineage(manifest.training)
    parts = [f"Weights: {_licence(manifest)}."]
    if any(run.data == FER2013 for run in runs):
        parts.append(
            "FER2013 was published for research; its images are not part of this repository, "
            "and whoever retrains must hold them under its terms." + " FER+ votes: MIT." * has_votes(manifest)
        )
    parts += [
        f"The images of {data} are not part of this model; whoever collected them sets their terms."
        for data in _other_data(runs)
    ]
    if len(runs) > 1 and any(run.data != FER2013 for run in runs):
        parts.append("The weights that it began with have terms of their own.")
    return " ".join([*parts, *_terms_of_others(runs)])


def _terms_of_others(runs: Sequence[Training | Source]) -> Iterator[str]:
    """The terms of teachers, of all that they were made from, and of faces without labels."""
    teachers = [source for run in runs for teacher in run.teachers for source in _with_all_behind(teacher)]
    for weights in dict.fromkeys(teacher.pretrained for teacher in teachers if teacher.pretrained):
        yield f"Its teachers go back to the weights of {_known(weights)}."
    for data in _other_data(teachers):
        yield f"Its teachers learned from {data}; whoever collected that sets its terms."
    unlabelled = dict.fromkeys(part for run in (*runs, *teachers) if run.faces for part in _parts(run.faces))
    if unlabelled:
        yield f"Faces without labels: {_listed(list(unlabelled))}; not part of this repository."


def _other_data(runs: Iterable[Training | Source]) -> list[str]:
    return list(dict.fromkeys(run.data for run in runs if run.data not in (None, FER2013)))


def _lineage(training: Training) -> tuple[Source, ...]:
    """The runs whose weights it began with, theirs, and so on, each once."""
    found: dict[str, Source] = {}
    waiting = list(beginnings(training.began_with, training.init_sha256))
    while waiting:
        source = waiting.pop(0)
        if source.sha256 not in found or found[source.sha256].data is None:
            found[source.sha256] = source
        waiting += source.began_with
    return tuple(found.values())


def _with_lineage(training: Training) -> tuple[Training | Source, ...]:
    return (training, *_lineage(training))


def _with_all_behind(source: Source) -> Iterator[Source]:
    """A model, those it began with and its teachers, theirs, and so on."""
    yield source
    for behind in (*source.began_with, *source.teachers):
        yield from _with_all_behind(behind)


def _beginning(began_with: Sequence[Source], pretrained: str | None) -> str:
    if began_with:
        return f"the weights of {_listed([_named(source) for source in began_with])}"
    return f"the weights of {_known(pretrained)}" if pretrained else "random weights"


def _made_from(run: Source) -> str:
    beginning = _beginning(run.began_with, run.pretrained)
    learned = _listed([str(run.data), *(_parts(run.faces) if run.faces else ())])
    taught = f", taught by {_listed([teacher.name for teacher in run.teachers])}" if run.teachers else ""
    return f"{run.name} itself began with {beginning} and learned from {learned}{taught}."


def _named(source: Source) -> str:
    return f"{source.name} (`{source.sha256[:12]}…`)"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _target(target: TargetConfig, votes: bool) -> str:
    label = target.original_weight if votes else 1
    shares = [f"the original label for {label:.0%}"] if label else []
    if label < 1:
        shares.append(f"the share of FER+'s votes, where there are any, for {1 - label:.0%}")
    text = "the original label" if label == 1 else ", ".join(shares)
    if target.label_smoothing:
        text += f", smoothed by {target.label_smoothing}"
    if target.teacher_weight:
        text += f"; {target.teacher_weight:.0%} of that gave way to the teachers' predictions"
    return text


def _licence(manifest: ModelManifest) -> str:
    foreign = dict.fromkeys(run.pretrained for run in _with_lineage(manifest.training) if run.pretrained)
    if foreign:
        return f"under the terms of those they began with, {_listed([_known(weights) for weights in foreign])}"
    if not is_ours(manifest.training):
        return "this card grants no licence; whoever trained them decides"
    return manifest.license


def _known(weights: str) -> str:
    return _KNOWN.get(weights, f"`{weights}`")


def _faces(faces: Source) -> str:
    return _listed(_parts(faces))


def _parts(faces: Source) -> list[str]:
    """Faces that were joined, FairFace and morphs for instance, one by one."""
    return [re.sub(r"fairface(_\w+)?", _FAIRFACE, part, flags=re.IGNORECASE) for part in faces.name.split(" and ")]
