"""Images of one knee out of an evaluator's decollated state, as arrays in [0, 1] and as slices to keep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from torch import Tensor

from bundle.handlers.scores import Knee
from bundle.keys import FILM, MIRRORED
from bundle.reports.kept import KeptSlice
from bundle.reports.montage import grey


def knee_items(engine: Engine) -> Iterator[dict[str, Any]]:
    """Each knee of the engine's batch with what the engine made of it; ValueError if it does not decollate."""
    batch, output = engine.state.batch, engine.state.output
    if not (isinstance(batch, list) and isinstance(output, list)):
        raise ValueError("the report needs decollated batches; give the evaluator `decollate=True`.")
    for batch_item, output_item in zip(batch, output, strict=True):
        yield {**batch_item, **{key: value for key, value in output_item.items() if value is not None}}


def entry(item: Mapping[str, Any], key: str) -> Tensor:
    """An item's image, or ValueError that names those that are there."""
    if item.get(key) is None:
        raise ValueError(f"neither the engine's output nor its batch has `{key}`; they have {', '.join(item)}.")
    return item[key]


def film_of(item: Mapping[str, Any]) -> np.ndarray:
    """The film, (H, W) in [0, 1]."""
    return (_array(entry(item, FILM), dims=3) + 1) / 2


def unit_volume(volume: Tensor, *, lo: float, data_range: float) -> np.ndarray:
    """A volume (1, H, W, S) in [lo, lo + data_range] as (H, W, S) in [0, 1]."""
    return (_array(volume, dims=4) - lo) / data_range


def is_mirrored(item: Mapping[str, Any]) -> bool:
    """Whether the film is a left knee's, shown as a right one."""
    return bool(getattr(entry(item, FILM), "meta", {}).get(MIRRORED, False))


def kept_slice(
    item: Mapping[str, Any], volumes: Mapping[str, np.ndarray], *, real: np.ndarray, index: int, remark: str = ""
) -> KeptSlice:
    """One slice of a knee's film, real volume and others.

    Args:
        item: of `knee_items`.
        volumes: name to volume, (H, W, S) in [0, 1].
        real: like them.
        index: of the slice.
        remark: what a caption must say.
    """
    knee = Knee.of(item)
    return KeptSlice(
        film=grey(film_of(item)),
        real=grey(real[..., index]),
        made={name: grey(volume[..., index]) for name, volume in volumes.items()},
        depth=index / max(1, real.shape[2] - 1),
        knee=(knee.participant, knee.side, knee.visit),
        kl_grade=knee.kl_grade,
        mirrored=is_mirrored(item),
        remark=remark,
    )


def _array(image: Tensor, *, dims: int) -> np.ndarray:
    """float32 array without the channel, which must be the only one."""
    array = torch.as_tensor(image).detach().cpu().float().numpy()
    if array.ndim != dims or array.shape[0] != 1:
        raise ValueError(f"an image for the report must have one channel and {dims - 1} axes, got shape {array.shape}.")
    return array[0]
