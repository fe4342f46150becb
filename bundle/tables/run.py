"""Run a plan unattended: what is done is not done again, what fails is reported, and the rest goes on."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bundle.data.datalist import read_dataset
from bundle.tables.plan import Plan, autoencoder_epochs_of, candidates, epochs_of
from bundle.tables.steps import (
    Case,
    Step,
    autoencoder_step,
    cohort_steps,
    data_of,
    evaluation_step,
    shared_from,
    training_step,
)
from bundle.tables.subset import write_subset
from bundle.writers import whole

Call = Callable[[tuple[str, ...], Path], int]
TUNED_BY = "psnr"
"""Column of a training's validation.csv by whose last value a candidate is chosen, the larger the better."""


@dataclass
class Outcome:
    """What became of a plan.

    Args:
        done: cases with their evaluation's folder and a record of the work.
        failed: step to the last line of its log.
        left: names of steps that were not started, because time was up or what they need failed.
    """

    done: list[dict[str, Any]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether nothing failed and nothing is left."""
        return not (self.failed or self.left)


def run_plan(
    plan: Plan,
    *,
    root: Path,
    out: Path,
    minutes: float = math.inf,
    workers: int = 1,
    say: Callable[[str], None] = lambda _: None,
    call: Call | None = None,
) -> Outcome:
    """Run every step that is not done yet.

    Rows share an autoencoder for each seed and number of knees, as the paper's do: it is trained first. Then the order
    is seed by seed over all rows with the first number of knees, then the learning curve, so that an interrupted run
    leaves a whole table of fewer seeds.

    Args:
        plan: the table.
        root: of the checkout, where commands run.
        out: folder of everything that is made.
        minutes: no step is started later than this; the next call goes on.
        workers: how many cases at once; with more than one, each command has its share of the machine's cores.
        say: told of progress.
        call: runs a command with a log file and returns its exit code; None is a process in `root`.

    Returns:
        what was done, what failed, what is left.

    Raises:
        ValueError: if `workers` is not positive, or a step was done by another command than the plan's now.
    """
    if workers < 1:
        raise ValueError(f"`workers` must be at least 1, got {workers}.")
    call = call or _process(root, threads=None if workers == 1 else max(1, (os.cpu_count() or 1) // workers))
    return _Runner(plan, root, out, time.monotonic() + 60 * minutes, workers, say, call).run()


class _Runner:
    def __init__(
        self, plan: Plan, root: Path, out: Path, deadline: float, workers: int, say: Callable[[str], None], call: Call
    ) -> None:
        self.plan, self.root, self.out, self.deadline = plan, root, out, deadline
        self.workers, self.say, self.call = workers, say, call
        self.outcome = Outcome()
        # A trial or an autoencoder that two cases need is run by one of them.
        self.locks: dict[str, threading.Lock] = {}

    def run(self) -> Outcome:
        if not all(self.do(step) for step in cohort_steps(self.plan, self.out)):
            return self.outcome
        for knees in self.plan.knees:
            if knees is not None:
                write_subset(self.out / "data", data_of(self.out, knees), knees=knees)
        cases = cases_of(self.plan)
        needed = dict.fromkeys((case.seed, case.knees) for case in cases if case.row.trained)
        self.together(lambda pair: self.shared(*pair), needed)

        def announced(numbered: tuple[int, Case]) -> None:
            number, case = numbered
            self.say(f"{number}/{len(cases)}  {case.row.name}, seed {case.seed}, {case.knees or 'all'} knees")
            self.case(case)

        self.together(announced, enumerate(cases, start=1))
        place = {(case.row.name, case.seed, case.knees): number for number, case in enumerate(cases)}
        self.outcome.done.sort(key=lambda record: place[record["row"], record["seed"], record["knees"]])
        return self.outcome

    def together(self, work: Callable[[Any], Any], items: Iterable[Any]) -> None:
        """Do the work for all items, `workers` at a time; the first error stops what has not begun."""
        with ThreadPoolExecutor(self.workers) as pool:
            try:
                list(pool.map(work, items))
            except BaseException:
                self.deadline = -math.inf
                pool.shutdown(cancel_futures=True)
                raise

    def training_knees(self, knees: int | None) -> int:
        return len(read_dataset(data_of(self.out, knees))["training"])

    def shared(self, seed: int, knees: int | None) -> dict[str, Any] | None:
        """Options by which a training takes the autoencoder that all rows share; None if it cannot be made."""
        epochs = autoencoder_epochs_of(self.plan, self.training_knees(knees))
        step = autoencoder_step(self.plan, seed, knees, self.out, epochs)
        return shared_from(step, epochs) if self.do(step) else None

    def case(self, case: Case) -> None:
        """Tune, train and evaluate; a step that cannot be done ends the case, not the plan."""
        folder = self.out / "runs" / case.label
        training_knees = self.training_knees(case.knees)
        weights, chosen = None, {}
        if case.row.trained:
            found, shared = self.tuned(case), self.shared(case.seed, case.knees)
            if found is None or shared is None:
                self.outcome.left.append(f"{case.label} evaluation")
                return
            chosen, weights = found, folder / "model.pt"
            given = {**epochs_of(self.plan, training_knees), **chosen, **shared}
            train = training_step(self.plan, case, self.out, given, folder=folder, name=f"{case.label} training")
            if not self.do(train):
                self.outcome.left.append(f"{case.label} evaluation")
                return
        evaluate = evaluation_step(
            self.plan, case, self.out, weights=weights, folder=folder / "evaluation", name=f"{case.label} evaluation"
        )
        if self.do(evaluate):
            seconds = {what: self.record(f"{case.label} {what}").get("seconds") for what in ("training", "evaluation")}
            self.outcome.done.append(
                {"row": case.row.name, "seed": case.seed, "knees": case.knees, "training_knees": training_knees}
                | {"folder": str(folder / "evaluation"), "chosen": chosen}
                | {f"{what}_seconds": value for what, value in seconds.items()}
            )

    def tuned(self, case: Case) -> dict[str, Any] | None:
        """The candidate with the best last validation, {} where the plan tunes nothing, None if one could not run."""
        tried = []
        for options in candidates(self.plan):
            label = " ".join(f"{name}={value}" for name, value in options.items())
            folder = self.out / "tuning" / case.row.key / label.replace("#", "_")
            trial = Case(case.row, self.plan.seeds[0], self.plan.knees[0])
            share = self.plan.tuning.get("share", 1.0)
            shared = self.shared(trial.seed, trial.knees)
            if shared is None:
                return None
            given = {**epochs_of(self.plan, self.training_knees(trial.knees), share=share), **options, **shared}
            if not self.do(
                training_step(self.plan, trial, self.out, given, folder=folder, name=f"{case.row.key} tuning {label}")
            ):
                return None
            tried.append((last_score(folder / "validation.csv"), options))
        return max(tried, key=lambda pair: pair[0])[1] if tried else {}

    def do(self, step: Step) -> bool:
        """Whether the step is done, now or before."""
        with self.locks.setdefault(step.name, threading.Lock()):
            return self._do(step)

    def _do(self, step: Step) -> bool:
        record = self.record(step.name)
        if record and step.makes.is_file():
            if record["command"] != list(step.command):
                raise ValueError(
                    f"step {step.name!r} was done by another command than the plan's; remove {step.makes.parent} and "
                    f"{self._file(step.name, 'json')}, or choose another folder. It was: {' '.join(record['command'])}"
                )
            return True
        if step.name in self.outcome.failed:
            return False
        if time.monotonic() > self.deadline:
            if step.name not in self.outcome.left:
                self.outcome.left.append(step.name)
            return False
        log = self._file(step.name, "log")
        log.parent.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        code = self.call(step.command, log)
        seconds = time.monotonic() - began
        if code or not step.makes.is_file():
            self.outcome.failed[step.name] = f"exit code {code}: {_last_line(log)} ({log})"
            self.say(f"FAILED {step.name}: {self.outcome.failed[step.name]}")
            return False
        with whole(self._file(step.name, "json")) as temporary:
            temporary.write_text(json.dumps({**_words(step), "seconds": round(seconds, 1)}, indent=1))
        self.say(f"      {step.name}: {seconds:.0f} s")
        return True

    def record(self, name: str) -> dict[str, Any]:
        """What is known of a step that was done; empty for others."""
        path = self._file(name, "json")
        return json.loads(path.read_text()) if path.is_file() else {}

    def _file(self, name: str, ending: str) -> Path:
        return self.out / "steps" / f"{name.replace('/', '_').replace(' ', '_')}.{ending}"


def cases_of(plan: Plan) -> list[Case]:
    """All cases in their order; a row that is fitted, not trained, is the same for every seed."""
    cases = [Case(row, seed, plan.knees[0]) for seed in plan.seeds for row in plan.rows]
    cases += [Case(row, seed, knees) for knees in plan.knees[1:] for seed in plan.seeds for row in plan.rows]
    return [case for case in cases if case.row.trained or case.seed == plan.seeds[0]]


def last_score(path: Path) -> float:
    """The last validation's score of a training; ValueError if it made none."""
    rows = list(csv.DictReader(path.open(newline=""))) if path.is_file() else []
    if not rows or not math.isfinite(float(rows[-1].get(TUNED_BY) or math.nan)):
        raise ValueError(f"{path}: has no `{TUNED_BY}` to choose by; let `val_interval` divide the tuning's epochs.")
    return float(rows[-1][TUNED_BY])


def _words(step: Step) -> Mapping[str, Any]:
    return {"name": step.name, "command": list(step.command), "makes": str(step.makes)}


def _process(root: Path, *, threads: int | None) -> Call:
    environment = os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})

    def call(command: tuple[str, ...], log: Path) -> int:
        with log.open("w") as file:
            return subprocess.run(
                command, cwd=root, env=environment, stdout=file, stderr=subprocess.STDOUT, check=False
            ).returncode

    return call


def _last_line(log: Path) -> str:
    text = log.read_text(errors="replace") if log.is_file() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"
