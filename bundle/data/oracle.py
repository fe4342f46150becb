"""What else could lie behind a film: posterior samples of the phantom, prepared as the real volume was."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import torch
from monai.data import MetaTensor
from monai.transforms import Transform

from bundle.data.slice_window import resample_series
from bundle.data.volume_files import read_volume
from bundle.geometry import check_side
from bundle.keys import MRI, PARTICIPANT, SIDE
from bundle.transforms import CanonicalSide, NormaliseVolume, ToGrid


def has_oracle(folder: str | Path | None) -> bool:
    """Whether there are samples: the folder is named and holds a volume."""
    return folder is not None and any(Path(folder).glob("*.nii.gz"))


def oracle_knows(folder: str | Path | None) -> str:
    """What the samples of a folder `posterior_<given>` know, for a report: the `<given>`, or its name as it is."""
    return "" if folder is None else Path(folder).name.removeprefix("posterior_").replace(",", ", ")


class LoadOracled(Transform):
    """Add the posterior samples of a knee, on the grid and in the intensities of its prepared volume.

    A step of an evaluator's postprocessing: what preprocessing adds stays out of the engine's output.

    A sample goes the way of a series in preparation, `prepare_knee.make_knee`: the slice window and the prepared set's
    rows, columns and slices, then its OWN percentiles to [-1, 1], since the truth that it stands for was scaled by its
    own (design.md 3.17); then, as in evaluation, the model's grid and the canonical side.

    Without a folder, or with an empty one, the item stays as it is: a measure of the oracle is then absent.

    Args:
        folder: `truth/posterior_<given>` of a phantom release, files `<ID>_<side>_<k>.nii.gz`, k from 1.
        image_size: rows and columns of the model's grid.
        slices: of the model's grid.
        samples: how many; None takes all that are there.
        key: the mean of the samples goes there; `<key>_sample` is the first, `<key>_samples` are all, (K, 1, H, W, S).
        mri: key of the prepared volume: its path, or the image.
    """

    def __init__(
        self,
        folder: str | Path | None,
        *,
        image_size: int,
        slices: int,
        samples: int | None = None,
        key: str = "oracle",
        mri: str = MRI,
    ) -> None:
        if samples is not None and samples < 1:
            raise ValueError(f"`samples` must be positive, or None for all, got {samples}.")
        self.folder = Path(folder) if folder is not None and has_oracle(folder) else None
        self.samples, self.key, self.mri = samples, key, mri
        self.to_grid = ToGrid(image_size, slices)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with the samples added.

        Raises:
            FileNotFoundError: if the folder has too few samples of this knee.
            ValueError: if a sample cannot be prepared.
        """
        if self.folder is None:
            return dict(data)
        name, side = str(data[PARTICIPANT]), check_side(data[SIDE])
        stem = f"{name}_{side}"
        there = len(list(self.folder.glob(f"{stem}_*.nii.gz")))
        count = there if self.samples is None else self.samples
        if not 1 <= count <= there:
            raise FileNotFoundError(
                f"oracle {self.folder}: has {there} samples of {stem}, expected {self.samples or 'one or more'}; "
                "scripts/make_phantom.py --posterior K writes them, for the same participants, seed and size."
            )
        rows, slices = self._prepared_shape(data[self.mri])
        volumes = []
        for k in range(1, count + 1):
            path = self.folder / f"{stem}_{k}.nii.gz"
            values, affine = resample_series(read_volume(path), image_size=rows, slices=slices)
            image = MetaTensor(torch.from_numpy(values)[None], affine=torch.from_numpy(affine))
            image.meta["filename_or_obj"] = str(path)
            volumes.append(CanonicalSide()(self.to_grid(NormaliseVolume()(image)), side).as_tensor())
        stack = torch.stack(volumes)
        added = {"": stack.mean(0), "_sample": stack[0], "_samples": stack}
        return {**data, **{f"{self.key}{ending}": volume for ending, volume in added.items()}}

    def _prepared_shape(self, volume: Any) -> tuple[int, int]:
        """Rows and slices that the prepared volume has in its file."""
        path = volume.meta.get("filename_or_obj") if isinstance(volume, MetaTensor) else volume
        shape = nib.load(path).shape
        return int(shape[0]), int(shape[2])
