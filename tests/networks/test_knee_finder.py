"""Maps, peaks and loss of the knee finder."""

import math

import pytest
import torch

from bundle.networks.knee_finder import MAPS, KneeFinder, find_peaks, landmark_loss, log_probabilities


def test_peak_of_a_gaussian_is_found_between_pixels():
    """A map that falls off around (20.3, 30.6) has its peak there, to a tenth of a pixel."""
    rows, columns = torch.arange(48.0)[:, None], torch.arange(64.0)[None]
    scores = 12 - ((rows - 20.3).square() + (columns - 30.6).square()) / (2 * 1.5**2)
    peaks = find_peaks(scores[None, None])
    assert (peaks.points[0, 0] - torch.tensor([20.3, 30.6])).abs().max() < 0.1
    assert peaks.confidence[0, 0] > 0.9


def test_flat_low_scores_mean_that_the_landmark_is_not_there():
    """All pixels together have probability 1/2 where each scores -log(H W); half of that scored lower is less."""
    scores = torch.full((1, 1, 16, 32), -math.log(16 * 32))
    assert log_probabilities(scores)[0, 0, -1].exp() == pytest.approx(0.5)
    assert find_peaks(scores).confidence[0, 0] < 0.1


def test_loss_is_the_entropy_of_the_target_at_best_and_more_elsewhere():
    """Cross-entropy of a distribution with itself is its entropy; Gaussian of SD s: log(2 pi e s^2)."""
    rows, columns = torch.arange(48.0)[:, None], torch.arange(64.0)[None]
    point = torch.tensor([[[20.0, 30.0]]])
    right = 40 - ((rows - 20).square() + (columns - 30).square()) / (2 * 1.5**2)
    best = landmark_loss(right[None, None], point)
    assert best == pytest.approx(math.log(2 * math.pi * math.e * 1.5**2), abs=1e-3)
    assert landmark_loss(right.roll(4, 0)[None, None], point) > best + 3


@pytest.mark.parametrize("point", [(math.nan, math.nan), (-3.0, 5.0), (5.0, 700.0)])
def test_absent_and_cut_off_landmarks_are_to_be_called_not_there(point):
    low, high = torch.full((1, 1, 16, 16), -30.0), torch.zeros(1, 1, 16, 16)
    target = torch.tensor([[point]])
    assert landmark_loss(low, target) < 1e-6
    assert landmark_loss(high, target) == pytest.approx(math.log(16 * 16 + 1))


def test_finder_has_a_map_for_each_landmark_and_fits_four_megabytes():
    finder = KneeFinder()
    assert finder(torch.zeros(1, 1, 32, 48)).shape == (1, len(MAPS), 32, 48)
    assert 2 * sum(p.numel() for p in finder.parameters()) < 4e6


def test_look_puts_every_place_of_the_film_back_where_it_was():
    """A network that is one number at each pixel does not care where the film lies among its cells."""
    finder = KneeFinder()
    finder.body = torch.nn.Conv2d(1, len(MAPS), 1)
    film = torch.rand(1, 1, 32, 48)
    with torch.no_grad():
        # Padding adds outcomes, so probabilities differ by a factor that is the same at all pixels of a map.
        difference = finder.look(film) - finder(film)
    assert float((difference - difference.mean(dim=(2, 3), keepdim=True)).abs().max()) < 1e-4


def test_film_of_another_size_is_named():
    with pytest.raises(ValueError, match="multiples of 16, got \\(30, 48\\)"):
        KneeFinder()(torch.zeros(1, 1, 30, 48))


def test_weights_of_something_else_are_refused(tmp_path):
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other\.pt: not the weights of this network"):
        KneeFinder.load(tmp_path / "other.pt")
    (tmp_path / "damaged.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match=r"damaged\.pt"):
        KneeFinder.load(tmp_path / "damaged.pt")
