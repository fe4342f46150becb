"""Measures of a synthesised volume that MONAI lacks, and MONAI's own applied per slice."""

from bundle.metrics.findings import finding_scores
from bundle.metrics.rssim import RegionSSIM, region_ssim
from bundle.metrics.self_check import SelfCheck
from bundle.metrics.slice_correlation import AdjacentSliceCorrelation, adjacent_slice_correlation
from bundle.metrics.slicewise import SliceWise, VolumeWise
from bundle.metrics.volume_metric import VolumeMetric

__all__ = [
    "AdjacentSliceCorrelation",
    "RegionSSIM",
    "SelfCheck",
    "SliceWise",
    "VolumeMetric",
    "VolumeWise",
    "adjacent_slice_correlation",
    "finding_scores",
    "region_ssim",
]
