"""Bring weights from elsewhere into one file of ours, for a training to start from.

Nothing that the file may hold is executed. Every key is used or named as dropped; a key too many, too few or of
another shape is an error, and nothing is written then. `--reference` names a safetensors file of stored inputs and
outputs to compare with (unet.x, unet.time, unet.context, unet.output; autoencoder.image, .mean, .log_variance;
autoencoder.latent, .decoded; tower.image, .embedding; projection.embedding, .context).
"""

import argparse
import sys
from pathlib import Path

from bundle.command_line import fail
from bundle.weights import KINDS, import_weights


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "file", type=Path, metavar="FILE", help="the checkpoint; for diffusers also a pipeline's folder"
    )
    parser.add_argument("--kind", required=True, choices=KINDS, help="where it comes from")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="file to write")
    parser.add_argument("--raw", action="store_true", help="take the weights themselves, not their moving averages")
    parser.add_argument("--reference", type=Path, metavar="FILE", help="stored inputs and outputs to compare with")
    parser.add_argument("--tower-heads", type=int, metavar="N", help="heads of the image tower; default: width / 64")
    group = parser.add_argument_group("monai-generative", "what its weights do not show")
    group.add_argument("--groups", type=int, metavar="N", help="norm_num_groups; default 32")
    group.add_argument("--head-channels", type=int, nargs="+", metavar="N", help="num_head_channels; default 8")
    arguments = parser.parse_args()
    unseen = {"tower_heads": arguments.tower_heads}
    if arguments.kind == "monai-generative":
        heads = arguments.head_channels
        given = {"groups": arguments.groups, "head_channels": heads[0] if heads and len(heads) == 1 else heads}
        unseen |= {name: value for name, value in given.items() if value is not None}
    elif arguments.groups or arguments.head_channels:
        parser.error("--groups and --head-channels go with --kind monai-generative alone")
    try:
        lines = import_weights(
            arguments.file,
            arguments.out,
            kind=arguments.kind,
            raw=arguments.raw,
            reference=arguments.reference,
            **unseen,
        )
    except (ValueError, OSError) as error:
        return fail(error)
    print("\n".join(lines), file=sys.stderr)
    print(arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
