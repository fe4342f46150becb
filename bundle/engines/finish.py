"""The end of a training: one file that holds everything inference needs."""

from __future__ import annotations

import ignite.distributed as idist

from bundle.data.datalist import source
from bundle.engines.average import ParameterAverage
from bundle.networks.identity import NOTHING, TEXT_BYTES, DescribedNetwork
from bundle.weights import save_weights


def finish(
    network: DescribedNetwork, average: ParameterAverage | None, *, dataset_dir: str, path: str, run_name: str
) -> None:
    """Write a run's weights: the averages of what stage 2 trained, the rest as it is.

    Args:
        network: the trained network.
        average: moving averages of `network.denoiser`; None where a training has none.
        dataset_dir: the prepared data, whose source is recorded in the weights, before that of `pretrained` ones.
        path: file to write.
        run_name: recorded, too.
    """
    if idist.get_rank() == 0:
        shadow = {} if average is None else average.shadow
        averages = {f"denoiser.{name}": value for name, value in shadow.items()}
        trained_on = f"{source(dataset_dir)}; run {run_name}"
        if (before := network.provenance()) != NOTHING:
            trained_on += f"; started from weights of: {before}"
        trained_on = trained_on.encode()[:TEXT_BYTES].decode(errors="ignore")
        print(save_weights(network, path, trained_on=trained_on, replace=averages))
