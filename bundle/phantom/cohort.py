"""A cohort on disk: participants in parallel, each complete or absent, then the tables."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from monai.utils import optional_import

from bundle.phantom.anatomy import Person, sample_person
from bundle.phantom.faults import PACKAGINGS, SOUND, Fault, fault_of, faults_for
from bundle.phantom.files import write_text
from bundle.phantom.film import SPACINGS, Clutter, draw_clutter, render_film
from bundle.phantom.mri import SIZES, render_mri
from bundle.phantom.nda_writer import IMAGES, pack_series, write_nda_tables
from bundle.phantom.oai_tables import OTHER_CASE, participant_rows, write_tables
from bundle.phantom.oai_writer import write_participant
from bundle.phantom.population import participant_id
from bundle.phantom.pose import SCANS, solve_pose
from bundle.phantom.posterior import GIVEN, write_posterior
from bundle.phantom.series import VISIT, Series, plan_series, with_clutter
from bundle.phantom.truth import write_truth
from bundle.phantom.worlds import WORLDS
from bundle.readings import NAMED_BY

tqdm, _ = optional_import("tqdm", name="tqdm")

MANIFEST, FAULT_LIST = "phantom.json", "faults.json"
_LIMIT = 1_000_000


@dataclass(frozen=True)
class Recipe:
    """What decides every byte of a participant.

    Args:
        seed: of the cohort, from 0.
        size: `test`, `demo` or `native`.
        enrich: raise every rare finding to one knee in four.
        truth: write label volumes and what is known of each knee.
        packaging: `directory`, as on OAI's discs, or `nda`, as the NIMH Data Archive packs it.
        faults: plant a fault in each participant, one after the other.
        shift: the world the cohort comes from, a key of `worlds.WORLDS`.
        all_read: share of participants, from 0 to 1, whose films are read for every finding; OAI's readers skip some.
        switch: a finding of `readings.NAMED_BY` that everybody has where they would not, and has not where they would,
            all else being the same: twins of the cohort without it. Its readings are then the truth's: a finding so
            frequent would often hide behind a reader's 0. None switches nothing.
        distractors: share of films, from 0 to 1, with clutter: markers, collimation, turned, lateral, replaced knees.
        posterior: how many other MRI volumes to write that share a participant's film.
        given: what these share beside it, one of `posterior.GIVEN`.
    """

    seed: int
    size: str = "demo"
    enrich: bool = False
    truth: bool = False
    packaging: str = "directory"
    faults: bool = False
    shift: str = "natural"
    all_read: float = 0.0
    switch: str | None = None
    distractors: float = 0.0
    posterior: int = 0
    given: str = "film"

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"`seed` must be a whole number from 0, got {self.seed}.")
        if self.posterior < 0:
            raise ValueError(f"`posterior` must be a whole number from 0, got {self.posterior}.")
        choices = {"size": SIZES, "packaging": PACKAGINGS, "shift": WORLDS, "given": GIVEN}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"`{name}` must be one of {', '.join(known)}, got {getattr(self, name)!r}.")
        for name in ("all_read", "distractors"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be from 0 to 1, got {getattr(self, name)}.")
        if self.switch is not None and self.switch not in NAMED_BY:
            raise ValueError(f"`switch` must be one of {', '.join(NAMED_BY)}, got {self.switch!r}.")
        if self.switch is not None and self.posterior:
            raise ValueError("`switch` must be None with `posterior`, whose samples take readers to err.")
        if self.faults and self.distractors:
            raise ValueError("`distractors` must be 0 with `faults`: clutter would change what a reader should do.")

    def person(self, index: int) -> Person:
        """Participant `index`."""
        certain = NAMED_BY[self.switch] if self.switch else ()
        world = replace(WORLDS[self.shift], all_read=self.all_read, certain=certain)
        sample = partial(sample_person, self.seed, index, enrich=self.enrich, world=world)
        person = sample()
        if self.switch is None:
            return person
        # the drawn latents do not depend on the grades, so nothing else changes
        return sample(readings={side: _switched(knee.readings, self.switch) for side, knee in person.knees.items()})

    def fault(self, index: int) -> Fault:
        """What is wrong with participant `index`."""
        return fault_of(index, self.packaging) if self.faults else SOUND

    def clutter(self, index: int) -> Clutter | None:
        """What participant `index`'s film shows besides two knees."""
        return draw_clutter(self.seed, index, self.distractors)

    def series(self, person: Person) -> list[Series]:
        """The images that the participant has."""
        planned = with_clutter(plan_series(person), self.clutter(person.index))
        return self.fault(person.index).in_series(planned)


def make_cohort(
    root: Path, recipe: Recipe, *, participants: int, only: Collection[str] | None = None, workers: int | None = None
) -> int:
    """Write a cohort as OAI is released, going on where an earlier call was cut off.

    Participant i does not depend on how many there are, on the order, or on the number of processes.

    Args:
        root: folder of the release; made if needed.
        recipe: seed, size and options; must equal those of what `root` already holds.
        participants: how many; more than before extends the cohort.
        only: IDs of those among them who are made; None makes all. The tables hold whom the cohort holds.
        workers: processes, each single-threaded; None means one a core.

    Returns:
        how many participants were made now.

    Raises:
        ValueError: on arguments out of range, an ID that is not in the cohort, or when `root` holds something else.
    """
    if not 1 <= participants <= _LIMIT:
        raise ValueError(f"`participants` must be from 1 to {_LIMIT}, got {participants}.")
    if workers is not None and workers < 1:
        raise ValueError(f"`workers` must be 1 or more, got {workers}.")
    indices = range(participants) if only is None else _indices(recipe.seed, participants, only)
    _claim(root, recipe, participants, only)
    people = [recipe.person(index) for index in indices]
    missing = [person.index for person in people if not _home(root, recipe, person).exists()]
    count = min(workers or os.cpu_count() or 1, max(len(missing), 1))
    with tqdm(total=len(people), initial=len(people) - len(missing), unit="participant", desc="phantom") as bar:
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
    _write_tables(root, recipe, people)
    return len(missing)


def make_participant(root: Path, recipe: Recipe, index: int) -> None:
    """Write one participant's series and truth; its folder appears when all is there."""
    person, fault, clutter = recipe.person(index), recipe.fault(index), recipe.clutter(index)
    series = recipe.series(person)
    imaged = next(one.side for one in series if not one.is_film)
    spacing, size = SPACINGS[recipe.size], SIZES[recipe.size]
    standing = {side: solve_pose(knee, "film") for side, knee in person.knees.items()}
    film, _ = render_film(person, spacing_mm=spacing, posed=standing, clutter=clutter)
    supine = solve_pose(person.knees[imaged], "mri")
    mri, affine = render_mri(person, imaged, size=size, posed=supine)
    home = _home(root, recipe, person)
    unfinished = home.with_name(f".unfinished-{home.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    folders = write_participant(
        unfinished, person, film, spacing, mri, affine, series=series, fault=fault, clutter=clutter
    )
    if recipe.packaging == "nda":
        for one, folder in zip(series, folders, strict=True):
            fault.in_archive(one, pack_series(folder))
    if recipe.truth:
        for side, knee in person.knees.items():
            held = {scan: standing[side] if scan == "film" else solve_pose(knee, scan) for scan in SCANS}
            write_truth(
                root / "truth",
                person,
                side,
                held,
                size=size,
                film_spacing_mm=spacing,
                volumes=side == imaged,
                clutter=clutter,
            )
    if recipe.posterior:
        write_posterior(root / "truth", person, imaged, count=recipe.posterior, given=recipe.given, size=size)
    unfinished.replace(home)


def _write_tables(root: Path, recipe: Recipe, people: list[Person]) -> None:
    people = sorted(people, key=lambda person: person.covariates.participant)
    rows = [
        participant_rows(
            person,
            recipe.series(person),
            film_spacing_mm=SPACINGS[recipe.size],
            clutter=recipe.clutter(person.index),
            fault=recipe.fault(person.index),
        )
        for person in people
    ]
    if recipe.packaging == "nda":
        write_nda_tables(root, people, rows)
    else:
        write_tables(root, rows, other_case=recipe.faults)
    if recipe.faults:
        write_text(root / FAULT_LIST, json.dumps(_fault_list(recipe, people), indent=2) + "\n")


def _fault_list(recipe: Recipe, people: list[Person]) -> dict[str, object]:
    """What `faults.json` says: who has which fault, what a reader should do, how many people show every fault."""
    return {
        "participants_for_all": len(faults_for(recipe.packaging)),
        "participants": {
            person.covariates.participant: {
                "fault": fault.name,
                "what": fault.what,
                "expect": fault.expect,
                "reason": fault.reason,
            }
            for person in people
            for fault in [recipe.fault(person.index)]
        },
        "tables": (
            {} if recipe.packaging == "nda" else {OTHER_CASE: "Names of the file and its columns are in another case."}
        ),
    }


def _switched(readings: Mapping[str, int], finding: str) -> dict[str, int]:
    """Grade 1 for grade 0, and 0 for others, of the readings that name a finding."""
    return {name: int(grade == 0) for name, grade in readings.items() if name[:-1] in NAMED_BY[finding]}


def _home(root: Path, recipe: Recipe, person: Person) -> Path:
    film = plan_series(person)[0]
    images = root / IMAGES / VISIT if recipe.packaging == "nda" else root / VISIT
    return images / film.release / film.participant


def _indices(seed: int, participants: int, only: Collection[str]) -> list[int]:
    """Indices of the IDs; ValueError if one is not among the first `participants`."""
    index = {participant_id(seed, place): place for place in range(participants)}
    unknown = sorted(set(only) - set(index))
    if unknown or not only:
        raise ValueError(
            f"`only` must name participants of this seed among the first {participants}, got "
            f"{', '.join(unknown) or 'nobody'}; they are such as {', '.join(list(index)[:3])}."
        )
    return sorted({index[name] for name in only})


def _claim(root: Path, recipe: Recipe, participants: int, only: Collection[str] | None) -> None:
    """Record the recipe in a new folder, or check that an old one was made by the same; refuse to shrink a cohort."""
    path = root / MANIFEST
    wanted = asdict(recipe) | ({} if only is None else {"only": sorted(set(only))})
    if path.exists():
        # a folder of before an option existed was made without it
        held = asdict(Recipe(seed=recipe.seed)) | json.loads(path.read_text(encoding="utf-8"))
        different = [
            f"{key} {held.get(key)!r} (asked: {wanted.get(key)!r})"
            for key in dict.fromkeys([*wanted, *held])
            if key != "participants" and held.get(key) != wanted.get(key)
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
