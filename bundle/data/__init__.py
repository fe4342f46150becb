"""From OAI's files to film and MRI pairs."""

from bundle.data.datalist import pairs
from bundle.data.finder_augment import RandNegatived, RandNoKneed, RandOneKneed
from bundle.data.finder_view import FinderView, FinderViewd
from bundle.data.joint_band import JointBandd
from bundle.data.joint_line import Knee
from bundle.data.knee_roi import CropKnee, CropKneed, find_knee
from bundle.data.landmarks import LandmarkMaps
from bundle.data.oai_dicom import Series, read_mr_series
from bundle.data.oracle import LoadOracled, has_oracle, oracle_knows
from bundle.data.prepare import prepare
from bundle.data.prepare_knee import Options
from bundle.data.splits import split_of

__all__ = ["CropKnee", "CropKneed", "Knee", "Options", "Series", "find_knee", "pairs", "prepare", "read_mr_series"]
__all__ += [
    "FinderView",
    "FinderViewd",
    "JointBandd",
    "LandmarkMaps",
    "LoadOracled",
    "RandNegatived",
    "RandNoKneed",
    "RandOneKneed",
    "has_oracle",
    "oracle_knows",
    "split_of",
]
