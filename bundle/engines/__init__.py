"""Training: data, batches, losses, checkpoints."""

from bundle.engines.augmented import AugmentedDataset
from bundle.engines.average import ParameterAverage
from bundle.engines.cae_stage import CAELoss, PrepareCAE, drops_last
from bundle.engines.checkpoints import EpochCheckpoints
from bundle.engines.denoising_loss import DenoisingLoss
from bundle.engines.distillation import LandingLoss, PrepareDistilling, Segments, teacher_of
from bundle.engines.distributed import distributed, join_group, rank, share, world_size
from bundle.engines.epochs import EpochToDataset, LossLog, warm_up_then_cosine
from bundle.engines.finish import finish
from bundle.engines.grade_report import GradeReport
from bundle.engines.landmarks import LandmarkLoss, PrepareLandmarks, finish_finder
from bundle.engines.latents import LatentDataset
from bundle.engines.losses import AutoencoderLoss
from bundle.engines.mean_stage import MeanDataset, MeanLoss, MeanPrediction, PrepareMean
from bundle.engines.micro_batches import MicroBatches
from bundle.engines.parameter_groups import parameter_groups, train_only
from bundle.engines.patch_picture import picture_patches
from bundle.engines.precision import PrecisionInferer
from bundle.engines.preflight import preflight
from bundle.engines.prepare_batch import PrepareDenoising, PrepareFilm, PrepareReconstruction
from bundle.engines.progress import MetricLog, Progress
from bundle.engines.record import record_config
from bundle.engines.residual import PrepareResidual, Residual
from bundle.engines.siamese import PreparePatches, finish_siamese, load_trained
from bundle.engines.slices import SliceDataset
from bundle.engines.start_from import start_from
from bundle.engines.tensorboard import is_off
from bundle.engines.track_comparison import track_comparison
from bundle.engines.tracking import TrackedRun
from bundle.engines.twins import TwinSampler
from bundle.engines.windows import WindowDataset, denoiser_dataset, items_of_a_batch, stack_windows

__all__ = [
    "AugmentedDataset",
    "AutoencoderLoss",
    "CAELoss",
    "DenoisingLoss",
    "EpochCheckpoints",
    "EpochToDataset",
    "GradeReport",
    "LandingLoss",
    "LandmarkLoss",
    "LatentDataset",
    "LossLog",
    "MeanDataset",
    "MeanLoss",
    "MeanPrediction",
    "MetricLog",
    "MicroBatches",
    "ParameterAverage",
    "PrecisionInferer",
    "PrepareCAE",
    "PrepareDenoising",
    "PrepareDistilling",
    "PrepareFilm",
    "PrepareLandmarks",
    "PrepareMean",
    "PreparePatches",
    "PrepareReconstruction",
    "PrepareResidual",
    "Progress",
    "Residual",
    "Segments",
    "SliceDataset",
    "TrackedRun",
    "TwinSampler",
    "WindowDataset",
    "denoiser_dataset",
    "distributed",
    "drops_last",
    "finish",
    "finish_finder",
    "finish_siamese",
    "is_off",
    "items_of_a_batch",
    "join_group",
    "load_trained",
    "parameter_groups",
    "picture_patches",
    "preflight",
    "rank",
    "record_config",
    "share",
    "stack_windows",
    "start_from",
    "teacher_of",
    "track_comparison",
    "train_only",
    "warm_up_then_cosine",
    "world_size",
]
