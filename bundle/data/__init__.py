"""From OAI's files to film and MRI pairs."""

from bundle.data.datalist import pairs
from bundle.data.knee_roi import CropKnee, CropKneed, find_knee

__all__ = ["CropKnee", "CropKneed", "find_knee", "pairs"]
