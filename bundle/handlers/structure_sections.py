"""Report sections over a whole set: joint space, osteophytes and error by tissue, of all and by grade."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ignite.distributed as idist
import numpy as np
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys

from bundle.handlers.structure import SEGMENTED, labels_of, voxel_edges
from bundle.keys import LABELS, READINGS
from bundle.metrics.anatomy import Anatomy
from bundle.metrics.joint_space import COMPARTMENTS
from bundle.metrics.tissues import ERRORS, TISSUES, tissue_errors, tissue_masks
from bundle.readings import kl_grade

Row = dict[str, Any]
SIZES = (*COMPARTMENTS, "osteophytes")


class StructureSections:
    """Collect joint spaces, osteophytes and tissue errors, and leave tables in `engine.state.report_sections`.

    Sections `joint_space` (error and correlation over the set), `joint_space_by_grade`, `tissue_error` and
    `tissue_error_by_grade`. Attach before `EvaluationReport`. Volumes without a value are counted in `n`.

    Args:
        methods: method's key to its name on the page.
        real: key of the real volume.
        labels: entry of the batch's items with labels; items without are segmented.
    """

    def __init__(self, methods: Mapping[str, str], *, real: str = CommonKeys.LABEL, labels: str = LABELS) -> None:
        if not methods:
            raise ValueError("`methods` must name at least one method.")
        self.methods, self.real, self.labels = dict(methods), real, labels
        self._rows: list[Row] = []

    def attach(self, engine: Engine) -> None:
        """Attach to `engine`."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _start(self) -> None:
        self._rows = []

    def _collect(self, engine: Engine) -> None:
        batch: Any = engine.state.batch
        for index, (item, output) in enumerate(zip(batch, engine.state.output, strict=True)):
            entries = {**item, **{key: value for key, value in output.items() if value is not None}}
            lacking = [key for key in (self.real, *self.methods) if entries.get(key) is None]
            if lacking:
                raise ValueError(f"neither the engine's output nor its batch has `{lacking[0]}`.")
            edges, labels = voxel_edges(entries[self.real]), labels_of(batch, index, key=self.labels)
            real = np.asarray(entries[self.real].detach().cpu())[0]
            masks = tissue_masks(real, spacing_mm=edges, labels=None if labels is None else labels[0].numpy())
            row: Row = {"grade": kl_grade(item.get(READINGS)), "real": _sizes(real, edges)}
            for method in self.methods:
                pred = np.asarray(entries[method].detach().cpu())[0]
                row[method] = _sizes(pred, edges) | {"errors": tissue_errors(pred, real, masks)}
            self._rows.append(row)

    def _write(self, engine: Engine) -> None:
        ranks: Any = idist.all_gather(self._rows) if idist.get_world_size() > 1 else [self._rows]
        rows = [row for rank in ranks for row in rank]
        state: Any = engine.state
        if not hasattr(state, "report_sections"):
            state.report_sections = {}
        state.report_sections |= {
            "joint_space": self._joint_space(rows),
            "joint_space_by_grade": self._joint_space_by_grade(rows),
            "tissue_error": self._tissue_error(rows),
            "tissue_error_by_grade": self._tissue_error_by_grade(rows),
        }

    def _joint_space(self, rows: Sequence[Row]) -> dict[str, Any]:
        table = []
        for method, name in self.methods.items():
            for size in SIZES:
                real, pred = (np.array([row[of][size] for row in rows]) for of in ("real", method))
                table.append([name, size, *agreement(pred, real)])
        return {
            "title": "Joint space width and osteophytes",
            "note": "Both volumes are measured by the same code; joint space in mm, osteophytes in mm3. JSN is among "
            "the readings a model is given: compare with readings withheld.",
            "columns": ["method", "size", "n", "real", "synthesised", "bias", "mean absolute error", "r"],
            "rows": table,
            "convention": {"masks": SEGMENTED, "n": "volumes with a value in both", "r": "Pearson"},
        }

    def _joint_space_by_grade(self, rows: Sequence[Row]) -> dict[str, Any]:
        def cells(among: Sequence[Row], of: str) -> list[float | None]:
            return [_mean([row[of][size] for row in among]) for size in SIZES]

        return {
            "title": "Joint space width and osteophytes by Kellgren-Lawrence grade",
            "note": "Means; mm and mm3. Knees without a grade are in the row without a number.",
            "columns": ["grade", "volumes", "method", *SIZES],
            "rows": self._by_grade(rows, cells, with_real=True),
            "convention": {"masks": SEGMENTED},
        }

    def _tissue_error(self, rows: Sequence[Row]) -> dict[str, Any]:
        table: list[list[Any]] = []
        for method, name in self.methods.items():
            for tissue in TISSUES:
                errors = [row[method]["errors"][tissue] for row in rows]
                found = [error for error in errors if not math.isnan(error["absolute"])]
                table.append([name, tissue, len(found), *(_mean([error[kind] for error in found]) for kind in ERRORS)])
        return {
            "title": "Error by tissue",
            "note": "Inside the tissue of the real volume; the meniscus needs labels.",
            "columns": ["method", "tissue", "n", "mean absolute error", "mean squared error"],
            "rows": table,
            "convention": {"data_range": 2.0, "muscle, fat": "intensity classes of the real volume"},
        }

    def _tissue_error_by_grade(self, rows: Sequence[Row]) -> dict[str, Any]:
        def cells(among: Sequence[Row], of: str) -> list[float | None]:
            return [_mean([row[of]["errors"][tissue]["absolute"] for row in among]) for tissue in TISSUES]

        return {
            "title": "Mean absolute error by tissue and Kellgren-Lawrence grade",
            "note": "",
            "columns": ["grade", "volumes", "method", *TISSUES],
            "rows": self._by_grade(rows, cells, with_real=False),
            "convention": {"data_range": 2.0},
        }

    def _by_grade(
        self, rows: Sequence[Row], cells: Callable[[Sequence[Row], str], list[float | None]], *, with_real: bool
    ) -> list[list[Any]]:
        grades = sorted({row["grade"] for row in rows}, key=lambda grade: math.inf if grade is None else grade)
        shown = ({"real": "Real"} if with_real else {}) | self.methods
        return [
            [grade, len(among), name, *cells(among, of)]
            for grade in grades
            for among in [[row for row in rows if row["grade"] == grade]]
            for of, name in shown.items()
        ]


def agreement(pred: np.ndarray, real: np.ndarray) -> list[float | int | None]:
    """n, mean real, mean synthesised, bias, mean absolute error and Pearson r over volumes with both values.

    r is None with fewer than three volumes or where one side is constant; all but n are None without a volume.
    """
    both = np.isfinite(pred) & np.isfinite(real)
    pred, real = pred[both], real[both]
    if not len(pred):
        return [0, None, None, None, None, None]
    varied = len(pred) > 2 and np.ptp(pred) > 0 and np.ptp(real) > 0
    error = pred - real
    return [
        len(pred),
        *(float(value) for value in (real.mean(), pred.mean(), error.mean(), np.abs(error).mean())),
        float(np.corrcoef(pred, real)[0, 1]) if varied else None,
    ]


def _sizes(volume: np.ndarray, edges: tuple[float, float, float]) -> dict[str, float]:
    anatomy = Anatomy.of(volume, spacing_mm=edges)
    return anatomy.joint_space_mm | {"osteophytes": float(sum(anatomy.osteophytes_mm3.values()))}


def _mean(values: Sequence[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else None
