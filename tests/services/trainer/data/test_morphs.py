"""New faces out of known ones."""

import numpy as np

from services.trainer.data.dataset import Dataset
from services.trainer.data.faces import WIDE_SIZE_PX, Faces
from services.trainer.data.morphs import morph_faces


def test_morphs_are_new_faces_that_look_like_the_training_split(drawn: Dataset) -> None:
    morphed = morph_faces(drawn, 200, seed=1)
    assert morphed.pixels.shape == (200, WIDE_SIZE_PX, WIDE_SIZE_PX)
    known = drawn.split("train").pixels.astype(int)
    nearest = np.array([np.abs(known - face).mean(axis=(1, 2)).min() for face in morphed.middle.astype(int)])
    assert nearest.min() > 0.5  # none is a copy
    stranger = np.random.default_rng(0).permuted(known[0].ravel()).reshape(known[0].shape)
    assert np.median(nearest) < np.abs(known - stranger).mean(axis=(1, 2)).min() / 2
    assert len(np.unique(morphed.pixels, axis=0)) == 200


def test_a_seed_gives_the_same_faces_again(drawn: Dataset) -> None:
    assert morph_faces(drawn, 5, seed=1).sha256 == morph_faces(drawn, 5, seed=1).sha256
    assert morph_faces(drawn, 5, seed=1).sha256 != morph_faces(drawn, 5, seed=2).sha256


def test_faces_beside_them_come_first_and_are_named(drawn: Dataset) -> None:
    known = Faces(np.full((2, WIDE_SIZE_PX, WIDE_SIZE_PX), 7, np.uint8), "FairFace")
    both = morph_faces(drawn, 3, seed=1, beside=known)
    assert both.name == f"FairFace and morphed {drawn.name}"
    assert (both.pixels[:2] == 7).all()
    assert (both.pixels[2:] == morph_faces(drawn, 3, seed=1).pixels).all()
