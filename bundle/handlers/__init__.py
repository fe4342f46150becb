"""Ignite handlers: metrics and reports."""

from bundle.handlers.findings import FindingsReport
from bundle.handlers.image_quality import (
    AdjacentSliceCorrelationHandler,
    ImageQualityHandler,
    PSNRHandler,
    RegionSSIMHandler,
    SSIMHandler,
)
from bundle.handlers.report import EvaluationReport
from bundle.handlers.self_check import SelfCheckHandler, SelfCheckReport

__all__ = [
    "AdjacentSliceCorrelationHandler",
    "EvaluationReport",
    "FindingsReport",
    "ImageQualityHandler",
    "PSNRHandler",
    "RegionSSIMHandler",
    "SSIMHandler",
    "SelfCheckHandler",
    "SelfCheckReport",
]
