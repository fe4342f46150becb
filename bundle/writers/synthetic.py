"""A synthesised volume with everything that marks it: NIfTI, sidecar, contact sheet."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import SaveImaged

from bundle.geometry import AXES
from bundle.keys import FILM, MIRRORED
from bundle.writers.nifti import write_nifti
from bundle.writers.sheet import write_sheet
from bundle.writers.whole import whole

MARK = "SYNTHETIC, NOT FOR DIAGNOSIS"


def write_synthetic(
    volume: MetaTensor,
    film: MetaTensor,
    folder: str | Path,
    stem: str,
    *,
    record: Mapping[str, Any],
    spread: MetaTensor | None = None,
) -> list[Path]:
    """Write one synthesised volume.

    Args:
        volume: (1, H, W, S) in [0, 1] with its affine, of the side that the film shows.
        film: (1, H, W) in [0, 1], of the same side.
        folder: made if it is absent.
        stem: files are `<stem>_mri_synthetic.nii.gz`, `.json`, `.png`.
        record: what made the volume: seed, steps, weights and the like.
        spread: standard deviation over samples, written as `<stem>_spread_synthetic.nii.gz`.

    Returns:
        the files, the volume first.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    affine = volume.affine.numpy()
    rows, columns, slices = (float(np.linalg.norm(affine[:3, axis])) for axis in range(3))
    spacing = (rows, columns, slices)
    target = folder / f"{stem}_mri_synthetic.nii.gz"
    files = [write_nifti(volume.numpy()[0], affine, target, description=MARK)]
    if spread is not None:
        name = folder / f"{stem}_spread_synthetic.nii.gz"
        files.append(write_nifti(spread.numpy()[0], affine, name, description=MARK))
    sidecar = {
        "synthetic": True,
        "notice": MARK,
        "axes": AXES,
        "shape": list(volume.shape[1:]),
        "spacing_mm": list(spacing),
        "affine_ras": affine.tolist(),
        "intensity": "[0, 1]; no unit",
        **record,
    }
    files.append(_write_json(sidecar, folder / f"{stem}_mri_synthetic.json"))
    picture = folder / f"{stem}_mri_synthetic.png"
    title = f"{MARK}   {stem}   rows down = inferior, columns rightwards = patient's left"
    files.append(write_sheet(film.numpy()[0], volume.numpy()[0], picture, spacing_mm=spacing, title=title))
    return files


class SaveSyntheticd(SaveImaged):
    """Write the volumes of a bundle run, see `write_synthetic`.

    A `SaveImaged`, because MONAI Label, which returns its result and should leave none behind, takes out what is one.

    Args:
        keys: entry with the placed volume, [-1, 1].
        output_dir: folder.
        record: what made the volumes.
        film_key: entry with the film, whose file name gives the stem.
    """

    def __init__(
        self, keys: KeysCollection, *, output_dir: str, record: Mapping[str, Any], film_key: str = FILM
    ) -> None:
        super().__init__(keys, output_dir=output_dir)
        self.output_dir, self.record, self.film_key = output_dir, dict(record), film_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write one knee's volume; the data goes on unchanged."""
        film = data[self.film_key]
        source = Path(str(film.meta["filename_or_obj"])).name
        shown = film.flip(-1) if film.meta.get(MIRRORED) else film
        for key in self.key_iterator(data):
            write_synthetic(
                (data[key].cpu() + 1) / 2,
                (shown.cpu() + 1) / 2,
                self.output_dir,
                stem_of(source),
                record={"film": source, **self.record},
            )
        return dict(data)


def stem_of(name: str) -> str:
    """File name without the endings of images."""
    for ending in (".nii.gz", ".nii", ".dcm", ".png", ".jpg", ".jpeg", ".tif", ".tiff"):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


def _write_json(content: Mapping[str, Any], path: Path) -> Path:
    with whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
    return path
