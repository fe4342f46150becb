"""From OAI's files to film and MRI pairs."""

from bundle.data.datalist import pairs
from bundle.data.knee_roi import CropKnee, CropKneed, Knee, find_knee
from bundle.data.oai_dicom import Series, read_mr_series
from bundle.data.prepare import prepare
from bundle.data.prepare_knee import Options
from bundle.data.splits import split_of

__all__ = ["CropKnee", "CropKneed", "Knee", "Options", "Series", "find_knee", "pairs", "prepare", "read_mr_series"]
__all__ += ["split_of"]
