"""Controls of an evaluation: the model told something else than the film and readings of the knee it is scored on."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.data import Dataset, MetaTensor
from monai.networks import eval_mode
from monai.transforms import Transform
from torch import Tensor, nn

from bundle.inferers.volume import VolumeInferer
from bundle.keys import COVARIATES, FILM, PARTICIPANT, READINGS, SIDE, VISIT

KEEP = "own"
FILMS = (KEEP, "other")
TOLD = (KEEP, "other", "none")


def other_knees(participants: Sequence[Hashable], *, seed: int = 0) -> np.ndarray:
    """A permutation that gives every knee one of another participant.

    Args:
        participants: whose knee each is.
        seed: the same one gives the same permutation.

    Returns:
        (N,) indices, each once; never one of the same participant.

    Raises:
        ValueError: if one participant has more than half of the knees, which leaves no such permutation.
    """
    rng = np.random.default_rng(seed)
    people = list(dict.fromkeys(participants))
    place = dict(zip(people, rng.permutation(len(people)), strict=True))
    order = np.array(sorted(rng.permutation(len(participants)), key=lambda knee: place[participants[knee]]), dtype=int)
    most = max((list(participants).count(one) for one in people), default=0)
    if len(order) < 2 * most or not most:
        raise ValueError(
            f"`participants`: {most} of {len(order)} knees are of one participant; a control with other people's knees "
            "needs at least as many of others."
        )
    result = np.empty(len(order), dtype=int)
    # a participant's knees stand together, so a shift by the longest such run leaves every run
    result[order] = np.roll(order, -most)
    return result


class AddControld(Transform):
    """Store the model's volume for other inputs under a key, as a step of an evaluator's postprocessing.

    - `film="other"`: another person's film with the knee's own readings and covariates. What then still points to the
      knee came by these, not by the film.
    - `readings="none"`: the film, with no reading known.
    - `readings="other"`: the film, with the readings of a knee whose readings differ; where all knees have the same,
      this is the model's own volume.

    Args:
        network: the model.
        inferer: as the evaluator's own, so that nothing but the input differs; the mean where it keeps samples.
        dataset: the evaluated knees, whose transform prepares film and readings and need not read the real volume.
        key: where the volume, (1, H, W, S), goes.
        film: `own` or `other`.
        readings: `own`, `none` or `other`.
        seed: who is whose other.

    Raises:
        ValueError: on an unknown choice, or if nothing would differ.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        inferer: VolumeInferer,
        dataset: Dataset,
        key: str,
        film: str = KEEP,
        readings: str = KEEP,
        seed: int = 0,
    ) -> None:
        for name, value, choices in (("film", film, FILMS), ("readings", readings, TOLD)):
            if value not in choices:
                raise ValueError(f"`{name}` must be one of {', '.join(choices)}, got {value!r}.")
        if film == readings == KEEP:
            raise ValueError("a control must change `film` or `readings`; both are `own`.")
        self.network, self.inferer, self.dataset, self.key = network, inferer, dataset, key
        self.film, self.readings, self.seed = film, readings, seed
        self._index: dict[tuple[str, ...], int] = {}
        self._films: list[int] = []
        self._told: list[int] = []

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with the volume added; the network is in evaluation mode and back after."""
        place = self._place(data)
        film, readings, covariates = data[FILM], _vector(data.get(READINGS)), _vector(data.get(COVARIATES))
        if self.film == "other":
            film = self.dataset[self._films[place]][FILM]
        if self.readings == "other":
            readings = _vector(self.dataset[self._told[place]][READINGS])
        device = data[FILM].device
        told = None if readings is None or self.readings == "none" else readings[None].to(device)
        with eval_mode(self.network):
            volume = self.inferer(
                film[None].to(device),
                self.network,
                readings=told,
                covariates=None if covariates is None else covariates[None].to(device),
            )[0]
        return {**data, self.key: volume.mean(0, keepdim=True)}

    def _place(self, data: Mapping[Hashable, Any]) -> int:
        """Which knee of the dataset this is; pairs everybody up at the first call."""
        items = self.dataset.data
        if not self._index:
            self._index = {_name(item): index for index, item in enumerate(items)}
            self._films = other_knees([item[PARTICIPANT] for item in items], seed=self.seed).tolist()
            self._told = _different(items, seed=self.seed)
        if _name(data) not in self._index:
            raise ValueError(f"knee {' '.join(_name(data))}: not in `dataset`; give the control the evaluated knees.")
        return self._index[_name(data)]


def _different(items: Sequence[Mapping[str, Any]], *, seed: int) -> list[int]:
    """For every knee one of another participant with other readings, or just of another participant."""
    rng = np.random.default_rng(seed + 1)
    chosen = []
    for item in items:
        others = [n for n, other in enumerate(items) if other[PARTICIPANT] != item[PARTICIPANT]]
        differ = [n for n in others if items[n].get(READINGS) != item.get(READINGS)]
        chosen.append(int(rng.choice(differ or others)))
    return chosen


def _name(item: Mapping[Hashable, Any]) -> tuple[str, ...]:
    return tuple(str(item[key]) for key in (PARTICIPANT, SIDE, VISIT))


def _vector(value: Any) -> Tensor | None:
    if not isinstance(value, Tensor):
        return None
    return value.as_tensor() if isinstance(value, MetaTensor) else value
