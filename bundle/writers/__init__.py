"""Volumes to files, marked as synthetic."""

from bundle.writers.knee_strip import PicturedKnee, knee_strip
from bundle.writers.nifti import write_nifti
from bundle.writers.sheet import write_sheet
from bundle.writers.synthetic import MARK, SaveSyntheticd, stem_of, write_synthetic
from bundle.writers.whole import whole

__all__ = [
    "MARK",
    "PicturedKnee",
    "SaveSyntheticd",
    "knee_strip",
    "stem_of",
    "whole",
    "write_nifti",
    "write_sheet",
    "write_synthetic",
]
