"""Structure measures give what can be worked out by hand on boxes, ramps and waves."""

import math

import numpy as np
import pytest
import torch
from scipy.special import erf

from bundle.metrics import (
    band_power,
    correlation_at,
    edge_spread_width,
    joint_space_width,
    mask_dice,
    osteophyte_volumes,
    slice_count_curve,
    surface_distances,
    tissue_errors,
    tissue_masks,
    wrapped_psnr,
)

EDGES = (1.0, 1.0, 2.0)


def box_knee(gap=(4, 6), lip=0, shape=(80, 60, 8)):
    """Femur above row 40 and a tibia whose plateau lies `gap` rows below it, medial (high columns) and lateral."""
    bones = np.zeros(shape, np.uint8)
    bones[5:40, 10:50] = 1
    bones[40 + gap[0] : 75, 30:50] = 2
    bones[40 + gap[1] : 75, 10:30] = 2
    if lip:
        bones[34:40, 50 : 50 + lip] = 1
    return bones


def test_joint_space_of_boxes_is_their_gap():
    assert joint_space_width(box_knee(), spacing_mm=EDGES) == {"medial": 4.0, "lateral": 6.0}
    assert joint_space_width(box_knee(), spacing_mm=(0.5, 1, 2)) == {"medial": 2.0, "lateral": 3.0}


def test_joint_space_follows_the_intensity_between_voxels():
    """Bone -0.7, cartilage 0.5: a border voxel of value -0.1 is half bone, so each end moves by half a voxel."""
    bones = box_knee((4, 4))
    volume = np.where(bones > 0, -0.7, 0.5)
    sharp = joint_space_width(bones, spacing_mm=EDGES, volume=volume)
    assert sharp == pytest.approx({"medial": 4.0, "lateral": 4.0})
    volume[40] = volume[43] = -0.1
    assert joint_space_width(bones, spacing_mm=EDGES, volume=volume) == pytest.approx({"medial": 3.0, "lateral": 3.0})


def test_joint_space_without_a_bone_is_nan():
    bones = box_knee()
    bones[bones == 1] = 0
    assert all(math.isnan(width) for width in joint_space_width(bones, spacing_mm=EDGES).values())
    assert all(math.isnan(width) for width in joint_space_width(np.zeros_like(bones), spacing_mm=EDGES).values())
    with pytest.raises(ValueError, match=r"\(H, W, S\)"):
        joint_space_width(bones[0], spacing_mm=EDGES)
    with pytest.raises(ValueError, match="spacing_mm"):
        joint_space_width(bones, spacing_mm=(1, 0, 1))


def test_osteophyte_is_the_volume_of_the_lip():
    """6 rows x 3 columns x 8 slices of 2 mm3 are 288 mm3 beyond the femur's medial margin, and nothing elsewhere."""
    found = osteophyte_volumes(box_knee((4, 4), lip=3), spacing_mm=EDGES)
    assert found == {"femur_medial": 288.0, "femur_lateral": 0.0, "tibia_medial": 0.0, "tibia_lateral": 0.0}
    lateral = osteophyte_volumes(box_knee((4, 4), lip=3)[:, ::-1], spacing_mm=EDGES)
    assert lateral["femur_lateral"] == 288.0
    assert math.isnan(osteophyte_volumes(np.zeros((80, 60, 8)), spacing_mm=EDGES)["tibia_medial"])


def brute_force_distances(mask, reference, edges):
    """Every surface voxel against every other, without a distance map."""
    surfaces = []
    for volume in (mask, reference):
        padded = np.pad(volume, 1)
        inner = padded.copy()
        for axis in range(3):
            for step in (-1, 1):
                inner &= np.roll(padded, step, axis)
        surfaces.append(np.argwhere(padded & ~inner) * np.asarray(edges))
    far = np.linalg.norm(surfaces[0][:, None] - surfaces[1][None], axis=2)
    there, back = far.min(1), far.min(0)
    percentiles = max(np.percentile(there, 95), np.percentile(back, 95))
    return np.concatenate([there, back]).mean(), percentiles


def test_surface_distances_agree_with_brute_force():
    generator = np.random.default_rng(0)
    masks = [np.zeros((12, 14, 6), bool), np.zeros((12, 14, 6), bool)]
    for mask in masks:
        mask[2:9, 3:11, 1:5] = generator.random((7, 8, 4)) > 0.2
    expected = brute_force_distances(*masks, EDGES)
    assert surface_distances(*masks, spacing_mm=EDGES) == pytest.approx(expected, abs=1e-5)
    assert surface_distances(masks[0], masks[0], spacing_mm=EDGES) == (0.0, 0.0)


def test_a_slab_shifted_by_two_rows_of_half_a_millimetre_is_a_millimetre_off():
    mask = np.zeros((30, 20, 6), bool)
    mask[10:12] = True
    shifted = np.roll(mask, 2, axis=0)
    mean, far = surface_distances(mask, shifted, spacing_mm=(0.5, 1, 1))
    assert far == pytest.approx(1.0)
    assert mean == pytest.approx(0.75)  # rows 10, 11 against 12, 13: 1 and 0.5 mm
    assert mask_dice(mask, shifted) == 0.0
    assert mask_dice(mask, mask) == 1.0
    assert math.isnan(mask_dice(mask & False, mask & False))
    assert all(map(math.isnan, surface_distances(mask & False, mask, spacing_mm=EDGES)))
    with pytest.raises(ValueError, match="one shape"):
        mask_dice(mask, mask[1:])


def edge_volume(sigma_mm, edge=0.5):
    """A femur and tibia whose borders are error functions of `sigma_mm`, 12 mm of cartilage between."""
    rows = np.arange(160) * edge
    profile = 0.5 * (erf((rows - 34) / sigma_mm / np.sqrt(2)) - erf((rows - 46) / sigma_mm / np.sqrt(2)))
    volume = np.broadcast_to((-0.7 + 1.4 * profile)[:, None, None], (160, 12, 4)).copy()
    bones = np.zeros(volume.shape, np.uint8)
    bones[:68], bones[93:] = 1, 2
    return volume, bones, (edge, edge, 1.5)


@pytest.mark.parametrize("sigma_mm", [1.0, 1.5, 2.0])
def test_edge_spread_of_a_gaussian_edge(sigma_mm):
    """A Gaussian's quartiles lie 1.349 standard deviations apart."""
    volume, bones, edges = edge_volume(sigma_mm)
    assert edge_spread_width(volume, bones, spacing_mm=edges) == pytest.approx(1.349 * sigma_mm, rel=0.05)


def test_noise_does_not_sharpen_an_edge_and_scaling_or_shifting_changes_nothing():
    volume, bones, edges = edge_volume(1.5)
    clean = edge_spread_width(volume, bones, spacing_mm=edges)
    noise = np.random.default_rng(0).normal(0, 0.15, volume.shape)
    assert edge_spread_width(volume + noise, bones, spacing_mm=edges) > 0.9 * clean
    assert edge_spread_width(0.5 * volume + 0.2, bones, spacing_mm=edges) == pytest.approx(clean)
    assert math.isnan(edge_spread_width(volume * 0, bones, spacing_mm=edges))
    assert math.isnan(edge_spread_width(volume, bones * 0, spacing_mm=edges))
    with pytest.raises(ValueError, match="shape"):
        edge_spread_width(volume, bones[1:], spacing_mm=edges)
    with pytest.raises(ValueError, match="finite"):
        edge_spread_width(volume * np.nan, bones, spacing_mm=edges)


def test_band_power_of_a_wave_lies_in_its_band_and_quadruples_with_its_amplitude():
    """A Hann window on both axes keeps 3/8 squared of a wave's mean square (a^2 / 2), of N points a little less."""
    rows = np.arange(128)[:, None, None]
    for name, frequency in (("low", 4 / 128), ("middle", 10 / 128), ("high", 20 / 128)):
        wave = np.broadcast_to(np.cos(2 * np.pi * frequency * rows), (128, 128, 3))
        power = band_power(wave, spacing_mm=(1, 1, 1))
        assert power[name] == pytest.approx(0.5 * (3 / 8) ** 2 * (127 / 128) ** 2, rel=0.02)
        assert sum(power.values()) == pytest.approx(power[name], rel=0.02)
        assert band_power(2 * wave, spacing_mm=(1, 1, 1))[name] == pytest.approx(4 * power[name])
        assert band_power(3 - wave, spacing_mm=(1, 1, 1))[name] == pytest.approx(power[name])
    assert sum(band_power(np.ones((16, 16, 1)), spacing_mm=(1, 1, 1)).values()) == 0.0


def test_tissue_errors_are_those_of_the_masks():
    labels = np.zeros((20, 30, 4), np.uint8)
    labels[5:8], labels[8:10], labels[10:12] = 1, 5, 9
    real = np.full(labels.shape, -0.45)
    real[5:8], real[8:10], real[10:12], real[:, 22:] = -0.7, 0.6, 0.0, 0.4
    masks = tissue_masks(real, spacing_mm=(2, 2, 2), labels=labels)
    assert [int(masks[name].sum()) for name in ("bone", "cartilage", "meniscus")] == [360, 240, 240]
    assert masks["muscle"].any()
    assert masks["fat"].any()
    assert real[masks["muscle"]].min() > 0 > real[masks["fat"]].max()
    pred = real + np.where(labels == 1, 0.5, 0.1)
    errors = tissue_errors(pred, real, masks)
    assert errors["bone"] == pytest.approx({"absolute": 0.5, "squared": 0.25})
    assert errors["fat"] == pytest.approx({"absolute": 0.1, "squared": 0.01})
    assert math.isnan(tissue_errors(pred, real, {"meniscus": None})["meniscus"]["squared"])
    with pytest.raises(ValueError, match="one shape"):
        tissue_errors(pred[1:], real, masks)


def line_of_slices(distance):
    """Correlation of the slices of a field whose covariance falls linearly from 1 to 0 over 10 mm."""
    return max(0.0, 1 - distance / 10)


def moving_average_volume(slices, spacing, seed=0):
    """Slices are sums of white noise over 10 mm, so that their correlation falls linearly with distance."""
    fine, generator = 0.1, np.random.default_rng(seed)
    noise = np.cumsum(generator.standard_normal((40, 40, 600)), axis=-1)
    at = np.round(np.arange(slices) * spacing / fine).astype(int)
    return noise[..., at + 100] - noise[..., at]


def test_curve_as_published_rises_with_slices_and_at_equal_distance_it_does_not():
    depth = 40.0
    rows = slice_count_curve(
        lambda count: torch.from_numpy(moving_average_volume(count, depth / (count - 1)))[None, None],
        depth_mm=depth,
        distance_mm=4.0,
        counts=(11, 21, 41),
    )
    assert [row["spacing_mm"] for row in rows] == [4.0, 2.0, 1.0]
    assert [row["adjacent"] for row in rows] == pytest.approx([line_of_slices(d) for d in (4, 2, 1)], abs=0.04)
    assert [row["equal"] for row in rows] == pytest.approx([0.6, 0.6, 0.6], abs=0.04)
    with pytest.raises(ValueError, match="3 slices"):
        slice_count_curve(lambda count: torch.zeros(4, 4, 5), depth_mm=1, distance_mm=1, counts=(3,))


def test_correlation_between_two_steps_is_interpolated_and_a_constant_volume_has_none():
    volume = moving_average_volume(30, 1.0)
    ends = [correlation_at(volume, slice_spacing_mm=1, distance_mm=at) for at in (2, 3)]
    assert correlation_at(volume, slice_spacing_mm=1, distance_mm=2.25) == pytest.approx(
        0.75 * ends[0] + 0.25 * ends[1]
    )
    assert math.isnan(correlation_at(np.zeros((4, 4, 5)), slice_spacing_mm=1, distance_mm=1))
    assert math.isnan(correlation_at(volume[..., :1], slice_spacing_mm=1, distance_mm=1))


def test_wrapped_differences_by_hand():
    """16 squares to 256, which is 0 in 8 bits; the right mean square is 256 and the PSNR 24.05 dB."""
    a, b = np.full((4, 4), 16, np.uint8), np.zeros((4, 4), np.uint8)
    right, wrapped = wrapped_psnr(a, b)
    assert right == pytest.approx(10 * np.log10(255**2 / 256))
    assert wrapped == math.inf
    assert wrapped_psnr(b, a) == (right, wrapped)
    with pytest.raises(ValueError, match="uint8"):
        wrapped_psnr(a.astype(float), b)


def test_unrelated_noise_wraps_to_28_db():
    """Squares modulo 256 of uniform differences have a mean near 100, whatever the images: 10 log10(65025/100)."""
    generator = np.random.default_rng(0)
    a, b = generator.integers(0, 256, (2, 200, 200), dtype=np.uint8)
    right, wrapped = wrapped_psnr(a, b)
    assert right < 9
    assert wrapped == pytest.approx(28.3, abs=0.5)
