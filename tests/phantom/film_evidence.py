"""How plainly a film shows a change: exposures with other noise or texture, and an ideal observer's detectability."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bundle.phantom import film
from bundle.phantom.anatomy import Knee, Person, draw_knee
from bundle.phantom.posterior import redraw, sample_posterior
from bundle.phantom.streams import stream

SPACING_MM = 1.6
ROI_PIXELS = 64
ENDLESS_PHOTONS = 1e9


def expose(
    person: Person, *, noise: int = 0, texture: int = 0, spacing_mm: float = SPACING_MM, photons: float | None = None
) -> np.ndarray:
    """A film (H, W) with draw `noise` of the photons and `texture` of the trabeculae, of so many `photons` a pixel."""

    def other(seed: int, index: int, purpose: str, draw: int = 0) -> np.random.Generator:
        if purpose == "film_noise":
            draw = noise
        elif purpose.startswith("film_texture"):
            draw = texture
        return stream(seed, index, purpose, draw)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(film, "stream", other)
        if photons is not None:
            person = replace(person, world=replace(person.world, film_photons=photons))
            patch.setattr(film, "_PHOTONS", photons, raising=False)
        return film.render_film(person, spacing_mm=spacing_mm)[0].astype(np.float64)


def region(
    person: Person, image: np.ndarray, *, spacing_mm: float = SPACING_MM, pixels: int = ROI_PIXELS
) -> np.ndarray:
    """Square of a film round the right knee's joint."""
    held = film.solve_pose(person.knees["R"], "film")
    centre = film.film_geometry(person, spacing_mm).project((held.femur.shift + held.tibia.shift) / 2, "R")
    half = pixels // 2
    row, column = (round(float(value)) + half for value in centre)
    return np.pad(image, half, mode="edge")[row - half : row + half, column - half : column + half]


def spectrum(image: np.ndarray) -> np.ndarray:
    """Power of an image under a Hann window, (H, W)."""
    window = np.hanning(len(image))
    return np.abs(np.fft.fft2(image * window[:, None] * window[None])) ** 2


def detectability(change: np.ndarray, noise_power: np.ndarray) -> float:
    """Detectability d' of an observer who knows the change and the noise, and looks for nothing else.

    Source:
        Barrett and Myers, Foundations of Image Science, 2004, section 13.2.12: the prewhitening matched filter in
        stationary noise, d'^2 = sum |S(f)|^2 / NPS(f).
    """
    return float(np.sqrt(np.sum(spectrum(change) / noise_power)))


def noise_power(person: Person, *, texture: bool, pairs: int = 2) -> np.ndarray:
    """Power of what differs between exposures of the same bones: photons, and with `texture` the trabeculae too."""
    films = [region(person, expose(person, noise=k + 1, texture=k + 1 if texture else 0)) for k in range(2 * pairs)]
    return np.mean([spectrum(a - b) / 2 for a, b in zip(films[::2], films[1::2], strict=True)], axis=0)


def fresh_knee(person: Person, draw: int) -> Knee:
    """The right knee drawn anew, from the same grades and covariates."""
    shared = stream(person.seed, person.index, "identity").normal(size=12)
    return draw_knee(person.seed, person.index, "R", person.covariates, person.knees["R"].readings, shared, draw=draw)


def change(person: Person, *latents: str, draw: int = 1) -> np.ndarray:
    """What other values of latents change on the film of the right knee, without noise."""
    other = redraw(person.knees["R"], fresh_knee(person, draw), latents)
    before, after = (
        region(person, expose(p, photons=ENDLESS_PHOTONS))
        for p in (person, replace(person, knees={**person.knees, "R": other}))
    )
    return after - before


def exposures(person: Person) -> dict[str, np.ndarray]:
    """The given film, a repeat exposure, the film of a posterior sample, and that of a knee 1 mm narrower."""
    knee = person.knees["R"]
    space = {compartment: max(width - 1.0, 0.3) for compartment, width in knee.joint_space_film.items()}
    narrower = replace(person, knees={**person.knees, "R": replace(knee, joint_space_film=space)})
    shown = {"given": person, "repeat": person, "sample": sample_posterior(person, "R", 1), "narrower": narrower}
    return {name: region(one, expose(one, noise=k)) for k, (name, one) in enumerate(shown.items())}


def features(film: np.ndarray, given: np.ndarray) -> np.ndarray:
    """What a small classifier sees of a film beside the given one: mean and size of the change in 8 x 8 squares."""
    changed = film - given
    squares = changed.reshape(len(changed) // 8, 8, -1, 8)
    return np.concatenate([squares.mean(axis=(1, 3)).ravel(), squares.std(axis=(1, 3)).ravel()])


def area_under_curve(positive: np.ndarray, negative: np.ndarray) -> float:
    """Chance that a classifier on `features` ranks one of `positive` over one of `negative`, trained on the first half.

    Ridge-penalised logistic regression by Newton's method on standardised features; both (n, features), paired.
    """
    half = len(positive) // 2
    x = np.concatenate([positive[:half], negative[:half]])
    label = np.repeat([1.0, 0.0], half)
    mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-9
    x = np.column_stack([(x - mean) / spread, np.ones(len(x))])
    weights, penalty = np.zeros(x.shape[1]), np.diag([10.0] * (x.shape[1] - 1) + [1e-6])
    for _ in range(20):
        chance = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        curvature = x.T @ (x * (chance * (1 - chance))[:, None]) + penalty
        weights += np.linalg.solve(curvature, x.T @ (label - chance) - penalty @ weights)
    scores = [((part[half:] - mean) / spread) @ weights[:-1] for part in (positive, negative)]
    above = scores[0][:, None] - scores[1][None]
    return float((above > 0).mean() + 0.5 * (above == 0).mean())


def cross_validated_r2(films: np.ndarray, target: np.ndarray, *, folds: int = 5) -> float:
    """R2 of kernel ridge regression from films (n, pixels), each fold's penalty by leave-one-out on the others."""
    predicted = np.empty(len(target))
    for fold in range(folds):
        held = np.arange(len(target)) % folds == fold
        train, mean = films[~held] - films[~held].mean(axis=0), target[~held].mean()
        kernel, across = train @ train.T, (films[held] - films[~held].mean(axis=0)) @ train.T
        best = (np.inf, np.zeros(int(held.sum())))
        for penalty in np.trace(kernel) / len(kernel) * np.geomspace(1e-4, 100, 13):
            inverse = np.linalg.inv(kernel + penalty * np.eye(len(kernel)))
            hat = kernel @ inverse
            error = np.mean(((target[~held] - mean - hat @ (target[~held] - mean)) / (1 - np.diag(hat))) ** 2)
            if error < best[0]:
                best = (error, across @ inverse @ (target[~held] - mean))
        predicted[held] = mean + best[1]
    return float(1 - np.mean((predicted - target) ** 2) / target.var())


def hidden_targets(knee: Knee) -> dict[str, float]:
    """Latents of a knee that a film hides, beyond what its grades say of them."""
    grades, pose = knee.readings, knee.mri_pose
    targets = {f"MRI {name}": getattr(pose, name) for name in ("tibia_tilt", "flexion", "rotation", "abduction")}
    targets |= {f"MRI offset {axis}": shift for axis, shift in zip("xyz", pose.offset_mm, strict=True)}
    return targets | {
        "cartilage split": knee.cartilage_split,
        "patellar cartilage": float(np.log(knee.patellar_cartilage / (1 - 0.12 * grades["XRKL"]))),
        "unloaded joint space": knee.joint_space_mri["medial"] - 1.04 * knee.joint_space_film["medial"],
        "meniscus extrusion": knee.meniscus_extrusion["medial"] - 1.3 * grades["XRJSM"],
        "effusion": float(np.log(knee.effusion / (0.8 + 0.9 * grades["XRKL"]))),
        "vessel shift": knee.vessel_shift[0],
        "cyst AP place": knee.cysts["TM"].along_mm,
        "marrow lesion AP place": knee.marrow_lesions["TM"].along_mm,
    }


def visible_targets(knee: Knee) -> dict[str, float]:
    """Latents of a knee that a film shows."""
    return {"scale": knee.scale, "joint space medial": knee.joint_space_film["medial"], "fat": knee.fat}
