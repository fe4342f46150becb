"""Weights from elsewhere in, a file of ours out: read, mapped strictly, compared where there is a reference."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bundle.weights.checkpoint import Checkpoint
from bundle.weights.diffusers import import_diffusers
from bundle.weights.files import write_whole
from bundle.weights.monai_generative import import_monai_generative
from bundle.weights.open_clip import import_open_clip
from bundle.weights.parts import PREFIXES, Imported, build, describe, summary
from bundle.weights.zero123 import import_stable_diffusion, import_zero123

KINDS: dict[str, Callable[..., Imported]] = {
    "zero123": import_zero123,
    "stable-diffusion": import_stable_diffusion,
    "diffusers": import_diffusers,
    "monai-generative": import_monai_generative,
    "open-clip": import_open_clip,
}
TOLERANCE = 2e-4
"""Largest absolute difference to a reference; MONAI's layers give 1e-5 (zero123.md 1)."""


def import_weights(
    path: str | Path,
    out: str | Path,
    *,
    kind: str,
    raw: bool = False,
    reference: str | Path | None = None,
    **unseen: Any,
) -> list[str]:
    """Import a checkpoint.

    The file written holds, under the names of `FilmToVolume`, the parts that the checkpoint has; `load_pretrained`
    puts them into a network and `load_parts` builds them alone.

    Args:
        path: the checkpoint; for `diffusers` a file or the folder of a pipeline.
        out: file to write.
        kind: of `KINDS`.
        raw: take the weights themselves, not their moving averages.
        reference: stored inputs and outputs to compare with, see `compare`.
        unseen: what shapes do not show, see the importer of `kind`.

    Returns:
        lines that say what was taken, what was dropped and how the comparison went.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged or hostile, has a key too many or too few or of a wrong shape, or differs
            from the reference; nothing is written then.
    """
    if kind not in KINDS:
        raise ValueError(f"`kind` must be one of {', '.join(KINDS)}, got {kind!r}.")
    path = Path(path)
    source = path if kind == "diffusers" else Checkpoint(path)
    imported = KINDS[kind](source, raw=raw, **unseen)
    lines = [
        f"{part}: {sum(t.numel() for t in content.state.values())} parameters in {len(content.state)} tensors"
        for part, content in imported.parts.items()
    ] + summary(imported.dropped)
    if reference is not None:
        lines += compare(imported, Checkpoint(reference))
    state = {PREFIXES[part] + name: t for part, c in imported.parts.items() for name, t in c.state.items()}
    if imported.scale_factor is not None:
        state["scale_factor"] = torch.tensor(imported.scale_factor)
    text = describe(imported, kind=kind, file=path.name, sha256=_sha256(path), weights="raw" if raw else "averaged")
    state["architecture"] = torch.tensor(list(text.encode()), dtype=torch.uint8)
    write_whole(state, out)
    return lines


@torch.no_grad()
def compare(imported: Imported, reference: Mapping[str, Tensor]) -> list[str]:
    """Compare forward passes with stored ones.

    Args:
        imported: parts to compare.
        reference: inputs and outputs by name; what is absent is not compared. `unet.x`, `unet.time`, `unet.context`
            and `unet.output`; `autoencoder.image` with `autoencoder.mean` and `autoencoder.log_variance`;
            `autoencoder.latent` and `autoencoder.decoded`; `tower.image` (resized and normalised) and
            `tower.embedding`; `projection.embedding` and `projection.context` (at the pose of "the same view").

    Returns:
        a line for each output.

    Raises:
        ValueError: if an output differs by more than `TOLERANCE`, or nothing can be compared.
    """
    known = {name for inputs, outputs, _ in COMPARISONS.values() for name in (*inputs, *outputs)}
    for name in reference:
        if name not in known:
            raise ValueError(f"the reference's `{name}` is none of {', '.join(sorted(known))}.")
    lines = []
    for inputs, outputs, run in COMPARISONS.values():
        part = inputs[0].partition(".")[0]
        wanted = [name for name in outputs if name in reference]
        if part not in imported.parts or not wanted:
            continue
        for name in inputs:
            if name not in reference:
                raise ValueError(f"the reference has `{wanted[0]}` without its input `{name}`.")
        network = build(part, imported.parts[part])
        results = run(network, *(reference[name].float() for name in inputs))
        for name, result in zip(outputs, results, strict=True):
            if name not in wanted:
                continue
            expected = reference[name].float()
            apart = float((result - expected).abs().max()) if result.shape == expected.shape else float("inf")
            if not apart <= TOLERANCE:
                raise ValueError(f"`{name}` differs from the reference by {apart:.2g}, more than {TOLERANCE:.0e}.")
            lines.append(f"compared: {name} within {apart:.1e}")
    if not lines:
        raise ValueError("the reference holds no output of a part that was imported.")
    return lines


def _moments(network: Any, image: Tensor) -> tuple[Tensor, Tensor]:
    mean, sd = network.encode(image)
    return mean, 2 * sd.log()


COMPARISONS: dict[str, tuple[tuple[str, ...], tuple[str, ...], Callable[..., tuple[Tensor, ...]]]] = {
    "unet": (
        ("unet.x", "unet.time", "unet.context"),
        ("unet.output",),
        lambda network, x, time, context: (network(x, time, context),),
    ),
    "encode": (("autoencoder.image",), ("autoencoder.mean", "autoencoder.log_variance"), _moments),
    "decode": (("autoencoder.latent",), ("autoencoder.decoded",), lambda network, z: (network.decode(z),)),
    "tower": (("tower.image",), ("tower.embedding",), lambda network, image: (network(image),)),
    "projection": (("projection.embedding",), ("projection.context",), lambda network, x: (network(x),)),
}


def _sha256(path: Path) -> str:
    if path.is_dir():
        return "folder"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
