"""The card says what a person must know before using a model: its answers, its origin, the law."""

from collections.abc import Callable

import pytest

from services.trainer.judging.card import model_card
from services.trainer.training.config import TargetConfig
from shared.manifest import Answer, DefaultPrior, ModelManifest, Source, load_manifest
from tests.conftest import ROOT, SHIPPED_MODEL

TFLITE = "sha256:37dabf4f1da9f816f1413d236ee9d9e4ac24686c44450fb64f05b307f1b1a7dc"
EVEN = (1 / 7,) * 7
Change = Callable[[ModelManifest], ModelManifest]


@pytest.fixture
def manifest() -> ModelManifest:
    """One answer, of the paper's network."""
    return load_manifest(ROOT / "models/paper")


def trained(manifest: ModelManifest, config: dict[str, object] | None = None, **about: object) -> ModelManifest:
    """The manifest of a run with another configuration or origin."""
    training = manifest.training.model_copy(update=about | {"config": manifest.training.config | (config or {})})
    return manifest.model_copy(update={"training": training})


def test_every_card_says_what_the_law_forbids(manifest: ModelManifest) -> None:
    card = model_card(manifest)
    assert "Regulation (EU) 2024/1689" in card
    assert "Article 5(1)(f)" in card
    assert "Article 50(3)" in card
    assert "bias between groups is likely and unmeasured" in card


def test_teachers_are_named_with_what_they_began_with(manifest: ModelManifest) -> None:
    teachers = (Source(name="teacher-96", sha256="a" * 64, pretrained=TFLITE), Source(name="ours", sha256="b" * 64))
    faces = Source(name="fairface_train and morphed FER2013", sha256="c" * 64)
    config = {
        "target": TargetConfig(original_weight=0.85, teacher_weight=0.5).model_dump(),
        "people": TargetConfig(original_weight=0, teacher_weight=0.25).model_dump(),
        "unlabeled_share": 0.4,
    }
    hashes = ("a" * 64, "b" * 64)
    card = model_card(trained(manifest, config, teachers=teachers, teachers_sha256=hashes, faces=faces))
    assert "the original label for 85%, the share of FER+'s votes, where there are any, for 15%" in card
    assert "50% of that gave way to the teachers' predictions" in card
    assert "The teachers were teacher-96 (`aaaaaaaaaaaa…`), ours (`bbbbbbbbbbbb…`)." in card
    assert "EmotiEffLib's `mobilenet_7.tflite` (Apache-2.0 upstream; trained on VGGFace2 and AffectNet" in card
    assert "40% of the faces came from FairFace (Karkkainen and Joo 2021, CC BY 4.0) and morphed FER2013, lab" in card


def test_foreign_weights_bring_their_terms(manifest: ModelManifest) -> None:
    card = model_card(trained(manifest, pretrained="imagenet"))
    assert "Trained from the weights of keras.applications" in card
    assert "Weights: under the terms of those they began with, keras.applications" in card
    assert "Weights: Apache-2.0." in model_card(manifest)


def test_the_whole_line_of_runs_is_told(manifest: ModelManifest) -> None:
    behind = Source(name="behind", sha256="9" * 64, data="secret", pretrained=TFLITE)
    ours = Source(name="ours", sha256="b" * 64, data="FER2013", teachers=(behind,))
    faces = Source(name="fairface and morphed FER2013", sha256="d" * 64)
    first = Source(name="first", sha256="1" * 64, data="FER2013", faces=faces)
    taught = Source(name="taught", sha256="2" * 64, data="FER2013", began_with=(first,), teachers=(ours, behind))
    card = model_card(trained(manifest, init_sha256="2" * 64, began_with=(taught,)))
    assert "Trained from the weights of taught (`222222222222…`) on FER2013" in card
    assert (
        "taught itself began with the weights of first (`111111111111…`) and learned from FER2013, taught by ours and "
        "behind. first itself began with random weights and learned from FER2013, FairFace (Karkkainen and Joo 2021, "
        "CC BY 4.0) and morphed FER2013." in card
    )
    assert "license: apache-2.0" in card
    terms = card.partition("## Terms")[2]
    assert "Weights: Apache-2.0." in terms
    assert terms.count("Its teachers go back to the weights of EmotiEffLib's") == 1
    assert "Its teachers learned from secret; whoever collected that sets its terms." in terms
    assert "Faces without labels: FairFace (Karkkainen and Joo 2021, CC BY 4.0) and morphed FER2013; not" in terms


@pytest.mark.parametrize(
    ("ancestor", "terms"),
    [
        ({"data": "FER2013", "pretrained": "imagenet"}, "under the terms of those they began with, keras.applications"),
        ({"data": "mine"}, "this card grants no licence"),
        ({}, "this card grants no licence"),
    ],
)
def test_terms_of_ancestors_bind(manifest: ModelManifest, ancestor: dict[str, str], terms: str) -> None:
    """However far back: a run may hide foreign weights, or faces of somebody's own, behind a run on FER2013."""
    first = Source.model_validate({"name": "first", "sha256": "1" * 64} | ancestor)
    between = Source(name="between", sha256="2" * 64, data="FER2013", began_with=(first,))
    card = model_card(trained(manifest, init_sha256="2" * 64, began_with=(between,)))
    assert "license: other" in card
    assert f"Weights: {terms}" in card
    assert ("The images of mine are not part of this model" in card) == (ancestor == {"data": "mine"})
    assert ("What first (`111111111111…`) was made from is not known." in card) == (not ancestor)


def test_all_foreign_weights_bind(manifest: ModelManifest) -> None:
    pair = (
        Source(name="one", sha256="1" * 64, data="FER2013", pretrained="imagenet"),
        Source(name="two", sha256="2" * 64, data="FER2013", pretrained=TFLITE),
    )
    card = model_card(trained(manifest, init_sha256="1" * 64 + "+" + "2" * 64, began_with=pair))
    assert "Trained from the weights of one (`111111111111…`) and two (`222222222222…`) on" in card
    assert (
        "they began with, keras.applications (Apache-2.0; trained on ImageNet, which is given for research) and "
        in card
    )
    assert "EmotiEffLib's `mobilenet_7.tflite`" in card


def test_of_older_trainers_runs_only_hashes_are_known(manifest: ModelManifest) -> None:
    card = model_card(trained(manifest, init_sha256="1" * 64 + "+" + "2" * 64))
    both = "an unnamed run (`111111111111…`) and an unnamed run (`222222222222…`)"
    assert f"Trained from the weights of {both} on FER2013" in card
    assert f"What {both} were made from is not known." in card


def test_data_of_one_s_own_is_called_by_its_name(manifest: ModelManifest) -> None:
    card = model_card(trained(manifest, data="Drawn"))
    assert "those of Drawn, about which this trainer knows nothing" in card
    assert "FER2013" not in card
    assert "PublicTest" not in card


def test_two_answers_and_a_default_prior_are_told(manifest: ModelManifest) -> None:
    labels, scores = manifest.answers["labels"], manifest.metrics["test"]["labels"]
    people = Answer(temperature=0.5, frequencies=EVEN, golden=labels.golden)
    two = trained(manifest, quantization=None).model_copy(
        update={
            "answers": {"labels": labels, "people": people},
            "metrics": {"test": {"labels": scores, "people": scores}},
            "default_prior": DefaultPrior(kind="balanced", metrics={"test": scores}),
        }
    )
    card = model_card(two)
    assert "It gives 2 answers: `people` is what people see in a face" in card
    assert "| PrivateTest | people | consensus of at least 6 of 10 FER+ raters | 2720 |" in card
    assert "`people` is answered with a balanced prior" in card
    assert f"Logits are divided by {labels.temperature} (`labels`) and 0.5 (`people`)" in card


def of_own_faces(manifest: ModelManifest) -> ModelManifest:
    """The same, as if it had been trained on somebody's own faces, which nobody voted on."""
    metrics = {
        split: {
            answer: {yardstick: s for yardstick, s in scores.items() if not yardstick.startswith("consensus")}
            for answer, scores in answers.items()
        }
        for split, answers in manifest.metrics.items()
    }
    own = trained(manifest, data="mine", init_sha256="1f" * 32)
    return own.model_copy(update={"metrics": metrics, "license": "other"})


def test_the_card_of_own_weights_does_not_license_them(manifest: ModelManifest) -> None:
    card = model_card(of_own_faces(manifest))
    assert "license: other" in card
    assert "Apache-2.0" not in card.partition("## Terms")[2]
    assert "this card grants no licence" in card
    assert "The weights that it began with have terms of their own." in card


def test_the_card_of_data_without_votes_speaks_of_none(manifest: ModelManifest) -> None:
    card = model_card(of_own_faces(manifest))
    for word in ("FER+", "raters", "votes", "consensus"):
        assert word not in card, word


def test_the_shipped_card_is_licensed_and_speaks_of_votes() -> None:
    card = model_card(load_manifest(SHIPPED_MODEL))
    assert "Weights: Apache-2.0." in card
    assert "FER+" in card
