"""Faults are mapped by class, and every answer is a problem."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from services.api import errors, faults
from services.api.errors import INTERNAL, answer_to
from shared.errors import DetectorError, ImageTooLarge, MienError, ModelError


def all_faults(kind: type) -> list[type]:
    return [kind, *(sub for child in kind.__subclasses__() for sub in all_faults(child))]


@pytest.mark.parametrize("kind", faults.ServiceError.__subclasses__(), ids=lambda kind: kind.__name__)
def test_every_fault_of_the_service_has_its_answer(kind: type[Exception]) -> None:
    answer = answer_to(kind("why"))
    assert answer is not INTERNAL
    assert 400 <= answer.status < 600
    assert answer.status in errors.DESCRIPTIONS


def test_a_subclass_is_answered_like_its_class() -> None:
    class TooManyFrames(ImageTooLarge): ...

    assert answer_to(TooManyFrames("why")) == answer_to(ImageTooLarge("why"))


@pytest.mark.parametrize("error", [ModelError("x"), DetectorError("x"), MienError("x"), ValueError("x")])
def test_faults_of_our_own_are_internal(error: Exception) -> None:
    assert answer_to(error) is INTERNAL


def test_a_momentary_fault_says_when_to_try_again() -> None:
    app = FastAPI()
    errors.install(app)

    @app.get("/busy")
    async def busy() -> None:
        raise faults.Overloaded("The queue is full.")

    @app.get("/locked")
    async def locked() -> None:
        raise faults.Unauthorized("No key.")

    client = TestClient(app)
    response = client.get("/busy")
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.headers["content-type"] == errors.MEDIA_TYPE
    assert response.json()["type"] == "urn:mien:error:overloaded"
    assert client.get("/locked").headers["www-authenticate"] == "Bearer"


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = [line.split("─ ")[1].split()[0] for line in (faults.__doc__ or "").splitlines() if "─ " in line]
    kinds = [*all_faults(faults.ServiceError), *all_faults(faults.WorkerFault)]
    assert drawn == ["ImageError,", *(kind.__name__ for kind in kinds)]
