"""Ignite handlers: metrics and reports."""

from bundle.handlers.depth_curve import SliceCountCurve
from bundle.handlers.each_method import for_each_method, present_methods
from bundle.handlers.explainable import ExplainableShareHandler, FloorShareHandler
from bundle.handlers.feature_switch import FeatureSwitch
from bundle.handlers.findings import FindingsReport
from bundle.handlers.galleries import InterpolationGallery, ReadingsGallery, SensitivityGallery
from bundle.handlers.image_quality import (
    AdjacentSliceCorrelationHandler,
    ImageQualityHandler,
    PSNRHandler,
    RegionSSIMHandler,
    SSIMHandler,
)
from bundle.handlers.kept_slices import KeepSlices
from bundle.handlers.memorisation import MemorisationHandler
from bundle.handlers.report import EvaluationReport
from bundle.handlers.retrieval import RetrievalHandler
from bundle.handlers.sections import SectionHandler
from bundle.handlers.self_check import SelfCheckHandler, SelfCheckReport
from bundle.handlers.structure import StructureHandler
from bundle.handlers.structure_sections import StructureSections
from bundle.handlers.uncertainty import UncertaintyHandler

__all__ = [
    "AdjacentSliceCorrelationHandler",
    "EvaluationReport",
    "ExplainableShareHandler",
    "FeatureSwitch",
    "FindingsReport",
    "FloorShareHandler",
    "ImageQualityHandler",
    "InterpolationGallery",
    "KeepSlices",
    "MemorisationHandler",
    "PSNRHandler",
    "ReadingsGallery",
    "RegionSSIMHandler",
    "RetrievalHandler",
    "SSIMHandler",
    "SectionHandler",
    "SelfCheckHandler",
    "SelfCheckReport",
    "SensitivityGallery",
    "SliceCountCurve",
    "StructureHandler",
    "StructureSections",
    "UncertaintyHandler",
    "for_each_method",
    "present_methods",
]
