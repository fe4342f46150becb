"""How plainly a film shows a change: exposures with other noise or texture, and an ideal observer's detectability."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bundle.phantom import film
from bundle.phantom.anatomy import Knee, Person, draw_knee
from bundle.phantom.posterior import redraw
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
