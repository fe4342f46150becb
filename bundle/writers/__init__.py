"""Volumes to files, marked as synthetic."""

from bundle.writers.dicom import KINDS, write_dicom
from bundle.writers.dicom_header import Origin
from bundle.writers.finished import file_hash, finished
from bundle.writers.knee_strip import PicturedKnee, knee_strip
from bundle.writers.mark import MARK
from bundle.writers.names import stem_of, unique_stems
from bundle.writers.nifti import write_nifti
from bundle.writers.sheet import write_sheet
from bundle.writers.synthetic import SaveSyntheticd, write_synthetic
from bundle.writers.whole import whole

__all__ = [
    "KINDS",
    "MARK",
    "Origin",
    "PicturedKnee",
    "SaveSyntheticd",
    "file_hash",
    "finished",
    "knee_strip",
    "stem_of",
    "unique_stems",
    "whole",
    "write_dicom",
    "write_nifti",
    "write_sheet",
    "write_synthetic",
]
