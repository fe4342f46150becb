"""Measures of a synthesised volume that MONAI lacks, and MONAI's own applied per slice."""

from bundle.metrics.agreement import mask_dice, surface_distances
from bundle.metrics.anatomy import Anatomy
from bundle.metrics.bones import segment_bones
from bundle.metrics.cartilage import segment_cartilage
from bundle.metrics.depth_curve import correlation_at, slice_count_curve
from bundle.metrics.joint_space import joint_space_width
from bundle.metrics.osteophytes import osteophyte_volumes
from bundle.metrics.rssim import RegionSSIM, region_ssim
from bundle.metrics.sharpness import band_power, edge_spread_width
from bundle.metrics.slice_correlation import AdjacentSliceCorrelation, adjacent_slice_correlation
from bundle.metrics.slicewise import SliceWise, VolumeWise
from bundle.metrics.structure import StructureMetric
from bundle.metrics.tissues import tissue_errors, tissue_masks
from bundle.metrics.volume_metric import VolumeMetric
from bundle.metrics.wrapped import wrapped_psnr

__all__ = [
    "AdjacentSliceCorrelation",
    "Anatomy",
    "RegionSSIM",
    "SliceWise",
    "StructureMetric",
    "VolumeMetric",
    "VolumeWise",
    "adjacent_slice_correlation",
    "band_power",
    "correlation_at",
    "edge_spread_width",
    "joint_space_width",
    "mask_dice",
    "osteophyte_volumes",
    "region_ssim",
    "segment_bones",
    "segment_cartilage",
    "slice_count_curve",
    "surface_distances",
    "tissue_errors",
    "tissue_masks",
    "wrapped_psnr",
]
