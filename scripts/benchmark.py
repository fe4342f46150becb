"""Measure what the parts cost: phantom, preparation, model. Ratios are of one run on one machine."""

from __future__ import annotations

import argparse
import cProfile
import os
import platform
import pstats
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from functools import partial
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.utils import optional_import
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from bundle.command_line import fail
from bundle.data.oai_index import index_release
from bundle.data.prepare import Options, prepare
from bundle.keys import FILM, MRI, READINGS
from bundle.networks import FilmToVolume
from bundle.phantom.anatomy import sample_person
from bundle.phantom.cohort import Recipe, make_cohort
from bundle.phantom.film import SPACINGS, render_film
from bundle.phantom.mri import SIZES, render_labels, render_mri
from bundle.phantom.oai_writer import write_participant
from bundle.phantom.pose import solve_pose
from bundle.weights import save_weights

ROOT = Path(__file__).resolve().parents[1]
FINDER = ROOT / "models" / "knee_finder.pt"
diffusers, has_diffusers = optional_import("diffusers")
_STAGES = {
    "read the series": ("oai_dicom", "read_mr_series"),
    "read the film": ("film_files", "read_film"),
    "find and cut the knee": ("knee_roi", "__call__"),
    "resample the series": ("slice_window", "resample_series"),
    "write": ("nifti", "write_nifti"),
}
"""Stage to the module and name of the function that is all of it."""
_OAI_KNEES = 2 * 4796
PIECES = ("call", "volume", "step", "attention")
_WIDE = "256 x 256, untrained weights"
SERVICE = {
    "a sample": [],
    "the posterior mean": ["--mean"],
    "5 samples, mean and spread": ["--samples", "5"],
    "200 slices": ["--slices", "200"],
    "with a DICOM series": ["--format", "dicom", "--dicom-kind", "mr"],
    _WIDE: ["--weights", "{folder}/256.pt"],
    "a folder of films": [],
}
"""Run to its options; each is on one film but the last."""
Rounds = Callable[..., dict[str, list[float]]]
"""Pieces of work by name, and how often -> seconds of each round."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    phantom = what.add_parser("phantom", help="render and write phantom knees")
    phantom.add_argument("--size", choices=tuple(SIZES), default="demo", help="pixels a side of the MRI")
    phantom.set_defaults(measure=lambda a: measure_phantom(a.knees, a.seed, a.size))
    preparation = what.add_parser("prepare", help="prepare a phantom release")
    preparation.add_argument("--size", type=int, default=256, metavar="N", help="rows and columns over 160 mm")
    preparation.add_argument(
        "--grown", type=int, metavar="N", help="also prepare a cohort of N knees, to compare the peak of memory"
    )
    preparation.set_defaults(measure=lambda a: measure_prepare(a.knees, a.seed, a.size, a.grown))
    model = what.add_parser("model", help="the model against plain loops, and diffusers where it is installed")
    model.add_argument(
        "--overlays",
        nargs="*",
        default=["slices"],
        metavar="NAME",
        help="configs over inference.json; default: slices, since loops and diffusers have no attention over depth",
    )
    model.add_argument("--slices", type=int, default=50, metavar="N", help="slices of a volume")
    model.add_argument("--steps", type=int, default=20, metavar="N", help="sampling steps")
    model.add_argument("--batch", type=int, default=64, metavar="N", help="slices of a training step")
    model.add_argument("--repeats", type=int, default=15, metavar="N", help="rounds of calls; a fifth of it of steps")
    model.add_argument("--volumes", type=int, default=1, metavar="N", help="rounds of volumes")
    model.add_argument("--only", nargs="+", choices=PIECES, default=PIECES, help="what to measure")
    model.add_argument("--cpu-time", action="store_true", help="seconds of the CPU, for a machine that is not idle")
    model.set_defaults(measure=measure_model)
    paper = what.add_parser("paper", help="time and memory of configs/paper.json on this machine's CPU")
    paper.add_argument("piece", choices=("step", "volume"), help="a stage-2 training step of batch 1, or a volume")
    paper.add_argument("--slices", type=int, default=4, metavar="N", help="slices of a volume")
    paper.add_argument("--steps", type=int, default=2, metavar="N", help="sampling steps")
    paper.set_defaults(measure=measure_paper)
    service = what.add_parser("service", help="synthesise.py as a user runs it: time and memory of whole processes")
    service.add_argument("--only", nargs="+", choices=tuple(SERVICE), default=tuple(SERVICE), help="what to measure")
    service.add_argument("--films", type=int, default=6, metavar="N", help="films of the folder")
    service.set_defaults(measure=lambda a: measure_service(a.only, a.films), knees=1, threads="all threads")
    for command in (model, paper):
        command.set_defaults(knees=1, threads="all threads")
        command.add_argument("--width", type=int, metavar="N", help="another width of the paper's UNet: a rehearsal")
    for command in (phantom, preparation):
        command.set_defaults(threads="one thread")
        command.add_argument("--knees", type=int, default=6, metavar="N", help="how many to measure")
        command.add_argument("--seed", type=int, default=0, metavar="S", help="seed; of the phantom cohort")
    arguments = parser.parse_args()
    if arguments.knees < 1:
        parser.error(f"--knees must be 1 or more, got {arguments.knees}.")
    if arguments.threads == "one thread":
        torch.set_num_threads(1)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{datetime.now(UTC):%Y-%m-%d}, {processor()}, {cores} cores, torch {torch.__version__}, {arguments.threads}")
    arguments.measure(arguments)
    print(f"peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9:.2f} GB")
    return 0


def processor() -> str:
    """Name of the processor, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def measure_phantom(knees: int, seed: int, size: str) -> None:
    """Print CPU seconds a knee of each stage of the phantom; the first person warms up and does not count."""
    spent = dict.fromkeys(("pose, both scans", "film, a knee", "MRI", "labels", "write, a participant"), 0.0)

    def timed(stage: str, work: Callable, share: float = 1.0):
        began = time.process_time()
        result = work()
        spent[stage] += (time.process_time() - began) * share
        return result

    with tempfile.TemporaryDirectory() as folder:
        for index in range(knees + 1):
            if index == 1:
                spent = dict.fromkeys(spent, 0.0)
            person = sample_person(seed, index)
            supine = timed("pose, both scans", lambda p=person: solve_pose(p.knees["R"], "mri"))
            standing = {
                side: timed("pose, both scans", lambda k=knee: solve_pose(k, "film"), 0.5)
                for side, knee in person.knees.items()
            }
            film, spacing = timed(
                "film, a knee", lambda p=person, h=standing: render_film(p, spacing_mm=SPACINGS[size], posed=h), 0.5
            )
            mri, affine = timed("MRI", lambda p=person, h=supine: render_mri(p, "R", size=SIZES[size], posed=h))
            timed("labels", lambda h=supine: render_labels(h, size=SIZES[size]))
            home = Path(folder, str(index))
            timed(
                "write, a participant",
                lambda h=home, p=person, f=film, s=spacing, m=mri, a=affine: write_participant(h, p, f, s, m, a),
            )
    print(f"phantom at size {size}: CPU seconds, mean of {knees}")
    for stage, seconds in spent.items():
        print(f"  {stage:22s} {seconds / knees:6.2f}")
    print(f"  {'film and MRI, a knee':22s} {(sum(spent[s] for s in list(spent)[:3])) / knees:6.2f}")


def measure_prepare(knees: int, seed: int, size: int, grown: int | None = None) -> None:
    """Print knees a second and core of the preparation, the share of each stage, and hours for the whole of OAI.

    Args:
        knees: how many.
        seed: of the cohort.
        size: rows and columns of the prepared volumes.
        grown: knees of a second cohort; the peaks of memory of both, each prepared in a process of its own, are shown.
    """
    with tempfile.TemporaryDirectory() as folder:
        oai, out = Path(folder, "oai"), Path(folder, "prepared")
        make_cohort(oai, Recipe(seed), participants=knees)
        profile = cProfile.Profile()
        began = time.perf_counter()
        report = profile.runcall(
            prepare, oai, out, Options(image_size=size), workers=1, finder=FINDER, say=lambda _: None
        )
        seconds = time.perf_counter() - began
        peaks = _peaks(oai, (knees, grown), size) if grown else {}
    done = report["counts"]["prepared"]
    # Rows of (file, line, function): (calls, primitive calls, own seconds, seconds with callees, callers).
    rows = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    print(f"prepare at {size} x {size} x 50: {done} knees, {done / seconds:.2f} knees a second and core")
    for stage, name in _STAGES.items():
        spent = sum(row[3] for (file, _, function), row in rows.items() if (Path(file).stem, function) == name)
        print(f"  {stage:22s} {100 * spent / seconds:5.1f} %")
    print(f"  {_OAI_KNEES} knees on 16 cores: {_OAI_KNEES * seconds / done / 16 / 3600:.1f} hours")
    for count, peak in peaks.items():
        print(f"  {'peak of memory':22s} {peak:5.2f} GB for {count} knees")


def _peaks(oai: Path, counts: Sequence[int], size: int) -> dict[int, float]:
    """Peak of memory by number of knees: the release's own listed over and over, each as another participant's."""
    knees, peaks = index_release(oai).pairs, {}
    for count in counts:
        lines = [
            f"P{n},{pair.film},{pair.series},{pair.side}" for n, pair in zip(range(count), cycle(knees), strict=False)
        ]
        listed = oai.parent / f"{count}.csv"
        listed.write_text("\n".join(["participant,film,mri,side", *lines]) + "\n")
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            peaks[count] = pool.submit(_prepare_alone, listed, oai.parent / f"prepared-{count}", size).result()
    return peaks


def _prepare_alone(pairs: Path, out: Path, size: int) -> float:
    """Peak of memory of this process after a preparation, in GB."""
    torch.set_num_threads(1)
    prepare(None, out, Options(image_size=size), pairs=pairs, workers=1, finder=FINDER, say=lambda _: None)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure_model(options: argparse.Namespace) -> None:
    """Print times of the denoiser's call, a volume and a training step beside their plain counterparts'.

    Weights are random, and readings unknown. Everything is interleaved, so that what else the machine does meets all
    alike, and the ratios are medians over the rounds.
    """
    parser = ConfigParser()
    parser.read_config([str(ROOT / "configs" / f"{name}.json") for name in ("inference", *options.overlays)])
    if options.width:
        _narrow(parser, options.width)
    torch.manual_seed(0)
    network: FilmToVolume = parser.get_parsed_content("network_def").eval()
    if network.denoiser.unet.mixers is not None:
        raise SystemExit(fail(ValueError("--overlays: the loops compared take slices on their own; add slices.")))
    film = torch.rand(1, 1, network.grid.rows, network.grid.columns) * 2 - 1
    rounds = partial(_interleaved, clock=time.process_time if options.cpu_time else time.perf_counter)
    if options.cpu_time:
        print("seconds are the CPU's, of all threads together")
    with torch.no_grad():
        if "call" in options.only:
            unet = parser["network_def"]["unet"] | {"channels": network.denoiser.unet.block_out_channels}
            _measure_call(network, unet, film, options.repeats, rounds)
        if "volume" in options.only:
            _measure_volume(network, film, options, rounds)
        if "attention" in options.only and options.overlays == ["slices"]:
            _measure_attention(network, film, options, rounds)
    if "step" in options.only:
        _measure_step(network, film, options.batch, max(options.repeats // 5, 1), rounds)


def measure_paper(options: argparse.Namespace) -> None:
    """Print time and peak memory of one stage-2 training step, or of one volume, of `configs/paper.json`."""
    parser = ConfigParser()
    base = "train" if options.piece == "step" else "inference"
    parser.read_config([str(ROOT / "configs" / f"{name}.json") for name in (base, "paper")])
    parser["bundle_root"] = str(ROOT)
    if options.width:
        _narrow(parser, options.width)
    torch.manual_seed(0)
    if options.piece == "volume":
        network: FilmToVolume = parser.get_parsed_content("network_def").eval()
        film = torch.rand(1, 1, network.grid.rows, network.grid.columns) * 2 - 1
        began = time.perf_counter()
        with torch.no_grad():
            volume = network(film, slices=options.slices, steps=options.steps)
        print(f"volume {tuple(volume.shape)} in {options.steps} steps: {time.perf_counter() - began:.1f} s")
        return
    with tempfile.TemporaryDirectory() as folder:
        trainer = _one_step(parser, folder)
        began = time.perf_counter()
        trainer.run()
    network = parser.get_parsed_content("network")
    total, trained = (
        sum(p.numel() for p in module.parameters() if p.requires_grad or module is network)
        for module in (network, network.denoiser)
    )
    print(f"stage 2, {total:,} parameters of which {trained:,} are trained, AdamW and moving average")
    print(
        f"one slice encoded and one step of batch 1: {time.perf_counter() - began:.1f} s, "
        f"loss {trainer.state.output['loss'].item():.3f}"
    )


def measure_service(names: Sequence[str], films: int) -> None:
    """Print wall seconds and peak memory of `scripts/synthesise.py`, each run a process of its own on phantom films."""
    with tempfile.TemporaryDirectory() as folder:
        oai, home = Path(folder, "oai"), Path(folder, "films")
        make_cohort(oai, Recipe(0), participants=films)
        home.mkdir()
        for number, pair in enumerate(index_release(oai).pairs):
            shutil.copy(pair.film, home / f"{number}.dcm")
        if _WIDE in names:
            parser = ConfigParser()
            parser.read_config(str(ROOT / "configs" / "inference.json"))
            parser["image_size"] = 256
            network = parser.get_parsed_content("network_def")
            save_weights(network, Path(folder, "256.pt"), trained_on="synthetic-phantom; not trained")
        print(f"{'':32s} {'seconds':>8s} {'peak, GB':>9s}")
        for name in names:
            source = home if name == "a folder of films" else home / "0.dcm"
            words = [word.format(folder=folder) for word in SERVICE[name]]
            out = Path(folder, "volumes", name)
            command = [sys.executable, "scripts/synthesise.py", str(source), "--side", "R", "--out", str(out), *words]
            seconds, peak = _whole_process(command)
            made = len(list(out.glob("*_synthetic.nii.gz")))
            count = f"   {made} volumes" if source == home else ""
            print(f"{name:32s} {seconds:8.1f} {peak:9.2f}{count}", flush=True)


def _whole_process(command: list[str]) -> tuple[float, float]:
    """Wall seconds of a command and its peak memory in GB; the end of this one, with its last words, if it fails."""
    with tempfile.TemporaryFile() as words:
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, stdout=words, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        words.seek(0)
        if status:
            last = words.read().decode(errors="replace")[-400:]
            raise SystemExit(fail(RuntimeError(f"{' '.join(command)}: {last}")))
    return seconds, usage.ru_maxrss * 1024 / 1e9


def _one_step(parser: ConfigParser, folder: str) -> Any:
    """Stage 2's own trainer, its data one made-up knee of one slice, its handlers those that belong to a step."""
    edge = parser["image_size"]
    width = parser["network_def"]["unet"]["readings_width"]
    knee = {
        FILM: torch.rand(1, edge, edge) * 2 - 1,
        MRI: torch.rand(1, edge, edge, 1) * 2 - 1,
        READINGS: torch.zeros(width),
    }
    parser["output_dir"], parser["epochs"], parser["batch_size"] = folder, 1, 1
    parser["device"] = "$torch.device('cpu')"
    parser["train"]["data"], parser["train"]["volumes"] = [{MRI: "made up"}], [knee]
    # the dataset's epoch, the rate and the loss's log; validation needs files
    parser["train"]["handlers"] = parser["train"]["handlers"][:3]
    trainer = parser.get_parsed_content("train::trainer")
    parser.get_parsed_content("train::average").attach(trainer)
    return trainer


def _narrow(parser: ConfigParser, width: int) -> None:
    """The paper's networks at another width of the UNet, everything else narrow in proportion: for rehearsals."""
    network = parser["network_def"]
    network["unet"] |= {
        "channels": [width * factor for factor in (1, 2, 4, 4)],
        "num_head_channels": [width * factor // 8 for factor in (1, 2, 4, 4)],
        "cross_attention_dim": width,
    }
    network["autoencoder"]["channels"] = [32, 32, 64, 64]
    network["film_encoder"] |= {"image_size": 28, "width": 64, "layers": 2, "heads": 4, "output_dim": 48}
    network["film_encoder"]["context_dim"] = width
    parser["image_size"] = 64


def _interleaved(
    works: dict[str, Callable[[], Any]], repeats: int, *, warm: int = 1, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of pieces of work, one after another in each of `repeats` rounds, after `warm` that do not count."""
    spent: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats + warm):
        for name, work in works.items():
            began = clock()
            work()
            spent[name].append(clock() - began)
    return {name: seconds[warm:] for name, seconds in spent.items()}


def _show(title: str, spent: dict[str, list[float]]) -> None:
    """Median seconds of each, and the median over the rounds of its time over the first one's."""
    ours = next(iter(spent.values()))
    print(title)
    for name, seconds in spent.items():
        ratio = statistics.median(second / first for second, first in zip(seconds, ours, strict=True))
        print(f"  {name:42s} {statistics.median(seconds):9.4f} s   {ratio:6.2f}")


def _seen(network: FilmToVolume, film: Tensor) -> dict[str, Tensor]:
    """What a denoiser is told of one film by its encoders: latent and token."""
    return {"film_latent": network.encode_film(film), "context": network.denoiser.token(film)}


def _conditions(network: FilmToVolume, film: Tensor, count: int) -> dict[str, Tensor]:
    """What the denoiser is told of `count` slices of one film."""
    seen = {name: value.expand(count, *value.shape[1:]) for name, value in _seen(network, film).items()}
    width = network.denoiser.unet.readings_head[0].in_features
    depth, readings = torch.linspace(0, 1, count), torch.zeros(count, width)
    mean = {} if network.mean_head is None else {"mean": network.mean_latents(film, readings[:1], depth)[0]}
    return {"depth": depth, "readings": readings, **seen, **mean}


def _measure_call(network: FilmToVolume, unet: dict[str, Any], film: Tensor, repeats: int, rounds: Rounds) -> None:
    """One call of the UNet for one slice, and beside it diffusers' of the same configuration."""
    told = _conditions(network, film, 1)
    noise, time_now = torch.randn_like(told["film_latent"]), torch.full((1,), 0.5)
    both = torch.cat([noise, told["film_latent"], *([told["mean"]] if "mean" in told else [])], dim=1)
    works = {"this UNet, with depth and readings": lambda: network.denoiser(noise, time_now, **told)}
    if has_diffusers:
        theirs = _diffusers_unet(unet).eval()
        works["diffusers' UNet2DConditionModel"] = lambda: theirs(both, time_now, told["context"])
    spent = rounds(works, repeats)
    with FlopCounterMode(display=False) as counter:
        network.denoiser(noise, time_now, **told)
    side = torch.rand(2048, 2048)
    rate = 2 * 2048**3 / statistics.median(rounds({"matrix": lambda: side @ side}, 5)["matrix"])
    reached = counter.get_total_flops() / statistics.median(next(iter(spent.values())))
    _show(f"call of the denoiser, one slice, {repeats} interleaved rounds", spent)
    print(
        f"  {reached / 1e9:.1f} GFLOP/s, {100 * reached / rate:.0f} % of the {rate / 1e9:.1f} "
        "of a product of two 2048 x 2048 matrices"
    )
    if has_diffusers:
        ours, other = (sum(p.numel() for p in module.parameters()) for module in (network.denoiser.unet, theirs))
        heads = sum(p.numel() for name, p in network.denoiser.unet.named_parameters() if "_head." in name)
        print(f"  parameters without the heads {ours - heads:,}, diffusers' {other:,}")
    else:
        print("  diffusers is not installed; `make test` installs it")


def _diffusers_unet(unet: dict[str, Any]) -> torch.nn.Module:
    """The network of diffusers in our UNet's configuration, without the heads of depth and readings."""
    levels, channels, each = unet["attention_levels"], unet["channels"], unet["num_head_channels"]
    heads = [width // size for width, size in zip(channels, _each_level(each, len(channels)), strict=True)]
    down = ["CrossAttnDownBlock2D" if level else "DownBlock2D" for level in levels]
    up = ["CrossAttnUpBlock2D" if level else "UpBlock2D" for level in reversed(levels)]
    return diffusers.UNet2DConditionModel(
        in_channels=unet["in_channels"],
        out_channels=unet["out_channels"],
        block_out_channels=tuple(channels),
        layers_per_block=_each_level(unet["num_res_blocks"], len(channels))[0],
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        # diffusers calls the number of heads so
        attention_head_dim=tuple(heads),
        cross_attention_dim=unet["cross_attention_dim"],
        norm_num_groups=unet["norm_num_groups"],
    )


def _each_level(value: int | Sequence[int], count: int) -> Sequence[int]:
    return [value] * count if isinstance(value, int) else value


def _measure_volume(network: FilmToVolume, film: Tensor, options: argparse.Namespace, rounds: Rounds) -> None:
    """A volume, and the loops that published code runs: slice by slice, the film encoded once or at each step."""
    slices, steps = options.slices, options.steps

    def plain(encode_each_step: bool) -> None:
        told = _conditions(network, film, 1)
        for depth in torch.linspace(0, 1, slices):

            def predict(latent: Tensor, now: Tensor, depth: Tensor = depth) -> Tensor:
                again = _seen(network, film) if encode_each_step else {}
                return network.denoiser(latent, now, **told | again | {"depth": depth[None]})

            noise = torch.randn_like(told["film_latent"])
            fresh = partial(lambda like, step: torch.randn_like(like), noise)
            network.decode(network.schedule.sample(predict, noise, steps=steps, fresh=fresh))

    works = {
        "this model": lambda: network(film, slices=slices, steps=steps),
        "slice by slice": lambda: plain(False),
        "slice by slice, film encoded at each step": lambda: plain(True),
    }
    network(film, slices=2, steps=1)
    spent = rounds(works, options.volumes, warm=0)
    _show(f"volume of {slices} slices, {steps} steps, {options.volumes} interleaved rounds", spent)


def _measure_attention(network: FilmToVolume, film: Tensor, options: argparse.Namespace, rounds: Rounds) -> None:
    """A volume of slices on their own, and one of slices that see each other, as `configs/inference.json` has them."""
    parser = ConfigParser()
    parser.read_config(str(ROOT / "configs" / "inference.json"))
    parser["image_size"] = network.grid.rows
    stacked: FilmToVolume = parser.get_parsed_content("network_def").eval()
    of_each = {"slices on their own": network, "slices that see each other": stacked}
    works = {name: partial(one, film, slices=options.slices, steps=options.steps) for name, one in of_each.items()}
    spent = rounds(works, options.volumes, warm=0)
    _show(f"attention over depth, {options.slices} slices, {options.steps} steps, {options.volumes} rounds", spent)


def _measure_step(network: FilmToVolume, film: Tensor, batch: int, repeats: int, rounds: Rounds) -> None:
    """A training step of the denoiser with the cache, and with what it spares in the loop.

    The cache holds latents, the mean head's coefficients and, where the film encoder's tower is frozen, its embeddings
    of the films.
    """
    network.autoencoder.requires_grad_(False)
    network.denoiser.train()
    optimiser = torch.optim.AdamW([p for p in network.denoiser.parameters() if p.requires_grad], lr=0.0)
    films, slices = film.expand(batch, -1, -1, -1).contiguous(), torch.rand(batch, *film.shape[1:])
    encoder, parts = network.denoiser.film_encoder, range(0, batch, network.decode_batch)
    with torch.no_grad():
        latents = torch.cat([network.encode_film(films[n : n + network.decode_batch]) for n in parts])
        seen = encoder.embed(film).expand(batch, -1) if encoder.frozen else films
    readings = torch.zeros(batch, network.denoiser.unet.readings_head[0].in_features)

    def step(in_the_loop: bool, mean_too: bool = False) -> None:
        with torch.no_grad():
            if mean_too:
                network.mean_latents(films, readings, torch.rand(batch, 1))
            film_latent = network.encode_film(films) if in_the_loop else latents
            clean = network.encode_film(slices) if in_the_loop else latents
        noisy, now, depth = clean + torch.randn_like(clean), torch.rand(batch), torch.rand(batch)
        told = {"depth": depth, "readings": readings, "film_latent": film_latent}
        told |= {} if network.mean_head is None else {"mean": latents}
        prediction = network.denoiser(noisy, now, film=films if in_the_loop else seen, **told)
        prediction.square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()

    works = {"with the cache": lambda: step(False), "autoencoder in the loop": lambda: step(True)}
    if encoder.frozen:
        works = {"with the cache": works["with the cache"], "autoencoder and tower in the loop": lambda: step(True)}
    if network.mean_head is not None:
        works["autoencoder and mean head in the loop"] = lambda: step(True, mean_too=True)
    _show(f"training step of {batch} slices, {repeats} interleaved rounds", rounds(works, repeats))


if __name__ == "__main__":
    sys.exit(main())
