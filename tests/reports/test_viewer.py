"""The viewer's sheets hold the right slices in the right orientation, and its HTML stays closed."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from bundle.reports.viewer import PLANES, chosen_frames, sheet, volume_viewer

ROWS, COLUMNS, SLICES = 24, 16, 8
SPACING = (1.0, 2.0, 3.0)


def ramp(axis):
    """Grey values that grow along one axis from 0 to 1."""
    shape = (ROWS, COLUMNS, SLICES)
    steps = np.linspace(0, 1, shape[axis])
    return np.broadcast_to(np.moveaxis(steps[:, None, None], 0, axis), shape)


def sheets(html):
    images = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(image)))) / 255 for image in images]


@pytest.mark.parametrize(
    ("plane", "axis", "direction"),
    [
        *[("coronal", 0, "down"), ("coronal", 1, "across"), ("coronal", 2, "frames")],
        *[("sagittal", 0, "down"), ("sagittal", 1, "frames"), ("sagittal", 2, "back")],
        *[("axial", 0, "frames"), ("axial", 1, "across"), ("axial", 2, "up")],
    ],
)
def test_each_plane_has_the_front_left_or_on_top(plane, axis, direction):
    """ILA: rows grow downwards, columns to the image's right, slices to the front."""
    frames = PLANES[plane].frames(ramp(axis))
    grows = {"frames": (0, 1), "down": (1, 1), "up": (1, -1), "across": (2, 1), "back": (2, -1)}[direction]
    step = np.diff(frames, axis=grows[0])
    assert (np.sign(step) == grows[1]).all()


def test_sheet_stacks_frames_and_puts_volumes_side_by_side():
    first, second = np.full((3, 4, 5), 0.2), np.full((3, 4, 5), 0.8)
    second[2] = 1.0
    made = sheet([first, second], max_side=100)
    assert made.shape == (12, 10)
    assert (made[:, :5] == 51).all()
    assert (made[:8, 5:] == 204).all()
    assert (made[8:, 5:] == 255).all()


def test_large_frames_are_averaged_down():
    made = sheet([np.full((2, 40, 20), 0.5)], max_side=10)
    assert made.shape == (2 * 10, 5)
    assert (made == 128).all()


def test_frames_reach_from_first_to_last():
    assert chosen_frames(5, 9) == [0, 1, 2, 3, 4]
    assert chosen_frames(101, 5) == [0, 25, 50, 75, 100]


def test_page_shows_the_volumes_and_keeps_their_proportions():
    html = volume_viewer({"Real": ramp(2), "<b>": 1 - ramp(2)}, spacing_mm=SPACING, planes=["coronal"])
    (image,) = sheets(html)
    assert image.shape == (SLICES * ROWS, 2 * COLUMNS)
    for index in range(SLICES):
        frame = image[index * ROWS : (index + 1) * ROWS]
        assert frame[:, : COLUMNS - 1].mean() == pytest.approx(index / 7, abs=0.03)
        assert frame[:, COLUMNS + 1 :].mean() == pytest.approx(1 - index / 7, abs=0.03)
    assert html.count("<i ") == SLICES
    assert f"height:{round(ROWS * 1.0 * 1.6)}px" in html
    assert f'style="width:{2 * round(COLUMNS * 2.0 * 1.6)}px"' in html
    assert "<b>" not in html
    assert "<script" not in html


@pytest.mark.parametrize(
    ("volumes", "options", "reason"),
    [
        ({}, {}, "one shape"),
        ({"a": ramp(0), "b": ramp(0)[1:]}, {}, "one shape"),
        ({"a": np.full((4, 4, 4), np.nan)}, {}, "finite"),
        ({"a": ramp(0)}, {"planes": ["oblique"]}, "oblique"),
    ],
)
def test_what_cannot_be_shown_is_refused(volumes, options, reason):
    with pytest.raises(ValueError, match=reason):
        volume_viewer(volumes, spacing_mm=SPACING, **options)
