"""Several graded variables from one vector of scores: its blocks, their probabilities and their loss."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from bundle.readings import grade_table

Blocks = Mapping[str, int]
"""Name of a variable to its number of grades, in the order of the vector."""


def table_blocks(table: str = "oai") -> dict[str, int]:
    """The blocks of a grade table: 19 readings."""
    return {variable: top + 1 for variable, top in grade_table(table).highest.items()}


def log_probabilities(scores: Tensor, blocks: Blocks) -> dict[str, Tensor]:
    """Scores (B, sum of grades) to log-probabilities (B, grades) of each variable.

    Raises:
        ValueError: if the blocks do not fill the vector.
    """
    if scores.ndim != 2 or scores.shape[1] != sum(blocks.values()):
        raise ValueError(
            f"`scores` must have shape (B, {sum(blocks.values())}) for {len(blocks)} variables, got "
            f"{tuple(scores.shape)}."
        )
    parts = scores.split(tuple(blocks.values()), dim=1)
    return {name: part.log_softmax(dim=1) for name, part in zip(blocks, parts, strict=True)}


class GradeLoss(nn.Module):
    """Cross-entropy of every grade that is known, averaged over them.

    Args:
        blocks: the variables.
    """

    def __init__(self, blocks: Blocks) -> None:
        super().__init__()
        self.blocks = dict(blocks)

    def forward(self, scores: Tensor, target: Tensor) -> Tensor:
        """Mean over known grades.

        Args:
            scores: (B, sum of grades).
            target: of the same shape, one-hot a variable, or shared by two neighbours; zeros where a grade is missing.

        Returns:
            a scalar; 0 for a batch in which nothing is known.
        """
        total = known = scores.new_zeros(())
        parts = target.split(tuple(self.blocks.values()), dim=1)
        for log, wanted in zip(log_probabilities(scores, self.blocks).values(), parts, strict=True):
            total, known = total - (wanted * log).sum(), known + wanted.sum()
        return total / known.clamp(min=1)
