"""Occlusion maps of functions whose answer is known."""

import pytest
import torch
from monai.data import MetaTensor

from bundle.metrics import occlusion_map

AFFINE = torch.diag(torch.tensor([2.0, 2.0, 1.0, 1.0], dtype=torch.float64))


def test_only_patches_over_the_pixel_that_matters_change_the_number():
    """Twice pixel (3, 5), 1 on a film of zeros; covered by zeros it falls by 2, elsewhere by nothing."""
    film = torch.zeros(1, 8, 9)
    film[0, 3, 5] = 1
    found = occlusion_map(lambda image: 2 * float(image[0, 0, 3, 5]), film, patch=1, fill=0)
    expected = torch.zeros(1, 8, 9)
    expected[0, 3, 5] = -2
    assert torch.equal(found, expected)


def test_map_is_the_mean_over_the_patches_that_hide_a_pixel():
    """One row of four pixels, patches of two: a corner is hidden once, the others twice."""
    film = torch.tensor([[[0.0, 1, 2, 3]], [[0.0, 1, 2, 3]]])[:1].repeat(1, 2, 1)
    found = occlusion_map(lambda image: float(image.sum()), film, patch=2, stride=1, fill=0)
    drops = torch.tensor([-2.0, -6, -10])
    expected = torch.stack([drops[0], drops[:2].mean(), drops[1:].mean(), drops[2]])
    torch.testing.assert_close(found, expected.expand(1, 2, 4))


@pytest.mark.parametrize(("size", "patch", "stride"), [((7, 10), 3, 2), ((8, 8), 8, None), ((5, 9), 4, 4)])
def test_every_pixel_is_hidden_and_the_film_is_left_alone(size, patch, stride):
    film = MetaTensor(torch.rand(1, *size), affine=AFFINE)
    before = film.clone()
    found = occlusion_map(lambda image: float(image.mean()), film, patch=patch, stride=stride)
    assert found.shape == film.shape
    assert found.isfinite().all()
    assert torch.equal(found.affine, AFFINE)
    assert torch.equal(film, before)


def test_several_numbers_give_a_map_each():
    film = MetaTensor(torch.rand(1, 6, 8), affine=AFFINE)
    both = occlusion_map(lambda image: torch.stack([image.sum(), image[0, 0, 2, 3]]), film, patch=2)
    assert both.shape == (2, 6, 8)
    assert torch.equal(both.affine, AFFINE)
    for found, alone in zip(both, (lambda image: image.sum(), lambda image: image[0, 0, 2, 3]), strict=True):
        torch.testing.assert_close(found[None].as_tensor(), occlusion_map(alone, film, patch=2).as_tensor())


def test_impossible_patches_are_refused():
    for wrong in ({"patch": 9}, {"patch": 0}, {"patch": 2, "stride": 3}):
        with pytest.raises(ValueError, match="`patch`"):
            occlusion_map(float, torch.zeros(1, 8, 8), **wrong)
    with pytest.raises(ValueError, match="`film`"):
        occlusion_map(float, torch.zeros(8, 8), patch=2)
