"""Measures of a synthesised volume that MONAI lacks, and MONAI's own applied per slice."""

from bundle.metrics.bootstrap import participant_interval
from bundle.metrics.ensembles import covered, fair_crps, rank_histogram, reliability_index, spread_and_error
from bundle.metrics.explainable import explainable_share, mean_squared_error, share_above_floor
from bundle.metrics.memorisation import compare_nearest
from bundle.metrics.regions import tissue_masks
from bundle.metrics.retrieval import matched_distractors, residual_correlation, retrieve
from bundle.metrics.rssim import RegionSSIM, region_ssim
from bundle.metrics.sensitivity import occlusion_map
from bundle.metrics.slice_correlation import AdjacentSliceCorrelation, adjacent_slice_correlation
from bundle.metrics.slicewise import SliceWise, VolumeWise
from bundle.metrics.vectors import pairwise_rmse, volume_vector
from bundle.metrics.volume_metric import VolumeMetric

__all__ = [
    "AdjacentSliceCorrelation",
    "RegionSSIM",
    "SliceWise",
    "VolumeMetric",
    "VolumeWise",
    "adjacent_slice_correlation",
    "compare_nearest",
    "covered",
    "explainable_share",
    "fair_crps",
    "matched_distractors",
    "mean_squared_error",
    "occlusion_map",
    "pairwise_rmse",
    "participant_interval",
    "rank_histogram",
    "region_ssim",
    "reliability_index",
    "residual_correlation",
    "retrieve",
    "share_above_floor",
    "spread_and_error",
    "tissue_masks",
    "volume_vector",
]
