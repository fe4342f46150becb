"""Two square patches of a film, one at each side of the joint, cut in millimetres and turned alike."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from torch import Tensor, stack

from bundle.geometry import FIELD_OF_VIEW_MM
from bundle.keys import FILM
from bundle.transforms.resample import apply_weights, axis_weights

COMPARTMENTS = ("medial", "lateral")
"""Order of the patches."""
PATCHES = "patches"
"""Entry of a knee for its patches."""


class JointPatches(Transform):
    """Cut the medial and the lateral half of the joint out of a film on the canonical grid.

    The film shows a canonical right knee in the field of view, the joint centre in its middle, so the medial side is
    that of the high columns (leftwards for the patient). The lateral patch is reversed: in both patches columns run
    from the middle of the knee to its outer margin, and one set of weights can read both.

    Args:
        patch_mm: edge of a patch, mm in the knee.
        centre_mm: how far from the joint centre a patch has its centre, to either side, mm.
        patch_size: rows and columns of a patch.

    Raises:
        ValueError: if a patch is empty or reaches out of the field of view.
    """

    def __init__(self, patch_mm: float = 48.0, centre_mm: float = 22.0, patch_size: int = 80) -> None:
        if patch_mm <= 0 or patch_size < 1:
            raise ValueError(f"`patch_mm` and `patch_size` must be positive, got {patch_mm} and {patch_size}.")
        if not 0 <= centre_mm <= (FIELD_OF_VIEW_MM - patch_mm) / 2:
            raise ValueError(
                f"`centre_mm` must lie in [0, {(FIELD_OF_VIEW_MM - patch_mm) / 2:g}], so that a patch of {patch_mm:g} "
                f"mm stays in the field of view; got {centre_mm}."
            )
        self.patch_mm, self.centre_mm, self.patch_size = float(patch_mm), float(centre_mm), int(patch_size)

    def __call__(self, film: Tensor) -> Tensor:
        """(1, H, W), the canonical knee in its field of view, to (2, patch_size, patch_size): medial, lateral.

        Raises:
            ValueError: if the film has another shape.
        """
        plain = film.as_tensor() if hasattr(film, "as_tensor") else film
        if plain.ndim != 3 or plain.shape[0] != 1:
            raise ValueError(
                f"`film` must have shape (1, H, W), got {tuple(plain.shape)}; bring it there with `FlattenFilmd`."
            )
        rows, columns = plain.shape[1:]
        half = (FIELD_OF_VIEW_MM - self.patch_mm) / 2
        down = self._weights(rows, half)
        medial, lateral = (
            apply_weights(plain, {1: down, 2: self._weights(columns, half + side * self.centre_mm)})[0]
            for side in (1, -1)
        )
        return stack([medial, lateral.flip(-1)])

    def _weights(self, count: int, start_mm: float) -> Tensor:
        return axis_weights(count, FIELD_OF_VIEW_MM / count, self.patch_size, self.patch_mm / self.patch_size, start_mm)


class JointPatchesd(MapTransform):
    """Dictionary form of `JointPatches`; the film stays, for pictures.

    Args:
        keys: the entry with the film.
        patches_key: entry for the patches.
        patch_mm, centre_mm, patch_size: see `JointPatches`.
    """

    def __init__(
        self,
        keys: KeysCollection = FILM,
        patches_key: str = PATCHES,
        patch_mm: float = 48.0,
        centre_mm: float = 22.0,
        patch_size: int = 80,
    ) -> None:
        super().__init__(keys)
        if len(self.keys) != 1:
            raise ValueError(f"`keys` must name one film, got {self.keys}.")
        self.patches_key, self.cut = patches_key, JointPatches(patch_mm, centre_mm, patch_size)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Cut the patches of one knee."""
        return dict(data) | {self.patches_key: self.cut(data[self.keys[0]])}
