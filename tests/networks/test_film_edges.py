"""The film's edges: where they are, and what does not change them."""

import pytest
import torch

from bundle.networks.film_edges import film_edges


@pytest.fixture
def square():
    """64 x 64 pixels of 2.5 mm with a bright square over rows and columns 20 to 43."""
    film = torch.full((1, 1, 64, 64), -1.0)
    film[..., 20:44, 20:44] = 0.6
    return film


def test_a_squares_edges_are_its_outline(square):
    found = film_edges(square)
    assert set(found.unique().tolist()) == {-1.0, 1.0}
    rows, columns = torch.nonzero(found[0, 0] > 0).T
    assert len(rows) > 60, "four sides of 24 pixels, less the corners"
    away = torch.stack([(axis - edge).abs() for axis in (rows, columns) for edge in (19.5, 43.5)]).min(dim=0).values
    assert away.max() <= 1.5


def test_gain_and_offset_change_nothing(square):
    noisy = square + 0.1 * torch.randn(square.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(film_edges(noisy), film_edges(0.3 * noisy + 0.2))


def test_a_film_without_contrast_has_no_edges_and_each_film_has_its_own(square):
    both = film_edges(torch.cat([torch.zeros_like(square), square]))
    assert torch.equal(both[:1], torch.full_like(square, -1.0))
    assert torch.equal(both[1:], film_edges(square))
