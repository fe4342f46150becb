"""Galleries of a report: what the model makes of more slices, and of other readings, for one knee of the set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.networks import eval_mode
from monai.utils.enums import CommonKeys
from torch import Tensor, nn

from bundle.handlers.knee_images import knee_items
from bundle.handlers.scores import Knee
from bundle.handlers.sections import array_at, plain_array
from bundle.handlers.structure import voxel_edges
from bundle.keys import COVARIATES, FILM, READINGS
from bundle.metrics.sensitivity import occlusion_map
from bundle.metrics.slice_correlation import adjacent_slice_correlation
from bundle.readings import kl_words
from bundle.reports.galleries import Gallery
from bundle.reports.montage import Panel, axial_reformat, panel, sagittal_reformat


class GalleryHandler(ABC):
    """Synthesise one knee again, and leave pictures of it in `engine.state.report_galleries`.

    `EvaluationReport` shows them: name the handler in its `galleries`. The engine must decollate. Under several ranks
    the knee is one of the first rank's.

    Args:
        network: the model, of `FilmToVolume`'s call.
        seed: of the noise.
        real: key of the real volume, (1, H, W, S) in [-1, 1].
    """

    name: str

    def __init__(self, network: nn.Module, *, seed: int = 0, real: str = CommonKeys.LABEL) -> None:
        self.network: Any = network  # its grade table and heads are not of every module
        self.seed, self.real = seed, real
        self._item: dict[str, Any] | None = None

    def attach(self, engine: Engine) -> None:
        """Attach to `engine`, before the report."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    @abstractmethod
    def better(self, knee: Knee, held: Knee) -> bool:
        """Whether `knee` is to be shown in place of `held`; never by score."""

    @abstractmethod
    def draw(self, item: Mapping[str, Any], knee: Knee) -> Gallery:
        """The pictures of the chosen knee."""

    def synthesise(self, item: Mapping[str, Any], readings: Tensor | None, **options: Any) -> np.ndarray:
        """A volume of the item's film, (H, W, S) in [0, 1]; the network is in evaluation mode and back after."""
        film = item[FILM].as_subclass(Tensor)[None]
        told = None if readings is None else readings[None].to(film.device)
        covariates = _plain(item.get(COVARIATES))
        width: int = getattr(self.network, "covariates_width", 0)
        if covariates is not None and width:
            options["covariates"] = covariates[None].to(film.device)
        with eval_mode(self.network):
            volume = self.network(film, told, seed=self.seed, **options)[0, 0]
        return (plain_array(volume) + 1) / 2

    def _start(self) -> None:
        self._item = None

    def _collect(self, engine: Engine) -> None:
        for item in knee_items(engine):
            if self._item is None or self.better(Knee.of(item), Knee.of(self._item)):
                self._item = item

    def _finish(self, engine: Engine) -> None:
        if self._item is None or idist.get_rank() != 0:
            return
        state: Any = engine.state
        if not hasattr(state, "report_galleries"):
            state.report_galleries = {}
        state.report_galleries[self.name] = self.draw(self._item, Knee.of(self._item))
        self._item = None


class InterpolationGallery(GalleryHandler):
    """The first knee's sample at the real volume's number of slices and at more, cut across the slices.

    Depth is a continuous condition, so that any number of slices covers the same window. Stripes in these cuts are
    slices that do not fit their neighbours.

    Args:
        network, seed, real: see `GalleryHandler`.
        slices: how many.

    Raises:
        ValueError: if `slices` is below 2.
    """

    name = "interpolation"

    def __init__(self, network: nn.Module, *, slices: int = 200, **options: Any) -> None:
        super().__init__(network, **options)
        if slices < 2:
            raise ValueError(f"`slices` must be 2 or more, got {slices}.")
        self.slices = slices

    def better(self, knee: Knee, held: Knee) -> bool:
        """The first stays."""
        return False

    def draw(self, item: Mapping[str, Any], knee: Knee) -> Gallery:
        """Sagittal and axial cuts of the real volume and of both samples, with what neighbouring slices share."""
        readings, real = _plain(item.get(READINGS)), (array_at(item, self.real) + 1) / 2
        down, across, through = voxel_edges(item[self.real])
        count = real.shape[2]
        volumes = {f"Real MRI, {count} slices": real}
        volumes |= {
            f"Sample, {slices} slices": self.synthesise(item, readings, slices=slices)
            for slices in (count, self.slices)
        }
        rows = []
        for name, volume in volumes.items():
            # the window stays as it is, so that more slices lie closer together
            pitch = through * (count - 1) / (volume.shape[2] - 1)
            cuts = panel(sagittal_reformat(volume), (down, pitch)), panel(axial_reformat(volume), (pitch, across))
            rows.append((f"{name}, {pitch:.2f} mm apart: r = {adjacent_slice_correlation(volume):.3f}", cuts))
        return Gallery(
            title="Any number of slices",
            note=(
                f"{_words(knee)}: the depth of a slice is a continuous condition of the model, so the same window can "
                "be filled with more slices than it was trained on. r is the correlation of adjacent slices, which "
                "depends on how far apart they are."
            ),
            columns=("Sagittal", "Axial"),
            rows=rows,
        )


class ReadingsGallery(GalleryHandler):
    """The volume of one film with a finding in its readings and without, and where they differ.

    Shown is the posterior mean where the network has one, else a sample of one seed; the knee is the first of the
    lowest Kellgren-Lawrence grade, whose film shows the least. All other readings stay as they were read.

    Args:
        network, seed, real: see `GalleryHandler`; the network says its `grade_table` and `missing_readings`.
        switched: name on the page to the readings that switch it on; off, the same variables are 0.
    """

    name = "readings"

    def __init__(self, network: nn.Module, *, switched: Mapping[str, Mapping[str, int]], **options: Any) -> None:
        super().__init__(network, **options)
        self.switched = {name: dict(readings) for name, readings in switched.items()}

    def better(self, knee: Knee, held: Knee) -> bool:
        """The lower grade; among equals the first stays."""
        return knee.kl_grade is not None and (held.kl_grade is None or knee.kl_grade < held.kl_grade)

    def draw(self, item: Mapping[str, Any], knee: Knee) -> Gallery:
        """The coronal slice that changes most about the joint: off, on, and the change."""
        table, policy = self.network.grade_table, self.network.missing_readings
        held = _plain(item.get(READINGS))
        own = table.encode(None, policy=policy) if held is None else held.cpu().numpy()
        spacing = voxel_edges(item[self.real])
        mean = getattr(self.network, "mean_head", None) is not None
        options = {"mean": True} if mean else {}
        rows = []
        for name, readings in self.switched.items():
            off, on = (
                self.synthesise(item, torch.from_numpy(table.replaced(own, told, policy=policy)), **options)
                for told in (dict.fromkeys(readings, 0), readings)
            )
            rows.append((name, _change(off, on, spacing)))
        return Gallery(
            title="Readings switched on and off",
            note=(
                f"{_words(knee)}: {'the posterior mean' if mean else 'a sample of one seed'} for the same film, with "
                "the finding's readings at 0 and at the grade named, all others as they were read. Shown is the "
                "coronal slice, of the middle half, that changes most in the third of its rows about the joint. In "
                "the change, grey is none, white brighter with the finding, black darker; it is drawn four times as "
                "strong as it is. The film shows no such finding, so this is what the model knows of the reading, not "
                "of the knee; a picture that stays grey is a reading of which it knows little."
            ),
            columns=("Off", "On", "Change"),
            rows=rows,
        )


class SensitivityGallery(GalleryHandler):
    """Where the first knee's film decides the volume: the posterior mean again and again, a patch of the film covered.

    Args:
        network, seed, real: see `GalleryHandler`; the network must have a mean head.
        patch: pixels along a patch's edge; patches overlap by half.
        slices: how many slices, evenly over the window, are compared.
    """

    name = "sensitivity"

    def __init__(self, network: nn.Module, *, patch: int = 16, slices: int = 5, **options: Any) -> None:
        super().__init__(network, **options)
        self.patch, self.slices = patch, slices

    def better(self, knee: Knee, held: Knee) -> bool:
        """The first stays."""
        return False

    def draw(self, item: Mapping[str, Any], knee: Knee) -> Gallery:
        """The film, and for femur, joint and tibia how much each of its pixels changes them."""
        film, readings = item[FILM].as_subclass(Tensor), _plain(item.get(READINGS))
        spacing = voxel_edges(item[self.real])[:2]

        def volume(image: Tensor) -> np.ndarray:
            covered = {**item, FILM: image[0].to(film)}
            return self.synthesise(covered, readings, depths=torch.linspace(0, 1, self.slices), mean=True)

        own = volume(film[None])

        def changes(image: Tensor) -> Tensor:
            thirds = np.array_split(np.abs(volume(image) - own), 3, axis=0)
            return torch.tensor([float(third.mean()) for third in thirds])

        maps = occlusion_map(changes, film.cpu(), patch=self.patch).numpy()
        shown = panel((plain_array(film)[0] + 1) / 2, spacing)
        thirds = ("Upper third, the femur", "Middle third", "Lower third, the tibia")
        rows = [
            (f"{name}: at most {found.max():.4f} of the range", (shown, panel(found / (found.max() or 1), spacing)))
            for name, found in zip(thirds, maps, strict=True)
        ]
        return Gallery(
            title="What of the film decides",
            note=(
                f"{_words(knee)}: patches of {self.patch * spacing[0]:.0f} mm of the film are set to its mean grey, "
                "one after another. White is where that changes a third of the posterior mean's rows the most, mean "
                f"absolute difference over {self.slices} slices; black is where it changes nothing."
            ),
            columns=("Film", "Change of the volume"),
            rows=rows,
        )


CHANGE_GAIN = 4.0
"""How much stronger than it is a change is drawn, about mid-grey."""


def _change(off: np.ndarray, on: np.ndarray, spacing_mm: tuple[float, float, float]) -> tuple[Panel, ...]:
    change = on - off
    rows, slices = change.shape[0], change.shape[2]
    # about the joint: muscles and skin elsewhere follow age and build, which go with any finding
    first, last = slices // 4, slices - slices // 4
    strength = np.abs(change[rows // 3 : rows - rows // 3, :, first:last]).mean(axis=(0, 1))
    index = first + int(strength.argmax())
    shown = (off[..., index], on[..., index], 0.5 + CHANGE_GAIN / 2 * change[..., index])
    return tuple(panel(image, spacing_mm[:2]) for image in shown)


def _words(knee: Knee) -> str:
    return f"Knee {knee.participant} {knee.side} ({kl_words(knee.kl_grade)})"


def _plain(value: Any) -> Tensor | None:
    if not isinstance(value, Tensor):
        return None
    return value.as_tensor() if isinstance(value, MetaTensor) else value
