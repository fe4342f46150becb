"""What weights say of themselves: their grid, their grade table, what they were trained on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bundle.geometry import Grid
from bundle.readings import GradeTable

TEXT_BYTES = 512
"""Room for a text, such as what the weights were trained on, among the tensors of a weights file."""

NOTHING = "nothing"
"""What a network was trained on before it is."""


class DescribedNetwork(nn.Module):
    """A network from film to volume whose weights carry grid, readings and origin, and refuse others'.

    A subclass sets `grid`, `grade_table` and `missing_readings` and then calls `describe`.
    """

    grid: Grid
    grade_table: GradeTable
    missing_readings: str
    grid_description: Tensor
    grade_description: Tensor
    trained_on: Tensor
    descriptions: tuple[str, ...] = ("grid_description", "grade_description")
    """Buffers that must be alike in weights and network."""

    def describe(self) -> None:
        """Register the descriptions as buffers, and check those of weights that are loaded."""
        self.register_buffer("grid_description", _grid_tensor(self.grid))
        self.register_buffer("grade_description", text_tensor(_describe(self.grade_table, self.missing_readings)))
        self.register_buffer("trained_on", text_tensor(NOTHING))
        self._register_load_state_dict_pre_hook(self._check_identity)

    def provenance(self) -> str:
        """What the weights were trained on."""
        return text_of(self.trained_on)

    def check_input(self, film: Tensor, readings: Tensor | None) -> None:
        """Raise ValueError where a film's or its readings' shape is not the network's."""
        expected = (1, self.grid.rows, self.grid.columns)
        if film.ndim != 4 or tuple(film.shape[1:]) != expected:
            raise ValueError(
                f"`film` must have shape (B, {', '.join(map(str, expected))}), got {tuple(film.shape)}; "
                "`bundle.data.CropKneed` cuts it to the grid."
            )
        width = self.grade_table.vector_width(self.missing_readings)
        if readings is not None and tuple(readings.shape) != (film.shape[0], width):
            raise ValueError(
                f"`readings` must have shape ({film.shape[0]}, {width}), got {tuple(readings.shape)}; "
                "`bundle.transforms.EncodeReadingsd` makes the vector."
            )

    def _check_identity(self, state: dict, prefix: str, *_: object) -> None:
        """Refuse weights that speak of another grid or other readings; shapes alone would not show it.

        And those that hold nothing of this network, which a load that is not strict, MONAI Label's, would leave random.
        """
        if not any(prefix + name in state for name in self.state_dict()):
            raise ValueError("the weights hold none of this network's parameters; they are of another network.")
        for name in self.descriptions:
            theirs, ours = state.get(prefix + name), getattr(self, name)
            if theirs is not None and not torch.equal(theirs.to(ours), ours):
                show = _list if ours.is_floating_point() else text_of
                raise ValueError(
                    f"`{name}` of the weights is {show(theirs)}, of the network {show(ours)}; "
                    "build the network with the weights' values."
                )


def text_tensor(text: str) -> Tensor:
    """`text` as (TEXT_BYTES,) uint8, zero-padded; ValueError where it is longer."""
    data = text.encode()
    if len(data) > TEXT_BYTES:
        raise ValueError(f"`text` must have at most {TEXT_BYTES} bytes, got {len(data)}.")
    return torch.tensor(list(data.ljust(TEXT_BYTES, b"\0")), dtype=torch.uint8)


def text_of(tensor: Tensor) -> str:
    """The text in a tensor of `text_tensor`."""
    return bytes(tensor.tolist()).rstrip(b"\0").decode(errors="replace")


def _describe(table: GradeTable, policy: str) -> str:
    return f"{table.name}:{policy}:" + ",".join(f"{name}={top}" for name, top in table.highest.items())


def _grid_tensor(grid: Grid) -> Tensor:
    return torch.tensor([*grid.shape, grid.spacing_mm, grid.slice_spacing_mm], dtype=torch.float64)


def _list(tensor: Tensor) -> list[float]:
    return [round(value, 4) for value in tensor.tolist()]
