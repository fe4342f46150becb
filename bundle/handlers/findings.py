"""Section on findings: how often a detector calls those that the readings name, and those that they do not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events

from bundle.geometry import Grid
from bundle.keys import READINGS
from bundle.metrics.findings import COMPARTMENTS, THRESHOLDS, finding_scores, found
from bundle.readings import NAMED_BY, grade_table

COLUMNS: tuple[str, ...] = ("finding", "method", "named", "called if named", "not named", "called if not named")
COLUMNS += ("reading missing", "no score")


def named(vector: np.ndarray, *, table: str = "oai") -> dict[str, dict[str, bool | None]]:
    """Which findings a one-hot vector of readings names.

    Args:
        vector: (width,), or with availability bits behind.
        table: grade table of the vector.

    Returns:
        finding to compartment to whether any of its readings is above grade 0; None where all are missing.
    """
    above, first = {}, 0
    for variable, top in grade_table(table).highest.items():
        block = np.asarray(vector)[first : first + top + 1]
        above[variable] = bool(block.argmax() > 0) if block.any() else None
        first += top + 1
    result: dict[str, dict[str, bool | None]] = {}
    for finding, stems in NAMED_BY.items():
        result[finding] = {}
        for name in COMPARTMENTS:
            grades = [above[stem + name[0].upper()] for stem in stems]
            known = [grade for grade in grades if grade is not None]
            result[finding][name] = any(known) if known else None
    return result


class FindingsReport:
    """Section `findings`: detection rate of each finding, for each way of making the volumes.

    Give the engine's output the same knees' volumes made with their readings, without, and with another knee's, under
    keys of their own. What is detected is set beside the knee's true readings; with exchanged readings `given` names
    the entry of the batch that holds those which the volumes were made with.

    Args:
        methods: key of the engine's output to its name in the table; `label` is the real volume.
        segment: finds femur (1) and tibia (2) of a volume (H, W, S) in [-1, 1].
        given: key of the output to the entry of the batch with its one-hot readings; `readings` where it is not named.
        table: grade table of the readings.
    """

    def __init__(
        self,
        *,
        methods: Mapping[str, str],
        segment: Callable[[np.ndarray], np.ndarray],
        given: Mapping[str, str] | None = None,
        table: str = "oai",
    ) -> None:
        grade_table(table)
        unknown = set(given or {}) - set(methods)
        if unknown:
            raise ValueError(f"`given` names {', '.join(sorted(unknown))}, which `methods` does not.")
        self.methods, self.segment, self.given, self.table = dict(methods), segment, dict(given or {}), table
        self.start(None)

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator; before `EvaluationReport`, which writes the section."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.add)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def start(self, _: Engine | None) -> None:
        """Forget what was collected."""
        self.pairs: dict[str, list[tuple[str, bool | None, bool | None]]] = {key: [] for key in self.methods}

    def add(self, engine: Engine) -> None:
        """Detect in the volumes of a batch."""
        state: Any = engine.state
        for knee, item in zip(state.batch, state.output, strict=True):
            for key, kept in self.pairs.items():
                entry = self.given.get(key, READINGS)
                if key not in item or entry not in knee:
                    raise KeyError(f"`{key}` must be in the engine's output and `{entry}` in its batch.")
                wanted = named(torch.as_tensor(knee[entry]).cpu().numpy(), table=self.table)
                volume = torch.as_tensor(item[key])[0].detach().cpu().double().numpy()
                grid = Grid.of(image_size=volume.shape[0], slices=volume.shape[2])
                spacing = (grid.spacing_mm, grid.spacing_mm, grid.slice_spacing_mm)
                seen = found(finding_scores(volume, self.segment(volume), spacing_mm=spacing))
                kept += [(f, wanted[f][name], seen[f][name]) for f in THRESHOLDS for name in COMPARTMENTS]

    def write(self, engine: Engine) -> None:
        """Count, and put the section into `engine.state.report_sections`."""
        rows: list[list[str | float | int | None]] = []
        for finding in THRESHOLDS:
            for key, name in self.methods.items():
                pairs = [(wanted, seen) for which, wanted, seen in self.pairs[key] if which == finding]
                scored = [(wanted, seen) for wanted, seen in pairs if wanted is not None and seen is not None]
                counts: list[float | int | None] = []
                for truth in (True, False):
                    calls = [seen for wanted, seen in scored if wanted is truth]
                    counts += [len(calls), sum(calls) / len(calls) if calls else None]
                rows.append(
                    [finding, name, *counts, sum(w is None for w, _ in pairs), sum(s is None for _, s in pairs)]
                )
        state: Any = engine.state
        if not hasattr(state, "report_sections"):
            state.report_sections = {}
        state.report_sections["findings"] = {
            "title": "Do findings appear?",
            "note": "Compartments in which the readings name a finding, and the share of them in which the detector "
            "calls it; the same where they do not. The detector's own sensitivity and specificity are in "
            "docs/findings.md: a rate says no more than they allow.",
            "columns": list(COLUMNS),
            "rows": rows,
            "convention": {
                "compartments": "medial and lateral, both of every knee",
                "thresholds": "; ".join(f"{f} {t['medial']:g} / {t['lateral']:g}" for f, t in THRESHOLDS.items()),
            },
        }
