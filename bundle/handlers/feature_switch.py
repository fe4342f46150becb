"""The model told of a finding and not told of it: one knee a finding, kept for the ablation's picture."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.networks import eval_mode
from monai.utils.enums import CommonKeys
from torch import Tensor, nn

from bundle.handlers.findings import named
from bundle.handlers.knee_images import entry, kept_slice, knee_items, unit_volume
from bundle.handlers.scores import Knee
from bundle.keys import COVARIATES, FILM, PARTICIPANT, PRED, READINGS, SIDE, VISIT
from bundle.metrics.volume_metric import check_data_range, lowest_intensity
from bundle.readings import NAMED_BY, check_policy, grade_table
from bundle.reports.kept import FEATURES_FILE, OFF, ON, KeptSlice, write_kept

ADDED = "the reading is added: no test knee has it"

Order = tuple[bool, tuple[str, ...]]


class FeatureSwitch:
    """Write `features.npz`: for each finding one knee's slice, synthesised with the finding's readings and without.

    The knee is the first by name whose readings name the finding; where none does, it is the first of all, and the
    readings are set to grade 1. Without means withheld, as the policy encodes what is missing; film, other readings
    and noise stay. The slice is the one where both differ most. A finding that changes nothing, as with models that
    read none, is absent.

    Args:
        network: the model.
        inferer: the evaluator's own.
        output_dir: the evaluation's folder.
        findings: of `bundle.readings.NAMED_BY`; none writes no file. Each costs two syntheses at the end.
        table: grade table of the readings.
        policy: of missing readings.
        data_range: width of the volumes' intensity range.
        lo: lowest intensity; None is -1 for range 2 and 0 for range 1.
        real: key of the real volume.

    Raises:
        ValueError: on an unknown finding, table or policy.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        inferer: Callable[..., Tensor],
        output_dir: str | os.PathLike[str],
        findings: Sequence[str] = (),
        table: str = "oai",
        policy: str = "zeros",
        data_range: float = 2.0,
        lo: float | None = None,
        real: str = CommonKeys.LABEL,
    ) -> None:
        unknown = [name for name in findings if name not in NAMED_BY]
        if unknown:
            raise ValueError(f"`findings` must be of {', '.join(NAMED_BY)}, got {unknown[0]!r}.")
        self.network, self.inferer, self.path = network, inferer, Path(output_dir) / FEATURES_FILE
        self.findings, self.table, self.policy, self.real = tuple(findings), table, check_policy(policy), real
        self.variables = {
            name: [v for v in grade_table(table).highest if v[:-1] in NAMED_BY[name]] for name in self.findings
        }
        self.data_range = check_data_range(data_range)
        self.lo = lowest_intensity(self.data_range, lo)
        self._chosen: dict[str, tuple[Order, dict[str, Any]]] = {}

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.STARTED, lambda _: self._chosen.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._choose)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _choose(self, engine: Engine) -> None:
        for item in knee_items(engine) if self.findings else ():
            if not isinstance(item.get(READINGS), Tensor):
                continue
            told = named(item[READINGS].cpu().numpy(), table=self.table)
            knee = Knee.of(item)
            for finding in self.findings:
                order = (not any(told[finding].values()), (knee.participant, knee.side, knee.visit))
                if finding not in self._chosen or order < self._chosen[finding][0]:
                    keys = (FILM, READINGS, COVARIATES, PARTICIPANT, SIDE, VISIT, PRED, self.real)
                    self._chosen[finding] = order, {key: item[key] for key in keys if key in item}

    def _write(self, _: Engine) -> None:
        if not self.findings:
            return
        made = {f: (order, self._switched(f, item, added=order[0])) for f, (order, item) in self._chosen.items()}
        ranks: Any = idist.all_gather(made) if idist.get_world_size() > 1 else [made]
        if idist.get_rank() != 0:
            return
        kept: dict[str, KeptSlice] = {}
        for finding in self.findings:
            found = [of[finding] for of in ranks if finding in of]
            best = min(found, key=lambda pair: pair[0])[1] if found else None
            if best is not None:
                kept[finding] = best
        write_kept(self.path, kept)

    def _switched(self, finding: str, item: Mapping[str, Any], *, added: bool) -> KeptSlice | None:
        table, own = grade_table(self.table), item[READINGS].cpu().numpy()
        without = table.replaced(own, dict.fromkeys(self.variables[finding]), policy=self.policy)
        given = table.replaced(own, dict.fromkeys(self.variables[finding], 1), policy=self.policy) if added else own
        volumes = {OFF: self._synthesised(item, without), ON: self._synthesised(item, given)}
        change = np.abs(volumes[ON] - volumes[OFF]).mean(axis=(0, 1))
        if not change.any():
            return None
        real = entry(item, self.real)
        return kept_slice(
            item,
            volumes,
            real=unit_volume(real, lo=self.lo, data_range=self.data_range),
            index=int(change.argmax()),
            remark=ADDED if added else "",
        )

    def _synthesised(self, item: Mapping[str, Any], readings: np.ndarray) -> np.ndarray:
        device, covariates = item[PRED].device, item.get(COVARIATES)
        with eval_mode(self.network):
            volume = self.inferer(
                item[FILM][None].to(device),
                self.network,
                readings=torch.from_numpy(readings)[None].to(device),
                covariates=covariates[None].to(device) if isinstance(covariates, Tensor) else None,
            )[0]
        return unit_volume(volume.mean(0, keepdim=True), lo=self.lo, data_range=self.data_range)
