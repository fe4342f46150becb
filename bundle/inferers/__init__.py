"""Run a network over a film."""

from bundle.inferers.baseline import AddPredictiond
from bundle.inferers.ceiling import AddReconstructiond
from bundle.inferers.controls import AddControld
from bundle.inferers.other_knee import AddOtherKneed
from bundle.inferers.samples import SplitSamplesd
from bundle.inferers.volume import VolumeInferer

__all__ = ["AddControld", "AddOtherKneed", "AddPredictiond", "AddReconstructiond", "SplitSamplesd", "VolumeInferer"]
