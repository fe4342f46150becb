"""The weights that a training starts from."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch

from bundle.engines.average import ParameterAverage
from bundle.engines.parameter_groups import parameters_of
from bundle.networks import FilmToVolume
from bundle.weights import load_pretrained, load_start, read_weights

logger = logging.getLogger(__name__)


def start_from(
    network: FilmToVolume, path: str | None, *, average: ParameterAverage, fresh: Sequence[str] = ()
) -> None:
    """Put weights into a network before its training; optimiser and warm-up start afresh.

    A training that resumes takes its checkpoint over them.

    Args:
        network: to be trained.
        path: `model.pt` of another run, which may lack parts that begin at zero, or a file of
            `scripts/import_weights.py`; None starts from nothing.
        average: its moving averages, which start from the same weights.
        fresh: parts of the network, as in `train_only`, that start from nothing all the same: what they have learnt
            is forgotten.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged or does not fit; names the first key that does not.
    """
    if path is None:
        return
    names = parameters_of(network, fresh, option="fresh_parts")
    begun = {name: parameter.detach().clone() for name, parameter in network.named_parameters() if name in names}
    if "architecture" in read_weights(path):
        load_pretrained(network, path)
    else:
        load_start(network, path)
    with torch.no_grad():
        for name, value in begun.items():
            network.get_parameter(name).copy_(value)
    average.restart()
    logger.info(f"starting from {path}: {network.provenance()}")
