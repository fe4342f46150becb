"""Galleries show what the network gives for more slices and for other readings, of a knee that no score chose."""

import base64
import io
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from PIL import Image

from bundle.handlers import InterpolationGallery, ReadingsGallery, SensitivityGallery
from bundle.readings import grade_table
from bundle.reports.galleries import Gallery

ROWS, COLUMNS, SLICES = 25, 50, 5
TABLE = grade_table("oai")


class Told(torch.nn.Module):
    """Dark but for two voxels that medial chondrocalcinosis brightens: at the joint, and a stronger one behind it."""

    grade_table, missing_readings = TABLE, "zeros"

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, film, readings=None, *, slices=SLICES, seed=0, **options):
        self.seen.append((readings, slices, options))
        volume = torch.full((1, 1, ROWS, COLUMNS, slices), -1.0) + torch.linspace(0, 0.5, COLUMNS)[:, None]
        if torch.equal(readings[0], torch.tensor(TABLE.replaced(readings[0].numpy(), {"XRCHM": 1}))):
            volume[..., ROWS // 2, 0, 2] = 0.0
            volume[..., ROWS // 2, 0, 0] = 1.0
        return volume


def knee(name, grade):
    mri = torch.zeros((1, ROWS, COLUMNS, SLICES))
    mri[:] = torch.linspace(-1, 1, COLUMNS)[:, None]
    affine = torch.diag(torch.tensor([2.0, 1.0, 4.0, 1.0], dtype=torch.float64))
    return {
        "image": torch.zeros((1, ROWS, COLUMNS)),
        "label": MetaTensor(mri, affine=affine),
        "readings": torch.tensor(TABLE.encode({"XRKL": grade, "XRJSM": 1})),
        "participant": name,
        "side": "R",
        "visit": "00m",
    }


def galleries(handler, items):
    engine = Engine(lambda engine, batch: [{} for _ in batch])
    engine.add_event_handler(Events.ITERATION_STARTED, lambda engine: None)
    handler.attach(engine)
    engine.run([items[:2], items[2:]], max_epochs=1)
    return engine.state.report_galleries


def pixels(panel):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(panel.uri.split(",")[1]))))


ITEMS = [knee("A", 3), knee("B", 1), knee("C", 1), knee("D", 2)]


def test_a_reading_is_switched_and_all_others_stay():
    """The network sees the same vector twice but for chondrocalcinosis; the change is shown where it is."""
    network = Told().train()
    gallery = galleries(ReadingsGallery(network, switched={"Chondrocalcinosis": {"XRCHM": 1}}), ITEMS)["readings"]
    assert "Knee B R (KL 1)" in gallery.note  # the lowest grade, and the first of it
    (off, _, _), (on, _, _) = network.seen
    own = ITEMS[1]["readings"].numpy()
    assert torch.equal(off[0], torch.tensor(TABLE.replaced(own, {"XRCHM": 0})))
    assert torch.equal(on[0], torch.tensor(TABLE.replaced(own, {"XRCHM": 1})))
    [(name, (was, now, change))] = gallery.rows
    assert name == "Chondrocalcinosis"
    assert [pixels(picture)[ROWS // 2, 0] for picture in (was, now, change)] == [0, 128, 255]
    assert (np.delete(pixels(change).ravel(), ROWS // 2 * COLUMNS) == 128).all()
    assert (change.width_mm, change.height_mm) == (COLUMNS * 1.0, ROWS * 2.0)
    assert network.training


def test_more_slices_fill_the_same_window():
    network = Told()
    gallery = galleries(InterpolationGallery(network, slices=9), ITEMS)["interpolation"]
    assert "Knee A R (KL 3)" in gallery.note
    assert [slices for _, slices, _ in network.seen] == [SLICES, 9]
    names = [name for name, _ in gallery.rows]
    assert [re.search(r"[\d.]+ mm", name)[0] for name in names] == ["4.00 mm", "4.00 mm", "2.00 mm"]
    assert re.fullmatch(r"Real MRI, 5 slices.*r = 1\.000", names[0])
    sagittal, axial = gallery.rows[2][1]
    assert (pixels(sagittal).shape, pixels(axial).shape) == ((ROWS, 9), (9, COLUMNS))
    assert sagittal.width_mm == axial.height_mm == 18.0


def test_a_networks_posterior_mean_is_shown_where_it_has_one():
    network = Told()
    network.mean_head = SimpleNamespace()
    galleries(ReadingsGallery(network, switched={"Cyst": {"XRCYTM": 2}}), ITEMS)
    assert all(options == {"mean": True} for _, _, options in network.seen)


class Watching(torch.nn.Module):
    """A volume whose joint is as bright as one pixel of the film, and which is dark elsewhere."""

    def forward(self, film, readings=None, *, depths, seed=0, mean=False):
        assert mean
        volume = torch.full((1, 1, ROWS, COLUMNS, len(depths)), -1.0)
        volume[..., 10:15, :, :] = film[0, 0, 12, 30]
        return volume


def test_the_part_of_the_film_that_decides_is_found():
    """White where a patch hides the pixel and black elsewhere, in the joint's row; nothing decides the two others."""
    item = knee("A", 3)
    item["image"][0, 12, 30] = 1
    gallery = galleries(SensitivityGallery(Watching(), patch=4), [item, *ITEMS])["sensitivity"]
    assert "Knee A R (KL 3): patches of 8 mm" in gallery.note
    maps = [pixels(change) for _, (_, change) in gallery.rows]
    assert not maps[0].any()
    assert not maps[2].any()
    assert maps[1][12, 30] == 255
    rows, columns = maps[1].nonzero()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 15, 28, 33)
    # five of the third's eight rows, by half of what the pixel is brighter than the film's mean
    assert float(re.search(r"at most ([\d.]+)", gallery.rows[1][0])[1]) == pytest.approx(
        5 / 8 * (1 - 1 / 1250) / 2, abs=1e-4
    )


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="1 pictures for 2 columns"):
        Gallery("Title", "note", ("a", "b"), [("row", (None,))])
    with pytest.raises(ValueError, match="2 or more"):
        InterpolationGallery(Told(), slices=1)
