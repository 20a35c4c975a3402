"""A card says of a model what is true of it: no more rights, and no more votes, than there are."""

from services.trainer.judging.card import model_card
from shared.manifest import ModelManifest, load_manifest
from tests.conftest import SHIPPED_MODEL


def of_own_faces() -> ModelManifest:
    """The shipped model, as if it had been trained on somebody's own faces, which nobody voted on."""
    shipped = load_manifest(SHIPPED_MODEL)
    metrics = {
        split: {
            answer: {yardstick: s for yardstick, s in scores.items() if not yardstick.startswith("consensus")}
            for answer, scores in answers.items()
        }
        for split, answers in shipped.metrics.items()
    }
    training = shipped.training.model_copy(update={"data": "mine", "init_sha256": "1f" * 32})
    return shipped.model_copy(update={"metrics": metrics, "training": training, "license": "other"})


def test_the_card_of_own_weights_does_not_license_them() -> None:
    card = model_card(of_own_faces())
    assert "license: other" in card
    assert "Apache-2.0" not in card.partition("## Terms")[2]
    assert "this card grants no licence" in card
    assert "The weights that it began with have terms of their own." in card


def test_the_card_of_data_without_votes_speaks_of_none() -> None:
    card = model_card(of_own_faces())
    for word in ("FER+", "raters", "votes", "consensus"):
        assert word not in card, word


def test_the_shipped_card_is_licensed_and_speaks_of_votes() -> None:
    card = model_card(load_manifest(SHIPPED_MODEL))
    assert "Weights: Apache-2.0." in card
    assert "FER+" in card
