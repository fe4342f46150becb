"""Normalisation, the model's grid, the canonical side and the readings as transforms."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, list_data_collate

import bundle.transforms as transforms
from bundle.geometry import Grid
from bundle.inferers import VolumeInferer
from bundle.transforms import (
    CanonicalSide,
    CanonicalSided,
    EncodeReadingsd,
    NormaliseFilm,
    NormaliseVolume,
    ReadingsWithFilmd,
    RestoreSide,
    ToGrid,
    axis_weights,
)


def film(seed=0, size=64):
    """A collimated film: noise on a ramp, a black border of rows, a white one of columns."""
    values = np.random.default_rng(seed).normal(1000, 50, (size, size)) + np.linspace(0, 800, size)
    values[:9], values[:, -7:] = 0, 4095
    grid = Grid.of(image_size=size, slices=50)
    return MetaTensor(torch.tensor(values[None, :, :, None]).float(), affine=torch.tensor(grid.film_affine()))


def volume(size=32, slices=50):
    grid = Grid.of(image_size=size, slices=slices)
    values = torch.rand((1, *grid.shape), generator=torch.Generator().manual_seed(0))
    return MetaTensor(values, affine=torch.tensor(grid.affine()))


def physical_centroid(image):
    """Centre of mass in RAS mm."""
    weight = image.as_tensor()[0].double().numpy()
    index = np.stack(np.meshgrid(*(np.arange(n) for n in weight.shape), indexing="ij"))
    mean = (index * weight).sum((1, 2, 3)) / weight.sum()
    return (image.affine.numpy() @ [*mean, 1])[:3]


def test_film_percentiles_ignore_the_collimator():
    """The field's own 0.5 and 99.5 percentiles are -1 and 1, whatever the borders are."""
    original = film()
    field = original.numpy()[0, 9:, :-7, 0]
    low, high = np.percentile(field, [0.5, 99.5])
    expected = np.clip((field - low) / (high - low) * 2 - 1, -1, 1)
    np.testing.assert_allclose(NormaliseFilm()(original).numpy()[0, 9:, :-7, 0], expected, atol=0.02)


@pytest.mark.parametrize(("gain", "offset"), [(3.7, 0), (1, -900), (0.5, 50)])
def test_gain_and_offset_change_nothing(gain, offset):
    for normalise, image in ((NormaliseFilm(), film()), (NormaliseVolume(), volume())):
        torch.testing.assert_close(normalise(image * gain + offset), normalise(image), atol=2e-4, rtol=0)


def test_normalisation_is_idempotent():
    once = NormaliseFilm()(film())
    torch.testing.assert_close(NormaliseFilm()(once), once)
    once = NormaliseVolume()(volume())
    torch.testing.assert_close(NormaliseVolume()(once), once, atol=1e-5, rtol=0)


def test_volume_is_scaled_as_a_whole():
    """A slice of half the signal stays at half: per-slice scaling would lift it."""
    image = volume()
    image[..., 10] *= 0.5
    result = NormaliseVolume()(image)
    assert abs((result[..., 10] + 1).mean() / (result[..., 20] + 1).mean() - 0.5) < 0.02


@pytest.mark.parametrize("image", [torch.zeros(1, 8, 8, 1), torch.full((1, 8, 8, 1), torch.nan)])
@pytest.mark.parametrize("normalise", [NormaliseFilm(), NormaliseVolume()])
def test_images_without_contrast_or_with_nan_are_refused(normalise, image):
    with pytest.raises(ValueError, match=r"contrast|finite"):
        normalise(MetaTensor(image, meta={"filename_or_obj": "x.nii"}))


@pytest.mark.parametrize("size", [16, 24, 32, 50, 64, 97])
def test_to_grid_keeps_every_position(size):
    """A blob's centre of mass stays where it was in millimetres, for any ratio of sizes."""
    grid = Grid.of(image_size=64, slices=10)
    y, x, z = np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij")
    blob = np.exp(-((y - 21) ** 2 + (x - 40) ** 2) / 60 - (z - 6) ** 2 / 6)
    image = MetaTensor(torch.tensor(blob[None]), affine=torch.tensor(grid.affine()))
    result = ToGrid(size)(image)
    assert result.shape == (1, size, size, 10)
    np.testing.assert_allclose(physical_centroid(result), physical_centroid(image), atol=0.02)
    np.testing.assert_allclose(result.affine, Grid.of(image_size=size, slices=10).affine(), atol=1e-9)


def test_to_grid_averages_when_it_shrinks():
    image = volume(size=32)
    expected = image.as_tensor().unfold(1, 4, 4).unfold(2, 4, 4).mean((-1, -2))
    torch.testing.assert_close(ToGrid(8)(image).as_tensor(), expected)


@pytest.mark.parametrize("slices", [1, 2, 25, 99])
def test_to_grid_keeps_first_and_last_slice(slices):
    image = volume()
    result = ToGrid(32, slices)(image)
    torch.testing.assert_close(result[..., 0].as_tensor(), image[..., 0].as_tensor())
    if slices > 1:
        torch.testing.assert_close(result[..., -1].as_tensor(), image[..., -1].as_tensor())
    np.testing.assert_allclose(
        result.affine, Grid.of(image_size=32, slices=50).affine(slices) if slices > 1 else image.affine
    )


def test_to_grid_refuses_another_field_of_view():
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match=r"covers 64\.0 mm"):
        ToGrid(32)(MetaTensor(torch.rand(1, 64, 64, 1), affine=torch.tensor(affine)))


@pytest.mark.parametrize(("count", "out", "edge", "start"), [(10, 5, 2.0, 0.0), (10, 7, 1.3, 0.4), (10, 30, 0.3, 0.5)])
def test_weights_reproduce_a_straight_line(count, out, edge, start):
    """Both kinds of weights give the exact value of a linear function at the cell's centre, away from the ends."""
    weights = axis_weights(count, 1.0, out, edge, start)
    centres = start + (torch.arange(out) + 0.5) * edge
    inside = (centres > edge) & (centres < count - max(edge, 0.5)) & (centres > 0.5)
    values = weights @ (torch.arange(count) + 0.5)
    torch.testing.assert_close(values[inside], centres[inside], atol=1e-1 if edge == 1.3 else 1e-5, rtol=0)
    assert (weights.sum(1) <= 1 + 1e-6).all()


def test_cells_outside_the_source_have_no_weight():
    weights = axis_weights(4, 1.0, 6, 1.0, -1.0)
    torch.testing.assert_close(weights.sum(1), torch.tensor([0.0, 1, 1, 1, 1, 0]))


def test_left_knee_is_mirrored_with_its_affine_kept_and_restored():
    image = volume()
    mirrored = CanonicalSide()(image, "L")
    torch.testing.assert_close(mirrored.as_tensor(), image.as_tensor().flip(2))
    torch.testing.assert_close(mirrored.affine, image.affine)
    assert mirrored.meta["mirrored"] is True
    restored = RestoreSide()(mirrored)
    torch.testing.assert_close(restored.as_tensor(), image.as_tensor())
    assert restored.meta["mirrored"] is False
    with pytest.raises(ValueError, match="already"):
        CanonicalSide()(mirrored, "L")


def test_right_knee_is_left_alone_and_the_input_unchanged():
    image = volume()
    result = CanonicalSided("mri")({"mri": image, "side": "R"})["mri"]
    torch.testing.assert_close(result.as_tensor(), image.as_tensor())
    assert result.meta["mirrored"] is False
    assert "mirrored" not in image.meta


@pytest.mark.parametrize("side", [None, "r", "both"])
def test_unknown_side_is_refused(side):
    with pytest.raises(ValueError, match="R or L"):
        CanonicalSided("mri")({"mri": volume(), "side": side})


def test_readings_become_a_vector_and_absent_ones_zeros():
    encode = EncodeReadingsd("readings")
    vector = encode({"readings": {"XRKL": 2}})["readings"]
    assert vector.shape == (66,)
    assert vector.dtype == torch.float32
    assert vector.nonzero().ravel().tolist() == [2]
    assert encode({})["readings"].sum() == 0
    assert encode({"readings": None})["readings"].sum() == 0
    assert EncodeReadingsd("readings", policy="mask")({})["readings"].shape == (85,)


def test_bad_readings_name_the_participant():
    with pytest.raises(ValueError, match="participant 9000001: `XRKL`"):
        EncodeReadingsd("readings")({"readings": {"XRKL": 5}, "participant": "9000001"})
    with pytest.raises(ValueError, match="must map"):
        EncodeReadingsd("readings")({"readings": [2]})


@pytest.mark.parametrize("readings", [{"XRKL": 3, "XRJSM": 2}, None])
def test_a_film_alone_brings_its_readings_to_the_inferer(readings):
    """As MONAI Label calls it: the film with a batch in front, and nothing else; alone, and two of them collated."""
    told = []

    def network(image, vector, **_):
        told.append(vector)
        return image[..., None]

    knee = EncodeReadingsd()({"image": film(0), "readings": readings})
    carried = ReadingsWithFilmd()(knee)["image"]
    inferer = VolumeInferer()
    inferer(carried[None], network)
    inferer(list_data_collate([{"image": carried}, {"image": carried}])["image"], network)
    torch.testing.assert_close(told[0], knee["readings"][None])
    torch.testing.assert_close(told[1], knee["readings"].expand(2, -1))
    other = torch.ones(1, 66)
    inferer(carried[None], network, readings=other)
    assert told[2] is other, "what the caller says comes before what the film says"
    inferer(film(0)[None], network)
    assert told[3] is None


def test_normalised_films_can_be_batched():
    batch = list_data_collate([{"image": NormaliseFilm()(film(seed))} for seed in (0, 1)])
    assert batch["image"].shape == (2, 1, 64, 64, 1)


def test_everything_public_exists():
    assert all(hasattr(transforms, name) for name in transforms.__all__)
