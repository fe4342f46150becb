"""The nearest film: its distance by hand, its volume, its state."""

import numpy as np
import pytest
import torch

from bundle.networks.nearest_film import NearestFilm

SHAPE = (8, 8, 3)


@pytest.fixture
def items():
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "image": torch.rand(1, 8, 8, generator=generator) * 2 - 1,
            "mri": torch.rand((1, *SHAPE), generator=generator) * 2 - 1,
        }
        for _ in range(5)
    ]


@pytest.fixture
def fitted(items):
    return NearestFilm(SHAPE, film_size=4).fit(item for item in items)


def test_a_training_film_finds_itself_whatever_its_gain_and_offset(fitted, items):
    films = torch.stack([0.4 * item["image"] - 0.3 for item in items])
    number, distance = fitted.nearest(films)
    assert number.tolist() == [0, 1, 2, 3, 4]
    assert distance.max() < 1e-5
    wanted = torch.stack([item["mri"] for item in items])
    assert (fitted(films) - wanted).abs().max() <= 2.5e-4, "float16's rounding in [-1, 1]"
    assert fitted(films).dtype == torch.float32


def test_the_distance_is_that_of_block_means_at_mean_0_and_variance_1(fitted, items):
    """By numpy: 2 x 2 blocks, standardised; sqrt(2 - 2 r) of their correlation."""
    film = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(9))

    def blocks(image):
        return image.numpy().reshape(4, 2, 4, 2).mean(axis=(1, 3)).ravel()

    expected = [np.sqrt(2 - 2 * np.corrcoef(blocks(film), blocks(item["image"]))[0, 1]) for item in items]
    number, distance = fitted.nearest(film)
    assert number.item() == int(np.argmin(expected))
    assert distance.item() == pytest.approx(min(expected), abs=1e-5)


def test_equally_near_films_give_the_first(items):
    twins = [items[0], {**items[0], "mri": -items[0]["mri"]}]
    assert NearestFilm(SHAPE, film_size=4).fit(twins).nearest(items[0]["image"][None])[0].item() == 0


def test_state_dict_carries_as_many_as_were_fitted(fitted, items):
    loaded = NearestFilm(SHAPE, film_size=4)
    loaded.load_state_dict(fitted.state_dict())
    film = items[3]["image"][None]
    assert torch.equal(loaded(film, slices=5), fitted(film, slices=5))
    with pytest.raises(RuntimeError, match="size mismatch"):
        NearestFilm(SHAPE, film_size=8).load_state_dict(fitted.state_dict())


def test_unfitted_or_unfittable_is_an_error(items, fitted):
    with pytest.raises(RuntimeError, match=r"NearestFilm.*`fit`"):
        NearestFilm(SHAPE, film_size=4)(items[0]["image"][None])
    with pytest.raises(ValueError, match="at least one"):
        NearestFilm(SHAPE, film_size=4).fit([])
    with pytest.raises(ValueError, match="item 2: `image` has no contrast"):
        NearestFilm(SHAPE, film_size=4).fit([items[0], {**items[1], "image": torch.zeros(1, 8, 8)}])
    with pytest.raises(ValueError, match="no contrast, or values"):
        fitted(torch.full((1, 1, 8, 8), torch.nan))
    with pytest.raises(ValueError, match="`image` must have shape"):
        fitted(torch.zeros(1, 1, 8, 9))
    with pytest.raises(ValueError, match="`film_size`"):
        NearestFilm(SHAPE, film_size=9)
