"""Ignite handlers of the image metrics, each with the convention its numbers were made under."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler, from_engine
from monai.metrics import PSNRMetric, SSIMMetric
from monai.utils.enums import CommonKeys

from bundle.keys import PRED
from bundle.metrics import AdjacentSliceCorrelation, RegionSSIM, SliceWise, VolumeMetric, VolumeWise
from bundle.metrics.rssim import WINDOW, WINDOW_SIGMA
from bundle.metrics.volume_metric import check_data_range

WINDOW_WORDS = f"{WINDOW}-tap Gaussian, sigma {WINDOW_SIGMA}, constants 0.01 and 0.03, rim dropped"
PER: dict[str, type[VolumeWise]] = {"slice": SliceWise, "volume": VolumeWise}
SPATIAL_DIMS = {"slice": 2, "volume": 3}
MEAN_OVER_SLICES = "mean over the slices of a volume"


class ImageQualityHandler(IgniteMetricHandler):
    """Attach a `VolumeMetric` to an engine.

    Beside the reduced score in `engine.state.metrics[name]` it leaves
    - every volume's score in `engine.state.metric_details[name]`, (N, 1) float64,
    - what each score left out in `engine.state.metric_details[f"{name}_{counts}"]`, (N, 1) int64,
    - `convention` in `engine.state.metric_conventions[name]`.

    Args:
        metric_fn: the metric.
        convention: how its numbers are made, for reports: term to value.
        output_transform: `engine.state.output` to (synthesised, real), both lists of (1, H, W, S) or (B, 1, H, W, S);
            None takes the entries `pred` and `label`.
        save_details: whether to leave the two entries of `metric_details`.
    """

    metric_fn: VolumeMetric
    _output_transform: Callable

    def __init__(
        self,
        metric_fn: VolumeMetric,
        *,
        convention: Mapping[str, Any],
        output_transform: Callable | None = None,
        save_details: bool = True,
    ) -> None:
        self.convention = dict(convention)
        super().__init__(
            metric_fn=metric_fn,
            output_transform=from_engine([PRED, CommonKeys.LABEL]) if output_transform is None else output_transform,
            save_details=save_details,
        )

    def attach(self, engine: Engine, name: str) -> None:  # type: ignore[override]
        """Attach to `engine` under `name`."""
        super().attach(engine=engine, name=name)
        state: Any = engine.state
        if not hasattr(state, "metric_conventions"):
            state.metric_conventions = {}
        state.metric_conventions[name] = self.convention

    def compute(self) -> float:
        """The reduced score of the epoch."""
        result = super().compute()
        left_out = self.metric_fn.left_out()
        if self.save_details and self._engine is not None and left_out is not None:
            state: Any = self._engine.state
            state.metric_details[f"{self._name}_{self.metric_fn.counts}"] = left_out
        return result


class RegionSSIMHandler(ImageQualityHandler):
    """RSSIM of every volume (`bundle.metrics.RegionSSIM`).

    Args:
        data_range: width of the intensity range: 2 for [-1, 1].
        lo: lowest intensity; None is -1 for range 2 and 0 for range 1.
        sigma: of Canny's Gaussian, in pixels.
        band: rows [r0, r1) of every volume; None is the middle third.
        band_key: entry of the batch's items that holds each volume's band, beside its source under
            `<band_key>_source` (`bundle.data.JointBandd`); the convention counts the sources. None takes `band`.
        variant: `band`, `near_edge` or `full`.
        reduction: over volumes, `mean` or `median`.
        output_transform: as `ImageQualityHandler`'s; may give a third list, the band of each volume.
        save_details: as `ImageQualityHandler`'s.
    """

    def __init__(
        self,
        *,
        data_range: float,
        lo: float | None = None,
        sigma: float = 3.0,
        band: Sequence[int] | None = None,
        band_key: str | None = None,
        variant: str = "band",
        reduction: str = "mean",
        output_transform: Callable | None = None,
        save_details: bool = True,
    ) -> None:
        metric = RegionSSIM(data_range=data_range, lo=lo, sigma=sigma, band=band, variant=variant, reduction=reduction)
        empty = "left out" if variant == "near_edge" else "count 1"
        rows = "middle third of the rows" if band is None else f"rows [{band[0]}, {band[1]})"
        super().__init__(
            metric,
            convention={
                "measure": f"SSIM of Canny edge maps (sigma {sigma:g} pixels)",
                "variant": variant,
                "band": "all rows" if variant == "full" else rows,
                "data_range": metric.settings.data_range,
                "window": WINDOW_WORDS,
                "reduction": f"{MEAN_OVER_SLICES}, slices empty in both maps {empty}",
            },
            output_transform=output_transform,
            save_details=save_details,
        )
        self._output_transform = _bands_as_tuples(self._output_transform)
        self.band_key = None if variant == "full" else band_key
        self._sources: Counter[str] = Counter()

    def reset(self) -> None:
        """Forget every volume and where its band came from."""
        super().reset()
        self._sources = Counter()

    def iteration_completed(self, engine: Engine) -> None:
        """Score the iteration's volumes, with the bands of its batch where `band_key` says so."""
        if self.band_key is None:
            super().iteration_completed(engine)
            return
        batch: Any = engine.state.batch
        lacking = [index for index, item in enumerate(batch) if self.band_key not in item]
        if lacking:
            raise ValueError(
                f"item {lacking[0]} of the batch has no `{self.band_key}`; add bundle.data.JointBandd to preprocessing."
            )
        y_pred, y = self._output_transform(engine.state.output)[:2]
        self.update((y_pred, y, [tuple(int(row) for row in item[self.band_key]) for item in batch]))
        self._sources.update(str(item.get(f"{self.band_key}_source", "given")) for item in batch)
        counts = ", ".join(f"{source} ({count})" for source, count in sorted(self._sources.items()))
        self.convention["band"] = f"two thirds down the femur to one third down the tibia, from: {counts}"

    def update(self, output: Sequence) -> None:
        """Score (synthesised, real) or (synthesised, real, bands)."""
        if len(output) != 3:
            super().update(output)
            return
        self._is_reduced = False
        self.convention["band"] = "given for each volume"
        for y_pred, y, band in zip(*output, strict=True):
            self.metric_fn(y_pred[None], y[None], band=band)


class AdjacentSliceCorrelationHandler(ImageQualityHandler):
    """Adjacent-slice correlation of every volume (`bundle.metrics.AdjacentSliceCorrelation`).

    Args:
        of: which is scored: `pred` the synthesised, `real` the real volume.
        reduction: over volumes, `mean` or `median`.
        output_transform: as `ImageQualityHandler`'s.
        save_details: as `ImageQualityHandler`'s.
    """

    def __init__(
        self,
        *,
        of: str = "pred",
        reduction: str = "mean",
        output_transform: Callable | None = None,
        save_details: bool = True,
    ) -> None:
        super().__init__(
            AdjacentSliceCorrelation(of=of, reduction=reduction),
            convention={
                "measure": "Pearson r of neighbouring coronal slices, all pixels",
                "reduction": "mean over the pairs of a volume, pairs with a constant slice left out",
            },
            output_transform=output_transform,
            save_details=save_details,
        )


class PSNRHandler(ImageQualityHandler):
    """MONAI's PSNR of every volume.

    Args:
        data_range: width of the intensity range: 2 for [-1, 1].
        per: `slice` for the mean over the coronal slices, `volume` for that of the volume's own squared error.
        reduction: over volumes, `mean` or `median`.
        output_transform: as `ImageQualityHandler`'s.
        save_details: as `ImageQualityHandler`'s.
    """

    def __init__(
        self,
        *,
        data_range: float,
        per: str = "slice",
        reduction: str = "mean",
        output_transform: Callable | None = None,
        save_details: bool = True,
    ) -> None:
        data_range = check_data_range(data_range)
        super().__init__(
            _wrapper(per)(PSNRMetric(max_val=data_range), reduction=reduction),
            convention={
                "measure": "10 log10(data_range^2 / mean squared error), dB",
                "data_range": data_range,
                "reduction": (
                    f"{MEAN_OVER_SLICES}, identical slices left out"
                    if per == "slice"
                    else "squared error of the whole volume"
                ),
            },
            output_transform=output_transform,
            save_details=save_details,
        )


class SSIMHandler(ImageQualityHandler):
    """MONAI's SSIM of every volume.

    Args:
        data_range: width of the intensity range: 2 for [-1, 1].
        per: `slice` for the mean over the coronal slices, `volume` for a three-dimensional window.
        reduction: over volumes, `mean` or `median`.
        output_transform: as `ImageQualityHandler`'s.
        save_details: as `ImageQualityHandler`'s.
    """

    def __init__(
        self,
        *,
        data_range: float,
        per: str = "slice",
        reduction: str = "mean",
        output_transform: Callable | None = None,
        save_details: bool = True,
    ) -> None:
        data_range = check_data_range(data_range)
        wrapper = _wrapper(per)
        super().__init__(
            wrapper(SSIMMetric(spatial_dims=SPATIAL_DIMS[per], data_range=data_range), reduction=reduction),
            convention={
                "measure": f"SSIM in {SPATIAL_DIMS[per]} dimensions",
                "data_range": data_range,
                "window": WINDOW_WORDS,
                "reduction": MEAN_OVER_SLICES if per == "slice" else "mean over the volume",
            },
            output_transform=output_transform,
            save_details=save_details,
        )


def _bands_as_tuples(output_transform: Callable) -> Callable:
    """Give bands as tuples of two rows: ignite takes lists of tensors apart, but only pairs of lists."""

    def transform(output: Any) -> Sequence:
        found = output_transform(output)
        if len(found) != 3:
            return found
        y_pred, y, bands = found
        return y_pred, y, [tuple(int(row) for row in band) for band in bands]

    return transform


def _wrapper(per: str) -> type[VolumeWise]:
    if per not in PER:
        raise ValueError(f"`per` must be one of {', '.join(PER)}, got {per!r}.")
    return PER[per]
