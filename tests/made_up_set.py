"""A prepared set of made-up knees: films that are cut already, so that no knee finder is asked."""

import json

import nibabel as nib
import numpy as np

from bundle.geometry import Grid
from bundle.transforms.film_files import PREPARED_MARK


def write_set(root, *, image_size, slices, counts=(6, 2, 2), seed=0):
    """Knees of a disc whose place and size the film shows, and whose brightness over depth is everybody's."""
    grid, rng = Grid.of(image_size=image_size, slices=slices), np.random.default_rng(seed)
    rows, columns = np.mgrid[:image_size, :image_size] / image_size
    (root / "films").mkdir(parents=True)
    (root / "volumes").mkdir()
    content, number = {"source": "made-up"}, 0
    for split, count in zip(("training", "validation", "test"), counts, strict=True):
        content[split] = []
        for _ in range(count):
            row, column, radius = rng.uniform([0.35, 0.35, 0.15], [0.65, 0.65, 0.3])
            disc = (np.hypot(rows - row, columns - column) < radius).astype(np.float32)
            profile = np.sin(np.linspace(0.3, 2.8, slices)).astype(np.float32)
            volume = 0.2 + 0.6 * disc[..., None] * profile + 0.02 * rng.standard_normal((*disc.shape, slices))
            film = nib.Nifti1Image(disc[..., None], grid.film_affine())
            film.header["descrip"] = PREPARED_MARK
            name = f"{number:07d}_R_00m.nii.gz"
            nib.save(film, root / "films" / name)
            nib.save(nib.Nifti1Image(volume.clip(0, 1).astype(np.float32), grid.affine()), root / "volumes" / name)
            content[split].append(
                {"film": f"films/{name}", "mri": f"volumes/{name}", "participant": f"{number:07d}", "side": "R"}
                | {"visit": "00m", "readings": {"XRKL": number % 5}, "age": 60, "sex": "F", "bmi": 28}
            )
            number += 1
    (root / "dataset.json").write_text(json.dumps(content))
    return root
