"""Ignite handlers: metrics and reports."""

from bundle.handlers.each_method import for_each_method
from bundle.handlers.image_quality import (
    AdjacentSliceCorrelationHandler,
    ImageQualityHandler,
    PSNRHandler,
    RegionSSIMHandler,
    SSIMHandler,
)
from bundle.handlers.report import EvaluationReport

__all__ = [
    "AdjacentSliceCorrelationHandler",
    "EvaluationReport",
    "ImageQualityHandler",
    "PSNRHandler",
    "RegionSSIMHandler",
    "SSIMHandler",
    "for_each_method",
]
