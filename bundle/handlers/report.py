"""The evaluation's outcome on disk: `metrics.csv`, `summary.json`, `report.html`."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys

from bundle.handlers.analysis import against_baselines, by_grade, intervals
from bundle.handlers.figures import Figure, has_matplotlib
from bundle.handlers.knee_images import entry, film_of, is_mirrored, knee_items, unit_volume
from bundle.handlers.report_page import Report, is_phantom, render
from bundle.handlers.scores import REAL, Knee, ScoreTable
from bundle.handlers.sections import plain_array
from bundle.handlers.structure import voxel_edges
from bundle.metrics.volume_metric import check_data_range, lowest_intensity
from bundle.reports.montage import Image, KneePictures, has_pillow, knee_pictures
from bundle.reports.sections import checked_sections
from bundle.reports.statistics import INTERVAL_WORDS, TEST_WORDS, has_scipy, wilcoxon

logger = logging.getLogger(__name__)


class EvaluationReport:
    """Collect scores and pictures while MONAI's `SupervisedEvaluator` runs, and write them when it has.

    What it expects of the engine, which decollates (MONAI's default):

    - `engine.state.output[i]` holds each method's volume under the method's key (the model's is `pred`; baselines
      are put there by postprocessing, see `bundle.inferers.baseline.AddPredictiond`) and the real volume under `label`,
      (1, H, W, S) in [lo, lo + data_range]; the film under `image`, (1, H, W), in [-1, 1]. Entries missing there are
      looked for in `engine.state.batch[i]`, where MONAI leaves what postprocessing passes through.
    - `engine.state.batch[i]` holds `participant`, `side`, `visit`, and, where known, `readings` (a dictionary with
      `XRKL`, or the one-hot vector).
    - metric handlers with `save_details=True` are attached under `<method>_<metric>`, such as `pred_psnr` or
      `mean_volume_near_edge`; `real_<metric>` are the real volumes' own scores. The conventions at the page's foot
      are those of `bundle.handlers.ImageQualityHandler`.
    - handlers of measures over the whole set leave their tables in `engine.state.report_sections`, see
      `bundle.reports.sections`, before this one writes: name them in `sections`, or attach them earlier. Pictures of
      theirs are in `engine.state.report_galleries`, see `bundle.reports.galleries`.

    Voxel sizes come from the real volume's affine, else from the default grid. Under several ranks the first writes
    the scores of all.

    Args:
        output_dir: folder for the three files; made if absent.
        methods: method's key to its name on the page, in the page's order: the model first, then its baselines, from
            each of which the model's scores are subtracted knee by knee.
        title: the page's heading.
        provenance: what is known of data and weights, such as `{"data": "synthetic-phantom"}`; a value with
            "phantom" in it makes the page say so.
        data_range: width of the volumes' intensity range.
        lo: lowest intensity; None is -1 for range 2 and 0 for range 1.
        max_knees: how many knees are shown in pictures.
        viewed: how many methods, from the first, the volume viewers show beside the real volume.
        sections: handlers of measures over the whole set, attached with this one and run before it writes.
        galleries: handlers of pictures beside the knees', attached in the same way.
        samples: key of the model's samples, (K, 1, H, W, S); where there are two or more, the page shows their spread.
        real: key of the real volume.

    Raises:
        ValueError: if `methods` is empty or names `real`, a range is impossible, or `max_knees` or `viewed` is
            negative.
        OptionalImportError: if matplotlib, pillow or scipy is missing.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        methods: Mapping[str, str],
        *,
        title: str = "Evaluation",
        provenance: Mapping[str, str] | None = None,
        data_range: float = 2.0,
        lo: float | None = None,
        max_knees: int = 6,
        viewed: int = 2,
        sections: Iterable[Any] = (),
        galleries: Iterable[Any] = (),
        samples: str = "pred_samples",
        real: str = CommonKeys.LABEL,
    ) -> None:
        if not methods or REAL in methods:
            raise ValueError(f"`methods` must name at least one method and none `{REAL}`, got {dict(methods)}.")
        if min(max_knees, viewed) < 0:
            raise ValueError(f"`max_knees` and `viewed` must not be negative, got {max_knees} and {viewed}.")
        for module, present in ((Figure, has_matplotlib), (Image, has_pillow), (wilcoxon, has_scipy)):
            if not present:
                module()  # monai's stand-in raises OptionalImportError by name
        self.output_dir = Path(output_dir)
        self.methods = dict(methods)
        self.title = title
        self.provenance = dict(provenance or {})
        self.data_range = check_data_range(data_range)
        self.lo = lowest_intensity(self.data_range, lo)
        self.max_knees = max_knees
        self.viewed = dict(list(self.methods.items())[:viewed])
        self.before = [*sections, *galleries]
        self.samples = samples
        self.real = real
        self._start()

    def attach(self, engine: Engine) -> None:
        """Attach to `engine`, `sections` and `galleries` first; metric handlers may be attached before or after."""
        for handler in self.before:
            handler.attach(engine)
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _start(self) -> None:
        self._knees: list[Knee] = []
        self._mirrored: set[int] = set()
        self._pictures: dict[int, KneePictures] = {}

    def _collect(self, engine: Engine) -> None:
        for item in knee_items(engine):
            knee, index = Knee.of(item), len(self._knees)
            # Of each grade at most as many as the page may need, and never by score.
            wanted = sum(self._knees[i].kl_grade == knee.kl_grade for i in self._pictures) < self.max_knees
            self._knees.append(knee)
            if wanted:
                self._pictures[index] = self._draw(item)
            if is_mirrored(item):
                self._mirrored.add(index)

    def _draw(self, item: Mapping[str, Any]) -> KneePictures:
        real = entry(item, self.real)
        return knee_pictures(
            film_of(item),
            self._unit(real),
            {method: self._unit(entry(item, method)) for method in self.methods},
            spacing_mm=voxel_edges(real),
            viewed=self.viewed,
            spread=self._spread(item),
        )

    def _spread(self, item: Mapping[str, Any]) -> np.ndarray | None:
        """Standard deviation over the item's samples, intensities in [0, 1]; None where it has fewer than two."""
        samples = item.get(self.samples)
        if not isinstance(samples, torch.Tensor) or samples.ndim != 5 or len(samples) < 2:
            return None
        return plain_array(samples.std(0))[0] / self.data_range

    def _unit(self, volume: torch.Tensor) -> np.ndarray:
        return unit_volume(volume, lo=self.lo, data_range=self.data_range)

    def _write(self, engine: Engine) -> None:
        # MONAI concatenates the ranks' scores in order of rank; knees and pictures follow them.
        mine = (self._knees, self._pictures, self._mirrored)
        ranks: Any = idist.all_gather(mine) if idist.get_world_size() > 1 else [mine]
        if idist.get_rank() != 0:
            return
        knees: list[Knee] = []
        pictures: dict[int, KneePictures] = {}
        mirrored: set[int] = set()
        for rank_knees, rank_pictures, rank_mirrored in ranks:
            pictures |= {len(knees) + index: drawn for index, drawn in rank_pictures.items()}
            mirrored |= {len(knees) + index for index in rank_mirrored}
            knees += rank_knees

        state: Any = engine.state
        table = ScoreTable.of(state.metric_details, knees=knees, methods=list(self.methods))
        conventions = _conventions(getattr(state, "metric_conventions", {}), table)
        sections = checked_sections(getattr(state, "report_sections", {}))
        analysis = {
            "intervals": intervals(table),
            "by_grade": by_grade(table),
            "paired": against_baselines(table, methods=list(self.methods)),
        }
        report = Report(
            title=self.title,
            methods=self.methods,
            table=table,
            pictures=[(i, pictures[i]) for i in choose(knees, among=sorted(pictures), count=self.max_knees)],
            mirrored=frozenset(mirrored),
            conventions=conventions,
            provenance=self.provenance,
            sections=sections,
            galleries=list(getattr(state, "report_galleries", {}).values()),
            **analysis,
        )
        summary = {
            "title": self.title,
            "phantom": is_phantom(self.provenance),
            "provenance": self.provenance,
            "knees": len(knees),
            "participants": len({knee.participant for knee in knees}),
            "methods": self.methods,
            "data_range": self.data_range,
            "lo": self.lo,
            "metrics": table.summary(),
            "left_out": table.totals(),
            "conventions": conventions,
            "statistics": {"intervals": INTERVAL_WORDS, "paired": TEST_WORDS},
            **analysis,
            "sections": sections,
        }
        files = {
            "metrics.csv": table.to_csv(),
            "summary.json": json.dumps(summary, indent=2, allow_nan=False) + "\n",
            "report.html": render(report),
        }
        self.output_dir.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            _write_text(self.output_dir / name, text)
        logger.info("evaluation report: %s", self.output_dir / "report.html")


def choose(knees: list[Knee], *, among: list[int], count: int) -> list[int]:
    """Indices of the knees to show, in order of grade: the first of each grade, then the second of each, and so on."""
    seen: dict[int | None, int] = {}
    places = []
    for index in among:
        grade = knees[index].kl_grade
        turn = seen[grade] = seen.get(grade, -1) + 1
        places.append((turn, _grade_order(knees[index]), index))
    shown = [index for _, _, index in sorted(places)[:count]]
    return sorted(shown, key=lambda index: (_grade_order(knees[index]), index))


def _grade_order(knee: Knee) -> float:
    return float("inf") if knee.kl_grade is None else knee.kl_grade


def _conventions(by_name: Mapping[str, Mapping[str, Any]], table: ScoreTable) -> dict[str, dict[str, Any]]:
    """Metric to its convention; ValueError if two methods were scored under different ones."""
    found: dict[str, dict[str, Any]] = {}
    for method, scores in table.scores.items():
        for metric in scores:
            terms = dict(by_name.get(f"{method}_{metric}", {"measure": "the handler states no convention"}))
            if found.setdefault(metric, terms) != terms:
                raise ValueError(
                    f"`{metric}` of `{method}` was computed as {terms}, of another method as {found[metric]}; scores "
                    "in one column must share one convention."
                )
    return found


def _write_text(path: Path, text: str) -> None:
    """Write under another name first, so that `path` is whole or absent."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
