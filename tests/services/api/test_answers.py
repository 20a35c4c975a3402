"""Two answers and any prior, over HTTP and by settings."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from services.api.app import create_app
from services.api.settings import Settings
from shared.emotions import EMOTIONS
from tests.tiny_model import make_model

JPEG = {"Content-Type": "image/jpeg"}


SHARES = (0.1, 0.1, 0.1, 0.4, 0.1, 0.1, 0.1)


@pytest.fixture(scope="module")
def two_answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "two", {"labels": SHARES, "people": SHARES})


@pytest.fixture(scope="module")
def one_answer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "one", {"labels": None})


@pytest.fixture
def two(settings: Settings, two_answers: Path) -> Iterator[TestClient]:
    with TestClient(create_app(settings.model_copy(update={"model": two_answers}))) as client:
        yield client


def probabilities(client: TestClient, jpeg: bytes, query: str = "") -> list[float]:
    (face,) = client.post(f"/predict?{query}", content=jpeg, headers=JPEG).json()["faces"]
    return list(face["probabilities"].values())


def test_a_request_chooses_between_the_answers(two: TestClient, jpeg: bytes) -> None:
    labels = probabilities(two, jpeg, "answer=labels")
    assert probabilities(two, jpeg, "answer=people") == pytest.approx(labels[1:] + labels[:1], abs=1e-6)
    assert probabilities(two, jpeg) == probabilities(two, jpeg, "answer=people")
    batch = two.post("/predict/batch?answer=labels", files=[("files", jpeg)]).json()
    assert list(batch["results"][0]["faces"][0]["probabilities"].values()) == labels
    drawn = [two.post(f"/predict/annotated?answer={name}", content=jpeg, headers=JPEG) for name in ("people", "labels")]
    assert drawn[0].content != drawn[1].content


def test_a_prior_weighs_the_emotions(two: TestClient, jpeg: bytes) -> None:
    happy = EMOTIONS.index("happy")
    natural = probabilities(two, jpeg, "answer=labels&prior=natural")
    balanced = probabilities(two, jpeg, "answer=labels&prior=balanced")
    assert balanced[happy] < natural[happy]
    assert sum(balanced) == pytest.approx(1, abs=1e-5)
    only = probabilities(two, jpeg, "answer=labels&prior=1,0,0,1,0,0,0")
    assert only[0] + only[happy] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("query", "code", "said"),
    [
        ("answer=people", "unknown_answer", "no answer 'people'; it has labels"),
        ("prior=balanced", "unusable_prior", "only the prior natural works"),
        ("prior=1,2,3", "unusable_prior", "A prior has 7 shares"),
        ("prior=even", "unusable_prior", "prior"),
        ("prior=0,0,0,0,0,0,0", "unusable_prior", "not all 0"),
        ("prior=nan,1,1,1,1,1,1", "unusable_prior", "finite"),
        ("answer=both", "invalid_parameter", "answer"),
    ],
)
def test_what_the_model_cannot_give_is_told(
    query: str, code: str, said: str, settings: Settings, jpeg: bytes, one_answer: Path
) -> None:
    with TestClient(create_app(settings.model_copy(update={"model": one_answer}))) as client:
        response = client.post(f"/predict?{query}", content=jpeg, headers=JPEG)
    assert (response.status_code, response.json()["code"]) == (422, code)
    assert said in response.json()["detail"]


def test_settings_choose_the_default(settings: Settings, two_answers: Path, jpeg: bytes) -> None:
    chosen = {"model": two_answers, "answer": "labels", "prior": "1,0,0,1,0,0,0"}
    with TestClient(create_app(settings.model_copy(update=chosen))) as client:
        values = probabilities(client, jpeg)
        assert values[0] + values[EMOTIONS.index("happy")] == pytest.approx(1, abs=1e-5)
        # A prior belongs to its answer: another one is given as it is.
        assert min(probabilities(client, jpeg, "answer=people")) > 0
        model = client.get("/model").json()
    assert model["answers"] == ["labels", "people"]
    assert (model["default_answer"], model["default_prior"]) == ("labels", [0.5, 0, 0, 0.5, 0, 0, 0])


def test_the_shipped_model_says_what_it_answers_and_how_well(client: TestClient) -> None:
    model = client.get("/model").json()
    assert model["default_answer"] in model["answers"]
    assert model["default_prior"] in ("natural", "balanced")
    assert set(model["metrics"]["test"]) == set(model["answers"])


def test_a_setting_that_the_model_cannot_follow_is_the_reason_not_to_be_ready(
    settings: Settings, one_answer: Path
) -> None:
    with TestClient(create_app(settings.model_copy(update={"model": one_answer, "prior": "balanced"}))) as client:
        response = client.get("/readyz")
    assert response.status_code == 503
    assert "only the prior natural works" in response.json()["detail"]
