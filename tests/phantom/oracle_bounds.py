"""What can be predicted of an MRI: mean volume, nearest film, ridge regression, and the oracle of posterior samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from film_evidence import expose, region

from bundle.phantom.anatomy import Person, sample_person
from bundle.phantom.mri import render_mri
from bundle.phantom.posterior import sample_posterior

FILM_MM, FILM_PIXELS = 1.6, 100


def window(person: Person, size: int) -> np.ndarray:
    """The right knee's slices [13, 63), the 0.5 and 99.5 percentiles of all at 0 and 1, as preparation scales them."""
    volume = render_mri(person, "R", size=size)[0][13:63].astype(np.float64)
    low, high = np.percentile(volume, [0.5, 99.5])
    return np.clip((volume - low) / (high - low), 0, 1).astype(np.float32)


def film_of(person: Person) -> np.ndarray:
    """The film round the joint, standardised, flat."""
    image = region(person, expose(person, spacing_mm=FILM_MM), spacing_mm=FILM_MM, pixels=FILM_PIXELS)
    return ((image - image.mean()) / image.std()).ravel()


def decibels(error: float) -> float:
    """PSNR of a mean squared error, range 1."""
    return float(-10 * np.log10(error))


def ridge_weights(train: np.ndarray, test: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Weights on the training volumes, (tests, trained): kernel ridge regression from films.

    The penalty is the one with the least leave-one-out error on `targets`, (trained, n).
    """
    mean = train.mean(axis=0)
    kernel, across = (train - mean) @ (train - mean).T, (test - mean) @ (train - mean).T
    centred = targets - targets.mean(axis=0)
    best = (np.inf, 0.0)
    for penalty in np.trace(kernel) / len(kernel) * np.geomspace(1e-3, 10, 9):
        hat = kernel @ np.linalg.inv(kernel + penalty * np.eye(len(kernel)))
        left_out = (centred - hat @ centred) / (1 - np.diag(hat) - 1 / len(hat))[:, None]
        best = min(best, (float(np.mean(left_out**2)), float(penalty)))
    weights = across @ np.linalg.inv(kernel + best[1] * np.eye(len(kernel)))
    return weights - weights.mean(axis=1, keepdims=True) + 1 / len(kernel)


def bounds(
    *, seed: int, train: int, tests: Sequence[int], samples: int, size: int, given: str = "film", enrich: bool = False
) -> dict[str, float]:
    """Mean PSNR over the test knees of each prediction, dB.

    Args:
        seed: of the cohort.
        train: participants 0 to `train` - 1 are learnt from.
        tests: participants held out.
        samples: K of each test knee.
        size: pixels a side of the MRI.
        given: what the oracle knows.
        enrich: as the cohort's.
    """
    people = [sample_person(seed, index, enrich=enrich) for index in [*range(train), *tests]]
    films = np.stack([film_of(person) for person in people])
    volumes = np.stack([window(person, size) for person in people])
    learnt, held = volumes[:train].reshape(train, -1), volumes[train:].reshape(len(tests), -1)
    mean = learnt.mean(axis=0)
    distance = ((films[train:, None] - films[None, :train]) ** 2).mean(axis=2)
    weights = ridge_weights(films[:train], films[train:], learnt[:, ::37])
    scores: dict[str, list[float]] = {}

    def add(name: str, error: float) -> None:
        scores.setdefault(name, []).append(decibels(error))

    def loss(prediction: np.ndarray, truth: np.ndarray) -> float:
        return float(np.mean((prediction - truth) ** 2))

    for row, truth in enumerate(held):
        add("mean volume", loss(mean, truth))
        add("another knee", loss(learnt[row % train], truth))
        add("nearest film", loss(learnt[distance[row].argmin()], truth))
        add("ridge", loss(weights[row].astype(np.float32) @ learnt, truth))
        drawn = np.stack(
            [window(sample_posterior(people[train + row], "R", k, given), size).ravel() for k in range(1, samples + 1)]
        )
        add("oracle, one sample", float(np.mean([loss(one, truth) for one in drawn])))
        of_mean = loss(drawn.mean(axis=0), truth)
        add(f"oracle, mean of {samples}", of_mean)
        # The mean of K samples errs by the posterior's variance over K more than the mean of endlessly many.
        add("oracle", of_mean - float(drawn.var(axis=0, ddof=1).mean()) / samples)
    return {name: float(np.mean(values)) for name, values in scores.items()}
