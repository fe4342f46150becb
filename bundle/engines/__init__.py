"""Training: data, batches, losses, checkpoints."""

from bundle.engines.augmented import AugmentedDataset
from bundle.engines.average import ParameterAverage
from bundle.engines.checkpoints import EpochCheckpoints
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
    "LandmarkLoss",
    "LatentDataset",
    "LossLog",
    "MetricLog",
    "ParameterAverage",
    "PrepareDenoising",
    "PrepareFilm",
    "PrepareLandmarks",
    "PrepareReconstruction",
    "Progress",
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
    "warm_up_then_cosine",
    "world_size",
]
