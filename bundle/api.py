"""The bundle as a library: the network with its weights, and a film turned into a volume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose

from bundle.covariates import encode as encode_covariates
from bundle.covariates import policy_of
from bundle.data.readings_estimator import ReadingsEstimator
from bundle.geometry import check_side
from bundle.keys import CONFIDENCE, COVARIATES, FILM, MIRRORED, READINGS, SIDE
from bundle.networks import FilmToVolume
from bundle.networks.identity import text_of
from bundle.sampling import RunningMoments
from bundle.transforms import EncodeReadingsd
from bundle.transforms.volume import place_volume
from bundle.weights import load_weights, read_weights
from bundle.writers import file_hash

PHANTOM = "synthetic-phantom"
PREDICT = "predict"
"""In place of readings: the film's own, as a network reads them."""
MAX_SLICES, MAX_STEPS = 512, 1000
"""Of a volume; more slices than a series may have take the memory of a machine."""
OVERLAYS = {"denoiser.film_pyramid.": "film_pyramid", "cae.": "baselines/cae_generator"}
"""Beginning of a weight's name to the configuration that, laid over `inference.json`, builds its part."""
BASELINES = {"none": "ldm", "concat": "ldm_film", "edges": "cola_diff", "context": "x_diffusion"}
"""`film_conditioning` of a baseline's weights to its configuration in `configs/baselines`."""
WITHOUT = {"denoiser.unet.mixers.": "slices", "mean_head.": "plain"}
"""Beginning of a weight's name to the configuration of weights that have none of it."""
TOLD_COVARIATES = "denoiser.unet.covariates_head.0.weight"
"""A tensor of weights that are told covariates, as wide as their vector."""


@dataclass(frozen=True)
class Synthesis:
    """What one film gave.

    Args:
        volume: mean of the samples, (1, H, W, S) in [0, 1], of the film's side, with its affine.
        spread: standard deviation over samples, or None with one sample.
        film: the film as the network saw it, (1, H, W) in [0, 1], un-mirrored.
        record: what made the volume.
    """

    volume: MetaTensor
    spread: MetaTensor | None
    film: MetaTensor
    record: dict[str, Any]


def load(
    root: str | Path = ".", device: str | torch.device = "cpu", *, weights: str | Path | None = None
) -> FilmToVolume:
    """The network of `configs/inference.json` with its weights.

    Args:
        root: the bundle's root.
        device: where the network goes.
        weights: a weights file; None means the bundle's own `models/model.pt`.

    Returns:
        the network, in evaluation mode, on the grid that the weights were trained for.

    Raises:
        FileNotFoundError: if there is no configuration or no weights file.
        ValueError: if the weights do not fit.
    """
    weights = Path(weights) if weights else Path(root) / "models" / "model.pt"
    network: FilmToVolume = _parser(root, weights=weights).get_parsed_content("network_def")
    load_weights(network, weights)
    return network.to(device)


def synthesise(
    film: str | Path,
    readings: Mapping[str, float | None] | str | None = None,
    *,
    side: str | None = None,
    covariates: Mapping[str, float | str | None] | None = None,
    slices: int = 50,
    samples: int = 1,
    seed: int = 0,
    device: str | torch.device | None = None,
    mean: bool = False,
    spacing_mm: float | None = None,
    weights: str | Path | None = None,
    root: str | Path = ".",
    accept_phantom_weights: bool = False,
) -> MetaTensor:
    """Turn a film into a volume.

    Args:
        film: file: DICOM, NIfTI or PNG.
        readings: variable to grade, such as {"XRKL": 2}; what is absent is missing. The text `predict` lets the network
            of `models/readings.pt` grade the film.
        side: `R` or `L`; None means what the header says.
        covariates: `age` in years, `sex` F or M, `bmi` in kg/m2, such as {"age": 61, "sex": "F", "bmi": 27.5}; what is
            absent is missing, and the side is the film's. Weights that were trained without them refuse any.
        slices: how many, evenly over the window.
        samples: above 1 the result is their mean.
        seed: of the noise.
        device: where the network runs; None means CUDA if there is any.
        mean: give the mean head's volume in one step, without sampling.
        spacing_mm: pixel edge of a film whose file does not say it, mm at the detector.
        weights: a weights file; None means the bundle's own.
        root: the bundle's root.
        accept_phantom_weights: go on although the weights have seen phantom knees alone.

    Returns:
        (1, H, W, S) in [0, 1] with its affine, of the film's side. Synthetic, not for diagnosis.

    Raises:
        ValueError: if the film cannot be read or placed, the weights are a phantom's and the film is not, `mean`
            is asked of weights without a mean head, or covariates are given to weights that know none.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    synthesiser = Synthesiser(root, device=device, weights=weights, spacing_mm=spacing_mm)
    result = synthesiser(
        film,
        readings,
        side=side,
        covariates=covariates,
        slices=slices,
        samples=samples,
        seed=seed,
        mean=mean,
        accept_phantom_weights=accept_phantom_weights,
    )
    return result.volume


class Synthesiser:
    """Film to volume with the network loaded once, for many films.

    Args:
        root: the bundle's root.
        device: where the network runs.
        weights: a weights file; None means the bundle's own.
        spacing_mm: pixel edge of films whose files do not say it, mm at the detector.
        readings_weights: the network that grades films for readings `predict`; None means `models/readings.pt`, which
            is read when it is first asked.
    """

    def __init__(
        self,
        root: str | Path = ".",
        *,
        device: str | torch.device = "cpu",
        weights: str | Path | None = None,
        spacing_mm: float | None = None,
        readings_weights: str | Path | None = None,
    ) -> None:
        self.readings_weights = Path(readings_weights) if readings_weights else Path(root) / "models" / "readings.pt"
        self._estimator: ReadingsEstimator | None = None
        self.weights = Path(weights) if weights else Path(root) / "models" / "model.pt"
        parser = _parser(root, weights=self.weights)
        self.network: FilmToVolume = parser.get_parsed_content("network_def")
        load_weights(self.network, self.weights).to(device)
        self.weights_sha256 = file_hash(self.weights)
        parser["film_spacing_mm"] = spacing_mm
        self.preprocessing: Compose = parser.get_parsed_content("film_preprocessing")
        self.version: str = ConfigParser.load_config_file(str(Path(root) / "configs" / "metadata.json"))["version"]
        self.grade_table: str = parser["grade_table"]
        self.device = device

    def estimator(self) -> ReadingsEstimator:
        """The network that grades films, read from its file once.

        Raises:
            FileNotFoundError: if there is no such file; the error names the command that trains it.
            ValueError: if it grades something else.
        """
        if self._estimator is None:
            self._estimator = ReadingsEstimator(self.readings_weights, table=self.grade_table)
        return self._estimator

    @torch.no_grad()
    def __call__(
        self,
        film: str | Path,
        readings: Mapping[str, float | None] | str | None = None,
        *,
        side: str | None = None,
        covariates: Mapping[str, float | str | None] | None = None,
        slices: int | None = None,
        depths: list[float] | None = None,
        steps: int | None = None,
        samples: int = 1,
        seed: int = 0,
        mean: bool = False,
        accept_phantom_weights: bool = False,
    ) -> Synthesis:
        """Turn one film into a volume; see `synthesise`.

        `depths`, in [0, 1], names slices one by one instead of `slices`.
        """
        if samples < 1:
            raise ValueError(f"`samples` must be at least 1, got {samples}.")
        for name, value, most in (("slices", slices, MAX_SLICES), ("steps", steps, MAX_STEPS)):
            if value is not None and not 1 <= value <= most:
                raise ValueError(f"`{name}` must lie between 1 and {most}, got {value}.")
        if depths is not None and not (0 < len(depths) <= MAX_SLICES and all(0 <= depth <= 1 for depth in depths)):
            raise ValueError(f"`depths` must be at most {MAX_SLICES} numbers in [0, 1], got {str(depths)[:80]}.")
        if mean:
            self.network.check_mean_head()
            if samples > 1:
                raise ValueError(f"`samples` must be 1 with `mean`, which draws none; got {samples}.")
        predicted = readings == PREDICT
        if isinstance(readings, str):
            if not predicted:
                raise ValueError(f"`readings` must map variables to grades, or be `{PREDICT}`, got {readings!r}.")
            readings = None
        known = self.check_covariates(covariates)
        knee: dict[str, Any] = {**known, FILM: str(film), READINGS: dict(readings or {})}
        knee.pop(SIDE, None)
        if side is not None:
            knee[SIDE] = check_side(side)
        # one by one: a Compose would wrap a film's ValueError into a RuntimeError about a transform
        for transform in self.preprocessing.flatten().transforms:
            if predicted and isinstance(transform, EncodeReadingsd):
                readings = knee[READINGS] = self.estimator()(knee[FILM])
            knee = transform(knee)
        image = knee[FILM]
        if known.get(SIDE, knee[SIDE]) != knee[SIDE]:
            raise ValueError(
                f"{film}: covariates say side {known[SIDE]}, the film's knee is {knee[SIDE]}; leave it out."
            )
        trained_on = self.network.provenance()
        graded_on = self.estimator().trained_on if predicted else None
        phantoms = [text for text in (trained_on, graded_on) if text and text.startswith(PHANTOM)]
        if phantoms and not image.meta.get("synthetic_phantom") and not accept_phantom_weights:
            which = trained_on if trained_on in phantoms else f"for readings: {graded_on}"
            raise ValueError(
                f"{film}: the weights were trained on phantom knees alone ({which}) and this film is not marked "
                "as a phantom's; the volume would mean nothing. Train on real data, or accept it with "
                "--accept-phantom-weights (accept_phantom_weights=True)."
            )
        batch = image.as_tensor()[None].to(self.device)
        vector = torch.as_tensor(knee[READINGS])[None].to(self.device)
        told = knee[COVARIATES][None].to(self.device) if COVARIATES in knee else None
        moments = RunningMoments()
        for sample in range(samples):
            drawn = self.network(
                batch,
                vector,
                covariates=told,
                slices=slices,
                depths=None if depths is None else torch.tensor(depths),
                steps=steps,
                seed=seed,
                sample=sample,
                mean=mean,
            )
            moments.add((drawn[0].cpu().double() + 1) / 2)
        grid = self.network.grid
        mirrored = bool(image.meta.get(MIRRORED))

        def place(volume: torch.Tensor) -> MetaTensor:
            return place_volume(
                volume.float(), image_size=grid.rows, slices=grid.slices, mirrored=mirrored, depths=depths
            )

        spread = place(moments.spread) if samples > 1 else None
        shown = image.flip(-1) if mirrored else image
        record = {
            "film": Path(film).name,
            "side": knee[SIDE],
            CONFIDENCE: float(image.meta[CONFIDENCE]),
            "readings": {name: grade for name, grade in (readings or {}).items() if grade is not None},
            "covariates": known,
            "readings_from": f"predicted; network trained on {graded_on}" if predicted else "given",
            "depths": depths,
            "samples": samples,
            "seed": seed,
            "posterior_mean": mean,
            "steps": 1 if mean else steps or self.network.sampling_steps,
            "schedule": None if self.network.schedule is None else type(self.network.schedule).__name__,
            "bundle_version": self.version,
            "weights_sha256": self.weights_sha256,
            "trained_on": trained_on,
        }
        return Synthesis(place(moments.mean), spread, (shown + 1) / 2, record)

    def check_covariates(self, covariates: Mapping[str, float | str | None] | None) -> dict[str, float | str]:
        """Those that are given; ValueError where they are unknown, outside their limits, or not these weights'."""
        encode_covariates(covariates)
        known = {name: value for name, value in (covariates or {}).items() if value is not None}
        if known and not getattr(self.network, "covariates_width", 0):
            raise ValueError(
                f"covariates {', '.join(known)}: weights {self.weights} were trained without any; leave them out, or "
                "train with `--covariates zeros` or `mask`."
            )
        return known


def _parser(root: str | Path, *, weights: Path) -> ConfigParser:
    """`configs/inference.json` on the grid of the weights, with the overlays whose parts they hold."""
    folder = Path(root) / "configs"
    config = folder / "inference.json"
    if not config.is_file():
        raise FileNotFoundError(f"{config}: no such file; `root` must be the bundle's root.")
    state = read_weights(weights)
    overlays = [name for prefix, name in OVERLAYS.items() if any(key.startswith(prefix) for key in state)]
    overlays = [name for prefix, name in WITHOUT.items() if not any(key.startswith(prefix) for key in state)] + overlays
    if "film_conditioning" in state:
        overlays.append(f"baselines/{BASELINES[text_of(state['film_conditioning'])]}")
    parser = ConfigParser()
    parser.read_config([str(config), *(str(folder / f"{name}.json") for name in overlays)])
    grid = state.get("grid_description")
    if grid is None:
        raise ValueError(f"weights {weights}: they hold no grid; they are not of this bundle.")
    parser["bundle_root"] = str(root)
    parser["image_size"], parser["slices"] = int(grid[0]), int(grid[2])
    if TOLD_COVARIATES in state:
        parser["covariates"] = policy_of(state[TOLD_COVARIATES].shape[1])
    return parser
