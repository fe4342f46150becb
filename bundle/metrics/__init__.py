"""Measures of a synthesised volume that MONAI lacks, and MONAI's own applied per slice."""

from bundle.metrics.agreement import mask_dice, surface_distances
from bundle.metrics.anatomy import Anatomy
from bundle.metrics.bones import segment_bones
from bundle.metrics.bootstrap import participant_interval
from bundle.metrics.cartilage import segment_cartilage
from bundle.metrics.depth_curve import correlation_at, slice_count_curve
from bundle.metrics.ensembles import covered, fair_crps, rank_histogram, reliability_index, spread_and_error
from bundle.metrics.explainable import explainable_share, mean_squared_error, share_above_floor
from bundle.metrics.findings import finding_scores
from bundle.metrics.joint_space import joint_space_width
from bundle.metrics.memorisation import compare_nearest
from bundle.metrics.osteophytes import osteophyte_volumes
from bundle.metrics.regions import region_masks
from bundle.metrics.retrieval import matched_distractors, residual_correlation, retrieve
from bundle.metrics.rssim import RegionSSIM, region_ssim
from bundle.metrics.self_check import SelfCheck
from bundle.metrics.sensitivity import occlusion_map
from bundle.metrics.sharpness import band_power, edge_spread_width
from bundle.metrics.slice_correlation import AdjacentSliceCorrelation, adjacent_slice_correlation
from bundle.metrics.slicewise import SliceWise, VolumeWise
from bundle.metrics.structure import StructureMetric
from bundle.metrics.tissues import tissue_errors, tissue_masks
from bundle.metrics.vectors import pairwise_rmse, volume_vector
from bundle.metrics.volume_metric import VolumeMetric
from bundle.metrics.wrapped import wrapped_psnr

__all__ = [
    "AdjacentSliceCorrelation",
    "Anatomy",
    "RegionSSIM",
    "SelfCheck",
    "SliceWise",
    "StructureMetric",
    "VolumeMetric",
    "VolumeWise",
    "adjacent_slice_correlation",
    "band_power",
    "compare_nearest",
    "correlation_at",
    "covered",
    "edge_spread_width",
    "explainable_share",
    "fair_crps",
    "finding_scores",
    "joint_space_width",
    "mask_dice",
    "matched_distractors",
    "mean_squared_error",
    "occlusion_map",
    "osteophyte_volumes",
    "pairwise_rmse",
    "participant_interval",
    "rank_histogram",
    "region_masks",
    "region_ssim",
    "reliability_index",
    "residual_correlation",
    "retrieve",
    "segment_bones",
    "segment_cartilage",
    "share_above_floor",
    "slice_count_curve",
    "spread_and_error",
    "surface_distances",
    "tissue_errors",
    "tissue_masks",
    "volume_vector",
    "wrapped_psnr",
]
