"""The page of one volume: letters, proportions, overlay, mark, and nothing from outside."""

import re

import numpy as np
import pytest

from bundle.reports.viewer import PLANES, colours, volume_viewer
from bundle.reports.volume_page import FilmPicture, volume_page

SHAPE, SPACING = (6, 5, 4), (2.0, 1.0, 3.0)


def page(**options):
    volume = np.linspace(0, 1, 120).reshape(SHAPE)
    return volume_page(volume, **({"spacing_mm": SPACING, "title": "<knee>", "synthetic": True} | options))


def test_page_needs_nothing_from_outside_and_says_what_it_is():
    html = page(film=FilmPicture(np.zeros((4, 3)), 30.0, 40.0, "Film"), spread=np.zeros(SHAPE), facts={"seed": 3})
    assert not re.search(r"""(src|href)=["'](?!data:)|https?://|@import|url\(""", html)
    assert "SYNTHETIC, NOT FOR DIAGNOSIS" in html
    assert "<knee>" not in html
    assert html.count('<figure class="viewer') == 4
    assert "SYNTHETIC" not in page(synthetic=False)


@pytest.mark.parametrize("plane", PLANES)
def test_letters_say_where_the_patients_sides_are(plane):
    """A marked corner voxel of an ILA volume: superior, right, posterior."""
    top, bottom, left, right = PLANES[plane].letters
    volume = np.zeros(SHAPE)
    volume[0, 0, 0] = 1
    frames = PLANES[plane].frames(volume)
    _, row, column = (int(index) for index in np.argwhere(frames == 1)[0])
    assert (top if row == 0 else bottom) in "SRP"
    assert (left if column == 0 else right) in "SRP"
    assert {top, bottom} in ({"S", "I"}, {"A", "P"})
    html = volume_viewer({"v": volume}, spacing_mm=SPACING, planes=[plane], letters=True)
    assert re.findall(r'class="letter \w+"[^>]*>(\w)<', html) == [top, bottom, left, right]
    assert "letter" not in volume_viewer({"v": volume}, spacing_mm=SPACING, planes=[plane])


def test_overlay_is_clear_where_there_is_nothing_and_strongest_at_its_top():
    painted = colours(np.array([0.0, 0.1, 0.2, 5.0]), top=0.2)
    assert painted[:, 3].tolist() == [0, 128, 255, 255]
    assert painted[2].tolist() == painted[3].tolist() == [255, 255, 0, 255]
    assert 'class="overlay"' not in page()
    assert page(spread=np.ones(SHAPE)).count('class="overlay"') == 3


def test_an_overlay_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="one shape"):
        page(spread=np.zeros((6, 5, 3)))


def test_a_native_volume_fits_a_sheet():
    """JPEG ends at 65,500 rows, WebP at 16,383."""
    html = volume_page(
        np.zeros((256, 200, 20)), spacing_mm=SPACING, title="x", synthetic=True, spread=np.zeros((256, 200, 20))
    )
    assert "100 of 256" in html
