"""A synthesised volume with everything that marks it: NIfTI, DICOM, sidecar, contact sheet."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import SaveImaged
from pydicom.uid import generate_uid

from bundle.geometry import AXES
from bundle.keys import CONFIDENCE, FILM, MIRRORED
from bundle.writers.dicom import write_dicom
from bundle.writers.dicom_header import Origin
from bundle.writers.finished import file_hash
from bundle.writers.mark import MARK, MODEL
from bundle.writers.names import stem_of
from bundle.writers.nifti import write_nifti
from bundle.writers.sheet import write_sheet
from bundle.writers.whole import whole_set

METADATA = Path(__file__).resolve().parents[2] / "configs" / "metadata.json"


def write_synthetic(
    volume: MetaTensor,
    film: MetaTensor,
    folder: str | Path,
    stem: str,
    *,
    record: Mapping[str, Any],
    spread: MetaTensor | None = None,
    origin: Origin | None = None,
    dicom_kind: str = "sc",
) -> list[Path]:
    """Write one synthesised volume; its files come together, and the sidecar last.

    Args:
        volume: (1, H, W, S) in [0, 1] with its affine, of the side that the film shows.
        film: (1, H, W) in [0, 1], of the same side.
        folder: made if it is absent.
        stem: files are `<stem>_mri_synthetic.nii.gz`, `.json`, `.png`.
        record: what made the volume: seed, steps, weights and the like.
        spread: standard deviation over samples, written as `<stem>_spread_synthetic.nii.gz`.
        origin: what DICOM files say of it; None writes none. The folders are `<stem>_mri_synthetic_dicom` and
            `<stem>_spread_synthetic_dicom`, a series each, of one study in one frame of reference.
        dicom_kind: `sc` or `mr`, see `write_dicom`.

    Returns:
        the files, the volume first; a DICOM series is its folder.
    """
    folder = Path(folder)
    affine = volume.affine.numpy()
    rows, columns, slices = (float(np.linalg.norm(affine[:3, axis])) for axis in range(3))
    spacing = (rows, columns, slices)
    images = {"mri": volume.numpy()[0]} | ({} if spread is None else {"spread": spread.numpy()[0]})
    sidecar = f"{stem}_mri_synthetic.json"
    with whole_set(folder, last=sidecar) as unfinished:
        files = [
            write_nifti(image, affine, unfinished / f"{stem}_{role}_synthetic.nii.gz", description=MARK)
            for role, image in images.items()
        ]
        if origin is not None:
            study, frame = origin.study or generate_uid(prefix=None), generate_uid(prefix=None)
            for role, image in images.items():
                files.append(
                    write_dicom(
                        image,
                        affine,
                        unfinished / f"{stem}_{role}_synthetic_dicom",
                        origin=origin,
                        kind=dicom_kind,
                        role=role,
                        study=study,
                        frame_of_reference=frame,
                    )
                )
        title = f"{MARK}   {stem}   rows down = inferior, columns rightwards = patient's left"
        picture = unfinished / f"{stem}_mri_synthetic.png"
        files.append(write_sheet(film.numpy()[0], images["mri"], picture, spacing_mm=spacing, title=title))
        content = {
            "synthetic": True,
            "notice": MARK,
            "model": MODEL,
            "axes": AXES,
            "shape": list(volume.shape[1:]),
            "spacing_mm": list(spacing),
            "affine_ras": affine.tolist(),
            "intensity": "[0, 1]; no unit",
            **record,
            "files": [file.name for file in files],
        }
        (unfinished / sidecar).write_text(json.dumps(content, indent=2) + "\n")
    return [folder / file.name for file in [*files[: len(images)], unfinished / sidecar, *files[len(images) :]]]


class SaveSyntheticd(SaveImaged):
    """Write the volumes of a bundle run, see `write_synthetic`.

    A `SaveImaged`, because MONAI Label, which returns its result and should leave none behind, takes out what is one.

    Args:
        keys: entry with the placed volume, [-1, 1].
        output_dir: folder.
        record: what made the volumes; `weights`, a file, becomes its name and hash.
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
        weights = self.record.get("weights")
        if weights is not None and "weights_sha256" not in self.record:
            self.record |= {"weights": Path(weights).name, "weights_sha256": file_hash(weights)}
            self.record["bundle_version"] = json.loads(METADATA.read_text())["version"]
        confidence = film.meta.get(CONFIDENCE)
        for key in self.key_iterator(data):
            write_synthetic(
                (data[key].cpu() + 1) / 2,
                (shown.cpu() + 1) / 2,
                self.output_dir,
                stem_of(source),
                record={"film": source, CONFIDENCE: None if confidence is None else float(confidence), **self.record},
            )
        return dict(data)
