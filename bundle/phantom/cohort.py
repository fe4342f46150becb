"""A cohort on disk: participants in parallel, each complete or absent, then the tables."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import torch
from monai.utils import optional_import

from bundle.phantom.anatomy import Person, sample_person
from bundle.phantom.files import write_text
from bundle.phantom.film import SPACINGS, render_film
from bundle.phantom.mri import SIZES, render_mri
from bundle.phantom.oai_tables import write_tables
from bundle.phantom.oai_writer import VISIT, plan_series, write_participant
from bundle.phantom.pose import SCANS, solve_pose
from bundle.phantom.truth import write_truth

tqdm, _ = optional_import("tqdm", name="tqdm")

MANIFEST = "phantom.json"
MRI_SIDE = "R"
"""OAI's T1 3-D FLASH is the right knee's (oai.md 2)."""
_LIMIT = 1_000_000


@dataclass(frozen=True)
class Recipe:
    """What decides every byte of a participant.

    Args:
        seed: of the cohort, from 0.
        size: `test`, `demo` or `native`.
        enrich: raise every rare finding to one knee in four.
        truth: write label volumes and what is known of each knee.
    """

    seed: int
    size: str = "demo"
    enrich: bool = False
    truth: bool = False

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"`seed` must be a whole number from 0, got {self.seed}.")
        if self.size not in SIZES:
            raise ValueError(f"`size` must be one of {', '.join(SIZES)}, got {self.size!r}.")


def make_cohort(root: Path, recipe: Recipe, *, participants: int, workers: int | None = None) -> int:
    """Write a cohort in OAI's directory layout, going on where an earlier call was cut off.

    Participant i does not depend on how many there are, on the order, or on the number of processes.

    Args:
        root: folder of the release; made if needed.
        recipe: seed, size and options; must equal those of what `root` already holds.
        participants: how many; more than before extends the cohort.
        workers: processes, each single-threaded; None means one a core.

    Returns:
        how many participants were made now.

    Raises:
        ValueError: on arguments out of range, or when `root` holds something else.
    """
    if not 1 <= participants <= _LIMIT:
        raise ValueError(f"`participants` must be from 1 to {_LIMIT}, got {participants}.")
    if workers is not None and workers < 1:
        raise ValueError(f"`workers` must be 1 or more, got {workers}.")
    _claim(root, recipe, participants)
    people = [sample_person(recipe.seed, i, enrich=recipe.enrich) for i in range(participants)]
    missing = [person.index for person in people if not _home(root, person).exists()]
    count = min(workers or os.cpu_count() or 1, max(len(missing), 1))
    with tqdm(total=participants, initial=participants - len(missing), unit="participant", desc="phantom") as bar:
        if count == 1:
            for index in missing:
                make_participant(root, recipe, index)
                bar.update()
        else:
            with ProcessPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                jobs = [pool.submit(make_participant, root, recipe, index) for index in missing]
                for job in as_completed(jobs):
                    job.result()
                    bar.update()
    write_tables(root, people)
    return len(missing)


def make_participant(root: Path, recipe: Recipe, index: int) -> None:
    """Write one participant's series and truth; its folder appears when all is there."""
    person = sample_person(recipe.seed, index, enrich=recipe.enrich)
    spacing, size = SPACINGS[recipe.size], SIZES[recipe.size]
    standing = {side: solve_pose(knee, "film") for side, knee in person.knees.items()}
    film, _ = render_film(person, spacing_mm=spacing, posed=standing)
    supine = solve_pose(person.knees[MRI_SIDE], "mri")
    mri, affine = render_mri(person, MRI_SIDE, size=size, posed=supine)
    home = _home(root, person)
    unfinished = home.with_name(f".unfinished-{home.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    write_participant(unfinished, person, film, spacing, mri, affine)
    if recipe.truth:
        for side, knee in person.knees.items():
            held = {scan: standing[side] if scan == "film" else solve_pose(knee, scan) for scan in SCANS}
            write_truth(
                root / "truth", person, side, held, size=size, film_spacing_mm=spacing, volumes=side == MRI_SIDE
            )
    unfinished.replace(home)


def _home(root: Path, person: Person) -> Path:
    film, _ = plan_series(person)
    return root / VISIT / film.release / film.participant


def _claim(root: Path, recipe: Recipe, participants: int) -> None:
    """Record the recipe in a new folder, or check that an old one was made by the same; refuse to shrink a cohort."""
    path = root / MANIFEST
    wanted = {"seed": recipe.seed, "size": recipe.size, "enrich": recipe.enrich, "truth": recipe.truth}
    if path.exists():
        held = json.loads(path.read_text(encoding="utf-8"))
        different = [
            f"{key} {held.get(key)!r} (asked: {value!r})" for key, value in wanted.items() if held.get(key) != value
        ]
        if different:
            raise ValueError(f"{root} holds a cohort of {', '.join(different)}; choose another folder or delete it.")
        if held["participants"] > participants:
            raise ValueError(
                f"{root} holds {held['participants']} participants (asked: {participants}); "
                "choose another folder or delete it."
            )
    elif root.exists() and any(root.iterdir()):
        raise ValueError(f"{root} is not empty and holds no {MANIFEST}; choose a folder of its own.")
    write_text(path, json.dumps(wanted | {"participants": participants}, indent=2) + "\n")
