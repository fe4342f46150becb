"""The film as physics: geometry, spectra, noise, what a finding changes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bundle.phantom import film as film_module
from bundle.phantom.anatomy import sample_person
from bundle.phantom.film import bone_shadow, film_geometry, render_film
from bundle.phantom.film_exposure import primary
from bundle.phantom.mri import SLICE_MM, SLICES, render_labels
from bundle.phantom.pose import solve_pose
from bundle.phantom.streams import stream
from bundle.phantom.tissues import ENERGIES_KEV, SPECTRA, SPECTRUM, kramers_spectrum
from bundle.phantom.worlds import WORLDS
from bundle.readings import VARIABLES

NONE = dict.fromkeys(VARIABLES[1:], 0)


def _project_labels(labels: np.ndarray, geometry) -> tuple[np.ndarray, np.ndarray]:
    """Bone of a label volume (H, W, S), looked up along the film's rays, and the rays that stay in the volume."""
    size = labels.shape[0]
    bone, pitch = (labels >= 1) & (labels <= 4), 160 / size
    shadow, held = np.zeros(geometry.knee_shape, bool), np.ones(geometry.knee_shape, bool)
    rows, columns = geometry.knee_shape
    for k in range(SLICES):
        slab = geometry.slab(np.array([((SLICES - 1) / 2 - k) * SLICE_MM]), geometry.spacing_mm)
        r = np.round((size - 1) / 2 - slab.z[0, :rows, 0].numpy() / pitch).astype(int)
        c = np.round((size - 1) / 2 - slab.x[0, 0, :columns].numpy() / pitch).astype(int)
        held &= ((r >= 0) & (r < size))[:, None] & ((c >= 0) & (c < size))[None, :]
        shadow |= bone[np.clip(r, 0, size - 1)][:, np.clip(c, 0, size - 1), k]
    return shadow & held, held


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_bone_shadow_in_the_mri_s_pose_is_that_of_its_labels_and_in_the_film_s_pose_is_not():
    person = sample_person(91, 0)
    geometry = film_geometry(person, 0.8)
    poses = {scan: solve_pose(person.knees["R"], scan) for scan in ("mri", "film")}
    labels, held = _project_labels(render_labels(poses["mri"], size=128)[0], geometry)
    supine, standing = (_dice(bone_shadow(poses[scan], geometry) & held, labels) for scan in ("mri", "film"))
    assert supine >= 0.97
    assert standing < supine - 0.02


def test_film_is_bright_where_the_bone_shadow_is():
    """At the shadow's edge a film brightens: mean over 4 mm inside it against 4 mm outside, along the whole outline."""
    person = sample_person(91, 0)
    geometry = film_geometry(person, 0.8)
    shadow = torch.from_numpy(bone_shadow(solve_pose(person.knees["R"], "film"), geometry)).float()[None, None]
    near = torch.nn.functional.max_pool2d(shadow, 11, 1, 5)[0, 0] > 0
    deep = -torch.nn.functional.max_pool2d(-shadow, 11, 1, 5)[0, 0] > 0
    inside = shadow[0, 0] > 0
    half = render_film(person, spacing_mm=0.8)[0][:, : geometry.knee_shape[1]]
    assert half[(inside & ~deep).numpy()].mean() > 1.3 * half[(near & ~inside).numpy()].mean()


def test_right_knee_is_the_flipped_left_one(monkeypatch):
    """Equal latents and texture: the half with the left knee is the mirror of the half with the right one."""
    person = sample_person(3, 1)
    right = person.knees["R"]
    twin = replace(person, knees={"R": right, "L": replace(right, side="L")})
    monkeypatch.setattr(film_module, "stream", lambda seed, index, _: stream(seed, index, "film_texture_R"))
    passed, _ = film_module._passed(twin, 1.6, None, film_module.Clutter())
    torch.testing.assert_close(passed, passed.flip(-1), rtol=0, atol=0)


def test_repeat_exposures_differ_by_photons_alone():
    person = sample_person(3, 1)
    films = [render_film(person, spacing_mm=1.6, exposure=k)[0].astype(float) for k in (0, 0, 1, 2)]
    np.testing.assert_array_equal(films[0], films[1])
    noise = films[2] - films[3]
    assert noise.std() > 1
    # No structure is left: neighbours are uncorrelated where there is signal.
    limb = films[0][60:-60, 20:80] > 600
    a, b = noise[60:-60, 20:80][:, :-1], noise[60:-60, 20:80][:, 1:]
    both = limb[:, :-1] & limb[:, 1:]
    assert abs(np.corrcoef(a[both], b[both])[0, 1]) < 0.1
    with pytest.raises(ValueError, match="exposure"):
        render_film(person, spacing_mm=1.6, exposure=-1)


def test_kramers_law_gives_the_tabulated_spectrum():
    """Within 0.035 a bin at 70 kV; and the mean energy rises with the voltage."""
    assert max(abs(a - b) for a, b in zip(kramers_spectrum(70), SPECTRUM, strict=True)) < 0.035
    for spectrum in SPECTRA.values():
        assert sum(spectrum) == pytest.approx(1)
    means = [np.dot(SPECTRA[kv], ENERGIES_KEV) for kv in (60, 70, 90)]
    assert means == sorted(means)
    assert sum(share for share, energy in zip(SPECTRA[60], ENERGIES_KEV, strict=True) if energy > 65) == 0


def test_beer_lambert_by_hand_and_softer_beams_are_stopped_more():
    """No tissue: all passes. 10 mm of lean tissue: the sum over bins of share times exp(-mu 10 mm), near exp(-0.29)."""
    nothing, slab = torch.zeros(1), torch.full((1,), 10.0)
    assert float(primary(nothing, nothing, 70)) == pytest.approx(1, abs=1e-6)
    assert float(primary(slab, nothing, 70)) == pytest.approx(np.exp(-0.295), rel=0.02)
    through = [float(primary(10 * slab, slab, kv)) for kv in (60, 70, 90)]
    assert through == sorted(through)


def test_exposure_world_is_noisier():
    person = sample_person(3, 1)

    def noise(world: str) -> float:
        shifted = replace(person, world=WORLDS[world])
        a, b = (render_film(shifted, spacing_mm=1.6, exposure=k)[0].astype(float) for k in (1, 2))
        return (a - b)[60:-60].std()

    assert noise("exposure") > 1.4 * noise("natural")


@pytest.mark.parametrize("site", ["FM", "FL", "TM", "TL"])
def test_cyst_changes_the_film_by_less_than_3_percent(site):
    films = [
        render_film(sample_person(12, 0, readings={"R": NONE | {f"XRCY{site}": grade}}), spacing_mm=0.8)[0].astype(
            float
        )
        for grade in (0, 1)
    ]
    changed = np.abs(films[1] - films[0])
    assert 0 < changed.max() < 0.03 * 4095


@pytest.mark.parametrize("finding", ["XRSCTM", "XROSTM", "XROSFL"])
def test_sclerosis_and_spurs_are_seen_on_the_film(finding):
    """Over 40 mm2 change by more than 4 % of the range."""
    films = [
        render_film(sample_person(12, 0, readings={"R": NONE | {finding: grade}}), spacing_mm=0.8)[0].astype(float)
        for grade in (0, 3)
    ]
    assert (np.abs(films[1] - films[0]) > 0.04 * 4095).sum() * 0.8**2 > 40
