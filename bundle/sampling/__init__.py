"""Noise schedules and samplers; they know a callable and no network."""

from bundle.sampling.batches import FittingBatches
from bundle.sampling.guidance import guided
from bundle.sampling.running_moments import RunningMoments
from bundle.sampling.schedules import DiffusionSchedule, FlowSchedule, NoiseSchedule, seeded_noise
from bundle.sampling.slice_noise import slice_noise

__all__ = [
    "DiffusionSchedule",
    "FittingBatches",
    "FlowSchedule",
    "NoiseSchedule",
    "RunningMoments",
    "guided",
    "seeded_noise",
    "slice_noise",
]
