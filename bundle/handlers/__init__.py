"""Ignite handlers: metrics and reports."""

from bundle.handlers.depth_curve import SliceCountCurve
from bundle.handlers.image_quality import (
    AdjacentSliceCorrelationHandler,
    ImageQualityHandler,
    PSNRHandler,
    RegionSSIMHandler,
    SSIMHandler,
)
from bundle.handlers.report import EvaluationReport
from bundle.handlers.structure import StructureHandler
from bundle.handlers.structure_sections import StructureSections

__all__ = [
    "AdjacentSliceCorrelationHandler",
    "EvaluationReport",
    "ImageQualityHandler",
    "PSNRHandler",
    "RegionSSIMHandler",
    "SSIMHandler",
    "SliceCountCurve",
    "StructureHandler",
    "StructureSections",
]
