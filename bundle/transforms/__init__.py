"""MONAI transforms for films, volumes and readings."""

from bundle.transforms.array import (
    CanonicalSide,
    EncodeReadings,
    LoadFilm,
    NormaliseFilm,
    NormaliseVolume,
    RestoreSide,
    ToGrid,
    collimated_extent,
)
from bundle.transforms.covariates import EncodeCovariatesd
from bundle.transforms.dictionary import (
    CanonicalSided,
    EncodeReadingsd,
    LoadFilmd,
    NormaliseFilmd,
    NormaliseVolumed,
    ReadingsWithFilmd,
    RestoreSided,
    ToGridd,
)
from bundle.transforms.flatten import FlattenFilmd
from bundle.transforms.joint_band import band_of_joint, band_of_masks, middle_third
from bundle.transforms.joint_patches import JointPatches, JointPatchesd
from bundle.transforms.labels import LoadLabelsd
from bundle.transforms.project_volume import ProjectVolumed, project_volume
from bundle.transforms.resample import apply_weights, axis_weights, resize_plane
from bundle.transforms.volume import PlaceVolumed, place_volume

__all__ = [
    "CanonicalSide",
    "CanonicalSided",
    "EncodeCovariatesd",
    "EncodeReadings",
    "EncodeReadingsd",
    "FlattenFilmd",
    "JointPatches",
    "JointPatchesd",
    "LoadFilm",
    "LoadFilmd",
    "LoadLabelsd",
    "NormaliseFilm",
    "NormaliseFilmd",
    "NormaliseVolume",
    "NormaliseVolumed",
    "PlaceVolumed",
    "ProjectVolumed",
    "ReadingsWithFilmd",
    "RestoreSide",
    "RestoreSided",
    "ToGrid",
    "ToGridd",
    "apply_weights",
    "axis_weights",
    "band_of_joint",
    "band_of_masks",
    "collimated_extent",
    "middle_third",
    "place_volume",
    "project_volume",
    "resize_plane",
]
