"""Handlers of the self-check: a score a volume, and how well it flags a film of another person."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from monai.handlers import from_engine
from torch import Tensor

from bundle.handlers.image_quality import ImageQualityHandler
from bundle.keys import FILM, PRED
from bundle.metrics.self_check import (
    FEMUR_DEGREES,
    MAGNIFICATIONS,
    SHIFT_MM,
    TIBIA_DEGREES,
    Outlines,
    Segment,
    SelfCheck,
    bone_outlines,
    film_edges,
    mismatch_auc,
    outline_agreement,
)

CONVENTION = {
    "measure": "mean of inward normal . edge direction of the film, over the outline of the projected bones; -1 to 1",
    "fitted": f"femur {FEMUR_DEGREES[0]:g} to {FEMUR_DEGREES[-1]:g} and tibia {TIBIA_DEGREES[0]:g} to "
    f"{TIBIA_DEGREES[-1]:g} degrees, magnification {MAGNIFICATIONS[0]:g} to {MAGNIFICATIONS[-1]:g}, shifts of up to "
    f"{SHIFT_MM:g} mm",
    "reduction": "one score a volume; without bone it has none and is counted",
}


class SelfCheckHandler(ImageQualityHandler):
    """Self-check of every volume (`bundle.metrics.SelfCheck`).

    Args:
        segment: finds the bones of a volume, see `bundle.metrics.self_check.Segment`.
        reduction: over volumes, `mean` or `median`.
        output_transform: `engine.state.output` to volumes and films, lists of (1, H, W, S) and (1, H, W); None takes
            the entries `pred` and `image`.
        save_details: as `ImageQualityHandler`'s.
    """

    def __init__(
        self,
        *,
        segment: Segment,
        reduction: str = "mean",
        output_transform: Callable | None = None,
        save_details: bool = True,
    ) -> None:
        super().__init__(
            SelfCheck(segment, reduction=reduction),
            convention=CONVENTION,
            output_transform=output_transform or from_engine([PRED, FILM]),
            save_details=save_details,
        )

    def update(self, output: Sequence) -> None:
        """Score volumes with their films."""
        self._is_reduced = False
        for volume, film in zip(*output, strict=True):
            self.metric_fn(volume[None], films=film[None])


class SelfCheckReport:
    """Section `self_check`: scores with the own film and with other people's, and the AUC between the two.

    Every volume is compared with the `others` films that follow its own, in the order of the data, round the end.

    Args:
        methods: key of the engine's output to its name in the table; `label` is the real volume.
        segment: as `SelfCheckHandler`'s.
        others: films of other people a volume is compared with; as many as there are, if there are fewer.
    """

    def __init__(self, *, methods: Mapping[str, str], segment: Segment, others: int = 8) -> None:
        if others < 1:
            raise ValueError(f"`others` must be at least 1, got {others}.")
        self.methods, self.segment, self.others = dict(methods), segment, others
        self.start(None)

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator; before `EvaluationReport`, which writes the section."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.add)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def start(self, _: Engine | None) -> None:
        """Forget what was collected."""
        self.edges: list[np.ndarray] = []
        self.outlines: dict[str, list[Outlines | None]] = {key: [] for key in self.methods}

    def add(self, engine: Engine) -> None:
        """Keep the edges of a batch's films and the outlines of its volumes, which are small."""
        for item in engine.state.output:
            self.edges.append(film_edges(_plain(item[FILM])[0]))
            for key, kept in self.outlines.items():
                if key not in item:
                    raise KeyError(f"`{key}` is not in the engine's output; attach what makes it, or leave it out.")
                kept.append(bone_outlines(self.segment(_plain(item[key])[0].numpy())))

    def write(self, engine: Engine) -> None:
        """Compare, and put the section into `engine.state.report_sections`."""
        rows = [[name, *self._row(self.outlines[key])] for key, name in self.methods.items()]
        state: Any = engine.state
        if not hasattr(state, "report_sections"):
            state.report_sections = {}
        state.report_sections["self_check"] = {
            "title": "Self-check without an MRI",
            "note": "Projected bone against the film's bone outline. AUC: the chance that a volume agrees better with "
            "its own film than a volume with another person's; 0.5 is chance. Among its own: volume by volume.",
            "columns": ["method", "volumes", "without bone", "own film", "other films", "AUC", "AUC among its own"],
            "rows": rows,
            "convention": CONVENTION | {"other films": f"the {self.others} that follow in the data, round the end"},
        }

    def _row(self, outlines: Sequence[Outlines | None]) -> list[float | int | None]:
        own, others, count = [], [], len(self.edges)
        for index, outline in enumerate(outlines):
            if outline is None:
                continue
            own.append(outline_agreement(outline, self.edges[index]).score)
            places = [(index + step) % count for step in range(1, min(self.others, count - 1) + 1)]
            others.append([outline_agreement(outline, self.edges[place]).score for place in places])
        found = [score for row in others for score in row]
        within = [mismatch_auc([score], [row]) for score, row in zip(own, others, strict=True)]
        values = [float(np.mean(part)) if part else None for part in (own, found)]
        auc = mismatch_auc(own, others)
        within_mean = float(np.mean(within)) if within and found else None
        return [count, count - len(own), *values, None if np.isnan(auc) else auc, within_mean]


def _plain(image: Tensor) -> Tensor:
    return (image.as_tensor() if hasattr(image, "as_tensor") else image).detach().cpu().float()
