"""The MRI's signal: the equation behind each tissue, the field, the coil, ghosts and noise."""

import hashlib
import subprocess
import sys
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from bundle.phantom import film, mri
from bundle.phantom.anatomy import Person, sample_person
from bundle.phantom.composition import layers
from bundle.phantom.film import render_film
from bundle.phantom.mri import SLICES, render_mri, slabs
from bundle.phantom.pose import solve_pose
from bundle.phantom.streams import stream
from bundle.phantom.tissues import SIGNAL
from bundle.phantom.worlds import NATURAL
from bundle.readings import VARIABLES

NONE = dict.fromkeys(VARIABLES[1:], 0)
PEOPLE = (21, 22, 23)
FATS = ("subcutaneous_fat", "intermuscular_fat", "hoffa_fat", "marrow")


@pytest.fixture(scope="module")
def volumes():
    return [render_mri(sample_person(77, index), "R", size=256)[0] for index in PEOPLE]


def pure(person: Person, size: int, planes: range) -> dict[str, np.ndarray]:
    """Voxels (S, H, W) that hold one tissue alone, by compositing the layers' shares."""
    posed = solve_pose(person.knees["R"], "mri")
    shares: dict[str, torch.Tensor] = {}
    for first, slab in slabs(size):
        if first not in planes:
            continue
        part: dict[str, torch.Tensor] = {}
        for layer in layers(posed, slab, max(160 / size, 0.7)):
            for share in part.values():
                share[layer.window.pixels] *= 1 - layer.occupancy
            own = part.setdefault(layer.tissue, torch.zeros(slab.planes, size, size))
            own[layer.window.pixels] += layer.occupancy
        for tissue, share in part.items():
            shares.setdefault(tissue, torch.zeros(SLICES, size, size))[first : first + slab.planes] = share
    return {tissue: share.numpy() > 0.98 for tissue, share in shares.items()}


def with_world(person: Person, **values: float) -> Person:
    return replace(person, world=replace(NATURAL, **values))


def test_tissues_have_the_signal_of_the_equation(volumes):
    """In the middle third of the rows, where the coil is even, in voxels of one tissue; fat varies with the field."""
    masks = pure(sample_person(77, PEOPLE[0]), 256, range(32, 48))
    middle = np.zeros((SLICES, 256, 256), dtype=bool)
    middle[:, 64:192, 64:192] = True
    means = {}
    for tissue in ("cartilage", "fluid", "muscle", "meniscus", "intermuscular_fat", "marrow"):
        inside = masks[tissue] & middle
        if tissue == "cartilage":
            inside |= masks["deep_cartilage"] & middle
        assert inside.sum() > 100
        means[tissue] = volumes[0][inside].mean()
        assert means[tissue] == pytest.approx(SIGNAL[tissue], rel=0.2 if tissue in FATS else 0.1), tissue
    assert list(means.values()) == sorted(means.values(), reverse=True)
    assert 0.2 < means["intermuscular_fat"] / means["muscle"] < 0.35


def test_each_person_s_slices_correlate_and_their_profile_falls_as_a_knee_s(volumes):
    for volume in volumes:
        window = volume[13:63].reshape(50, -1)
        assert 0.78 < np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairwise(window)]) < 0.87
        profile = volume.mean(axis=(1, 2))
        peak = int(profile.argmax())
        assert 0.10 <= peak / 79 <= 0.25
        assert profile[round(0.4 * 79)] < 0.65 * profile[peak]


def test_two_people_look_as_different_as_two_people(volumes):
    scaled = []
    for volume in volumes:
        low, high = np.percentile(volume, [0.5, 99.5])
        scaled.append(np.clip((volume - low) / (high - low), 0, 1)[15:70:9])
    likeness = [
        np.mean([structural_similarity(x, y, data_range=1.0) for x, y in zip(a, b, strict=True)])
        for a, b in combinations(scaled, 2)
    ]
    assert max(likeness) < 0.35


@pytest.fixture(scope="module")
def quiet():
    """A knee without noise at 128 x 128, its person, and its voxels of one tissue in the middle planes."""
    person = with_world(sample_person(77, 24, readings={"R": NONE}), mri_noise=0.0)
    return person, render_mri(person, "R", size=128)[0], pure(person, 128, range(16, 56))


def test_twice_the_fat_excitation_adds_the_fat_s_signal_once_more(quiet):
    """Subcutaneous fat gains 0.08 x 0.92 of its full signal; muscle, with 4 % fat, hardly any."""
    person, before, masks = quiet
    after, _ = render_mri(with_world(person, mri_noise=0.0, fat_excitation=0.16), "R", size=128)
    fat, muscle = (masks[tissue] for tissue in ("intermuscular_fat", "muscle"))
    excited = 0.08 * 0.90 * 0.9 / 0.8 / 0.0457 * SIGNAL["muscle"]
    gained = after[fat].mean() - before[fat].mean()
    assert 0.3 * before[fat].mean() < gained < 1.2 * before[fat].mean()
    assert gained < excited
    assert after[muscle].mean() == pytest.approx(before[muscle].mean(), rel=0.02)


def test_the_field_s_error_changes_fat_by_at_most_a_fifth_and_muscle_hardly(quiet, monkeypatch):
    person, volume, masks = quiet
    monkeypatch.setattr(mri, "_FIELD_ERROR", 0.0)
    even, _ = render_mri(person, "R", size=128)
    change = volume / np.maximum(even, 1e-6) - 1
    fat, muscle = (np.abs(change[masks[tissue]]) for tissue in ("intermuscular_fat", "muscle"))
    assert 0.02 < np.percentile(fat, 99) < 0.2
    assert np.percentile(muscle, 99) < 0.03


def test_coil_falls_off_towards_the_ends(quiet):
    person, before, masks = quiet
    after, _ = render_mri(with_world(person, mri_noise=0.0, coil_falloff=0.5), "R", size=128)
    muscle = masks["muscle"]
    ratio = np.divide(after, before, where=before > 0, out=np.ones_like(after))
    assert ratio[:, 60:68][muscle[:, 60:68]].mean() == pytest.approx(1, abs=0.02)
    ends = ratio[:, :2][muscle[:, :2]].mean()
    assert ends == pytest.approx((1 - 0.5) / (1 - 0.16), abs=0.05)


def test_weak_ghosts_of_the_limb_lie_beside_it(quiet):
    """Without noise the air holds nothing but the copies along the columns: under 5 % of muscle, and not zero."""
    _, volume, _ = quiet
    air = volume[36:44, 40:90, 1:8]
    assert 0.001 * SIGNAL["muscle"] < air.max() < 0.05 * SIGNAL["muscle"]


def test_noise_follows_the_world_s():
    """Rayleigh in air: mean 1.2533 sigma."""
    person = with_world(sample_person(77, 24), mri_noise=0.0044)
    volume, _ = render_mri(person, "R", size=64)
    corner = volume[72:, :12, :4]
    assert corner.mean() == pytest.approx(1.2533 * 0.0044 * 0.625 / 2.5, rel=0.05)


def test_left_knee_is_the_mirror_of_a_right_one(monkeypatch):
    person = sample_person(77, 25)
    right, _ = render_mri(person, "R", size=64)
    mirrored = replace(person, knees={"L": replace(person.knees["R"], side="L")})
    monkeypatch.setattr(mri, "stream", lambda seed, index, purpose, draw: stream(seed, index, purpose[:-1] + "R", draw))
    left, _ = render_mri(mirrored, "L", size=64)
    np.testing.assert_array_equal(left, right[:, :, ::-1])


def test_film_and_mri_share_no_random_stream(monkeypatch):
    used: dict[str, set[str]] = {"film": set(), "mri": set()}
    person = sample_person(77, 25)
    for name, module in (("film", film), ("mri", mri)):

        def spy(seed: int, index: int, purpose: str, draw: int = 0, *, name: str = name) -> np.random.Generator:
            used[name].add(purpose)
            return stream(seed, index, purpose, draw)

        monkeypatch.setattr(module, "stream", spy)
    render_film(person, spacing_mm=1.6)
    render_mri(person, "R", size=64)
    assert used["film"]
    assert used["mri"]
    assert not used["film"] & used["mri"]


@pytest.mark.slow
def test_another_process_gives_the_same_bits():
    code = (
        "import hashlib\nfrom bundle.phantom.anatomy import sample_person\nfrom bundle.phantom.mri import render_mri\n"
        "volume, _ = render_mri(sample_person(5, 7), 'R', size=64)\n"
        "print(hashlib.sha256(volume.tobytes()).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    sample_person(5, 8)
    volume, _ = render_mri(sample_person(5, 7), "R", size=64)
    assert hashlib.sha256(volume.tobytes()).hexdigest() == other


def peaks_of_a_process(*statements):
    """Largest memory of its own, kB, of a fresh process once it has imported the phantom, and after each statement.

    Pages of the libraries' files are left out: all processes share them, and one machine has 0.35 GB of them in memory
    where another has 0.58.
    """
    # Not `ru_maxrss`, which a child inherits from the process that started it.
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak of a process is read from Linux's /proc")
    imports = "from bundle.phantom import anatomy, film, mri"
    report = "held = dict(line.split(':') for line in open('/proc/self/status'))\n"
    report += "print(int(held['VmHWM'].split()[0]) - int(held['RssFile'].split()[0]))"
    code = "\n".join(part for statement in (imports, *statements) for part in (statement, report))
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    return [int(line) for line in output.split()]


@pytest.mark.slow
def test_film_and_mri_fit_a_process_of_1_2_gigabytes():
    """0.85 GB of its own, and 0.35 GB of libraries."""
    person = "person = anatomy.sample_person(5, 7)"
    assert peaks_of_a_process(person, "film.render_film(person)", "mri.render_mri(person, 'L')")[-1] < 0.85e6


@pytest.mark.slow
def test_native_size_takes_its_84_megabytes_and_little_more():
    """By what it adds: the libraries' share of a process differs by 30 MB from one start to the next."""
    _, before, after = peaks_of_a_process(
        "person = anatomy.sample_person(5, 7)", "mri.render_mri(person, 'L', size=512)"
    )
    assert after - before < 2 * 84e3
