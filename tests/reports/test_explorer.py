"""The page on which one turns readings: every state is on it once, and only the chosen one is let through."""

import base64
import io
import itertools
import re

import numpy as np
import pytest
from PIL import Image

from bundle.reports.explorer import captioned_rows, explorer_page

DIALS = {"Narrowing": ["0", "1", "2"], "Cyst <medial>": ["none", "one"]}


def grey_of(state):
    return np.full((8, 8), 40 + 60 * state[0] + 20 * state[1], dtype=np.uint8)


@pytest.fixture(scope="module")
def page():
    return explorer_page("Turn", DIALS, grey_of, about="<p>Phantom.</p>", caption="a & b")


def test_each_state_has_its_own_picture(page):
    for state in itertools.product(range(3), range(2)):
        name = "s" + "-".join(map(str, state))
        found = re.findall(rf'<figure class="{name}"><img src="data:image/jpeg;base64,([^"]+)"', page)
        assert len(found) == 1
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(found[0]))))
        assert abs(pixels.astype(int) - grey_of(state)).max() <= 2


def test_a_state_is_shown_by_its_own_positions_alone(page):
    assert "#d0p2:checked ~ #d1p1:checked ~ .states .s2-1 { display: block; }" in page
    assert page.count("{ display: block; }") == 6
    assert page.count(" checked>") == 2, "each dial begins at its first position"


def test_the_page_needs_no_script_and_escapes_names(page):
    assert "<script" not in page
    assert "http" not in page
    assert "<medial>" not in page
    assert "a &amp; b" in page


@pytest.mark.parametrize("dials", [{}, {"a": []}])
def test_nothing_to_turn_is_an_error(dials):
    with pytest.raises(ValueError, match="`dials`"):
        explorer_page("Turn", dials, grey_of, about="", caption="")


def test_rows_lie_where_they_should():
    """Two rows of 20 x 30 images under a band of 14: white in the second row's second column."""
    image = np.zeros((20, 30))
    pixels = captioned_rows({"": [image, image], " ": [image, np.ones((20, 30))]}, ["", ""], zoom=2)
    assert pixels.shape == (14 + 2 * 40, 2 * 60)
    assert (pixels[54:, 60:] == 255).all()
    assert not pixels[:54].any()
