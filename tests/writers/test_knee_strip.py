"""The picture of validation knees."""

import numpy as np
import pytest

from bundle.writers import PicturedKnee, knee_strip


def test_real_slices_are_above_generated_ones_film_on_the_left():
    """Film 0, real 1, generated -1: grey 128 (127.5 rounded to even), white, black; a knee is 2 x 7 tiles."""
    film, volume = np.zeros((4, 5), np.float32), np.ones((4, 5, 10), np.float32)
    picture = knee_strip([PicturedKnee(film, -volume, volume)] * 3)
    assert picture.shape == (3 * 2 * 4, 7 * 5)
    assert (picture[:4, :5] == 128).all()
    assert (picture[:4, 5:] == 255).all()
    assert (picture[4:8] == 0).all()


def test_slices_run_from_posterior_to_anterior():
    volume = np.broadcast_to(np.linspace(-1, 1, 50), (2, 2, 50))
    picture = knee_strip([PicturedKnee(np.zeros((2, 2)), volume)])
    tiles = picture[2, 2::2].astype(int)
    assert (np.diff(tiles) > 0).all()
    assert len(tiles) == 6


def test_no_knee_is_refused():
    with pytest.raises(ValueError, match="at least one knee"):
        knee_strip([])
