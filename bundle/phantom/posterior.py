"""Other knees behind one film: what it shows is kept, what it hides drawn again, for the bounds no model can pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from bundle.geometry import check_side
from bundle.phantom.anatomy import COMPARTMENTS, OSTEOPHYTE_SITES, Knee, Person, draw_knee
from bundle.phantom.files import temporary
from bundle.phantom.hidden_readings import Confusion, Table, draw_hidden
from bundle.phantom.mri import render_mri
from bundle.phantom.readers import confusion
from bundle.phantom.streams import stream
from bundle.phantom.table_view import table_readings

GIVEN = ("film", "film,readings", "film,readings,covariates")
"""What a posterior sample may know; folders are called `posterior_` and this, the comma included."""

_FULL_SCALE = 0.15
"""Signal that the largest stored number stands for; cartilage has 0.059."""
Change = Callable[[Knee, Knee], dict[str, Any]]


def _whole(name: str) -> Change:
    return lambda knee, fresh: {name: getattr(fresh, name)}


def _unloaded(knee: Knee, fresh: Knee) -> dict[str, Any]:
    """The supine joint space beyond what follows from the standing one."""
    more = {c: fresh.joint_space_mri[c] - 1.04 * fresh.joint_space_film[c] for c in COMPARTMENTS}
    return {"joint_space_mri": {c: 1.04 * knee.joint_space_film[c] + more[c] for c in COMPARTMENTS}}


def _spurs(knee: Knee, fresh: Knee, *, name: str) -> dict[str, Any]:
    """One measure of every osteophyte."""
    spurs = {
        site: replace(knee.osteophytes[site], **{name: getattr(fresh.osteophytes[site], name)})
        for site in OSTEOPHYTE_SITES
    }
    return {"osteophytes": spurs}


def _warp_along_beam(knee: Knee, fresh: Knee, *, bone: str) -> dict[str, Any]:
    """The antero-posterior part of a bone's smooth displacement; waves and the other parts stay."""
    own, other = knee.warps[bone], fresh.warps[bone]
    amplitude = np.column_stack([own.amplitude[:, 0], other.amplitude[:, 1], own.amplitude[:, 2]])
    return {"warps": {**knee.warps, bone: replace(own, amplitude=amplitude)}}


def _fibula_depth(knee: Knee, fresh: Knee) -> dict[str, Any]:
    return {"fibula": (knee.fibula[0], fresh.fibula[1], knee.fibula[2])}


LATENTS: dict[str, Change] = {
    "MRI pose": _whole("mri_pose"),
    "unloaded joint space": _unloaded,
    "cartilage split": _whole("cartilage_split"),
    "patellar cartilage": _whole("patellar_cartilage"),
    "meniscus extrusion": _whole("meniscus_extrusion"),
    "effusion": _whole("effusion"),
    "vessel shift": _whole("vessel_shift"),
    "marrow lesions": _whole("marrow_lesions"),
    "cysts": _whole("cysts"),
    "crystals": _whole("crystals"),
    "osteophyte AP place": partial(_spurs, name="along_mm"),
    "osteophyte AP length": partial(_spurs, name="half_length_mm"),
    "osteophyte height": partial(_spurs, name="lift_mm"),
    "osteophyte size": partial(_spurs, name="size_mm"),
    "attrition AP centre": _whole("attrition_along_mm"),
    "attrition depth": _whole("attrition_mm"),
    "patella warp": lambda knee, fresh: {"warps": {**knee.warps, "patella": fresh.warps["patella"]}},
    "femur AP warp": partial(_warp_along_beam, bone="femur"),
    "tibia AP warp": partial(_warp_along_beam, bone="tibia"),
    "fibula depth": _fibula_depth,
    "plateau dish": _whole("plateau_dish"),
    "spine height": _whole("spine_height"),
    "patella height": _whole("patella_height"),
    "joint space": _whole("joint_space_film"),
}
"""Latents that draw on no other knee of the person, and how another draw replaces them."""
HIDDEN = (
    "MRI pose",
    "unloaded joint space",
    "cartilage split",
    "patellar cartilage",
    "meniscus extrusion",
    "effusion",
    "vessel shift",
    "marrow lesions",
    "cysts",
    "crystals",
)
"""Those that a film hides (docs/phantom.md has the argument and the measurement of each); all others it shows."""


def redraw(knee: Knee, fresh: Knee, latents: Iterable[str]) -> Knee:
    """`knee` with some of `LATENTS` from another draw of it."""
    for name in latents:
        knee = replace(knee, **LATENTS[name](knee, fresh))
    return knee


def sample_posterior(
    person: Person,
    side: str,
    k: int,
    given: str = "film",
    *,
    read: Table | None = None,
    reader: Confusion | None = None,
) -> Person:
    """Another person whose `side` knee shares the film of this one.

    Shape, findings and pose that the film shows are kept; `HIDDEN` is drawn from its prior given these, as are the
    grades of cysts and chondrocalcinosis, and the MRI's texture, field, coil and noise. KL follows from visible grades
    and stays.

    Args:
        person: whose film is given.
        side: `R` or `L`; the other knee stays as it is.
        k: which sample, from 1; the same arguments give the same one.
        given: one of `GIVEN`. With readings, the hidden grades follow what the table's reader wrote down; without
            covariates, sex, age, height and BMI are drawn from what film and readings tell of them.
        read: readings by side in place of the table's.
        reader: variable to the (true, read) chances in place of those of the table's reader.

    Returns:
        a person with the same film and another MRI; its covariates are the original's.

    Raises:
        ValueError: on an unknown side or `given`, or `k` under 1.
    """
    check_side(side)
    if given not in GIVEN:
        raise ValueError(f"`given` must be one of {'; '.join(GIVEN)}, got {given!r}.")
    if k < 1:
        raise ValueError(f"`k` must be a whole number from 1, got {k}; the knee itself is no sample.")
    rng = stream(person.seed, person.index, f"posterior_{side}", k)
    told: dict[str, Any] = {}
    if given != "film":
        table, project = table_readings(person)
        told = {"read": table if read is None else read, "confusion": reader or partial(confusion, project=project)}
    known = person.covariates if given.endswith("covariates") else None
    covariates, hidden = draw_hidden(rng, person, side, known=known, **told)
    knee = person.knees[side]
    readings = {**knee.readings, **hidden}
    shared = stream(person.seed, person.index, "identity").normal(size=12)
    fresh = draw_knee(person.seed, person.index, side, covariates, readings, shared, world=person.world, draw=k)
    sample = replace(redraw(knee, fresh, HIDDEN), readings=readings)
    return replace(person, knees={**person.knees, side: sample}, draw=k)


def posterior_name(given: str) -> str:
    """Folder of the samples, such as `posterior_film,readings`."""
    return f"posterior_{given}"


def write_posterior(folder: Path, person: Person, side: str, *, count: int, given: str, size: int) -> list[Path]:
    """Write MRI volumes of knees that share a film: `posterior_<given>/<ID>_<side>_<k>.nii.gz`, k from 1.

    Args:
        folder: of the truth; made if needed.
        person: whose film is given.
        side: the knee.
        count: how many samples.
        given: one of `GIVEN`.
        size: pixels a side of the MRI; the volumes lie on its own grid, (H, W, S) in ILA, in units of its signal.

    Returns:
        the files.
    """
    home = folder / posterior_name(given)
    paths = []
    for k in range(1, count + 1):
        volume, affine = render_mri(sample_posterior(person, side, k, given), side, size=size)
        # 12 bits of twice the brightest tissue's signal, as a scanner stores them.
        stored = np.clip(np.round(volume * (4095 / _FULL_SCALE)), 0, 4095).astype(np.int16)
        image = nib.Nifti1Image(stored.transpose(1, 2, 0), affine)
        image.header.set_slope_inter(_FULL_SCALE / 4095, 0)
        image.header.set_xyzt_units("mm")
        home.mkdir(parents=True, exist_ok=True)
        path = home / f"{person.covariates.participant}_{side}_{k}.nii.gz"
        nib.save(image, temporary(path))
        temporary(path).replace(path)
        paths.append(path)
    return paths
