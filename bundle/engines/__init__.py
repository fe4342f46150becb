"""Training: data, batches, losses, checkpoints."""

from bundle.engines.augmented import AugmentedDataset
from bundle.engines.average import ParameterAverage
from bundle.engines.checkpoints import EpochCheckpoints
from bundle.engines.distillation import LandingLoss, PrepareDistilling, Segments, teacher_of
from bundle.engines.distributed import distributed, join_group, rank, world_size
from bundle.engines.epochs import EpochToDataset, LossLog, warm_up_then_cosine
from bundle.engines.finish import finish
from bundle.engines.landmarks import LandmarkLoss, PrepareLandmarks, finish_finder
from bundle.engines.latents import LatentDataset
from bundle.engines.losses import AutoencoderLoss
from bundle.engines.preflight import preflight
from bundle.engines.prepare_batch import PrepareDenoising, PrepareFilm, PrepareReconstruction
from bundle.engines.progress import MetricLog, Progress
from bundle.engines.record import record_config
from bundle.engines.slices import SliceDataset
from bundle.engines.windows import WindowDataset, stack_windows

__all__ = [
    "AugmentedDataset",
    "AutoencoderLoss",
    "EpochCheckpoints",
    "EpochToDataset",
    "LandingLoss",
    "LandmarkLoss",
    "LatentDataset",
    "LossLog",
    "MetricLog",
    "ParameterAverage",
    "PrepareDenoising",
    "PrepareDistilling",
    "PrepareFilm",
    "PrepareLandmarks",
    "PrepareReconstruction",
    "Progress",
    "Segments",
    "SliceDataset",
    "WindowDataset",
    "distributed",
    "finish",
    "finish_finder",
    "join_group",
    "preflight",
    "rank",
    "record_config",
    "stack_windows",
    "teacher_of",
    "warm_up_then_cosine",
    "world_size",
]
