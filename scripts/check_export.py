"""Check an unpacked export of the bundle with its own code, from another directory, as the model zoo does.

`scripts/export_zoo.py` calls it with the export's root as PYTHONPATH.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.bundle import ConfigParser, create_workflow, load, verify_metadata, verify_net_in_out

import bundle
from bundle.command_line import fail


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, metavar="ROOT", help="the unpacked export")
    parser.add_argument("--schema", required=True, type=Path, metavar="FILE", help="schema of configs/metadata.json")
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="folder to write to; empty, for what the check makes"
    )
    return parser.parse_args(arguments)


def one_film(folder: Path, size: int, slices: int) -> Path:
    """A prepared data set of one made-up film, enough to build and run the inference; gives the folder."""
    rows = np.linspace(0, 1, size, dtype=np.float32)
    affine = bundle.geometry.Grid.of(image_size=size, slices=slices).affine()
    film = nib.Nifti1Image(np.sqrt(rows[:, None] * rows[None])[..., None], affine)
    film.header["descrip"] = b"knee ROI, synthetic-phantom"
    folder.mkdir()
    nib.save(film, folder / "film.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros((size, size, slices), np.float32), affine), folder / "mri.nii.gz")
    item = {"film": "film.nii.gz", "mri": "mri.nii.gz", "participant": "1", "side": "R", "visit": "00m", "readings": {}}
    listing = {"training": [], "validation": [], "test": [item]}
    (folder / "dataset.json").write_text(json.dumps(listing))
    return folder


def check_config(root: Path, schema: Path, data: Path) -> None:
    """Metadata, properties of inference, input and output of the network."""
    config, meta = str(root / "configs/inference.json"), str(root / "configs/metadata.json")
    verify_metadata(meta_file=meta, filepath=str(schema))
    print("metadata: valid")
    workflow = create_workflow(
        config_file=config, workflow_type="inference", bundle_root=str(root), meta_file=meta, dataset_dir=str(data)
    )
    lacking = workflow.check_properties()
    if lacking:
        raise ValueError(f"configs/inference.json: lacks the properties {lacking}.")
    print("properties: all there")
    verify_net_in_out(net_id="network_def", meta_file=meta, config_file=config, bundle_root=str(root))
    print("input and output: as the metadata say")


def check_load(root: Path) -> None:
    """`monai.bundle.load` finds the weights that `bundle.load` loads."""
    by_name = load(name=root.name, bundle_dir=str(root.parent), source="github", repo="none/none/none")
    theirs, ours = by_name.state_dict(), bundle.load(root).state_dict()
    if set(theirs) != set(ours) or not all(torch.equal(ours[name], value) for name, value in theirs.items()):
        raise ValueError("models/model.pt: monai.bundle.load and bundle.load give different weights.")
    print("monai.bundle.load: the weights of bundle.load")


def check_run(root: Path, data: Path, out: Path, shape: list[int]) -> None:
    """The command of inference, from another directory, makes one volume of the shape in the metadata."""
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(root / "configs/inference.json")]
    command += ["--bundle_root", str(root), "--dataset_dir", str(data), "--output_dir", str(out)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ)
    made = [nib.load(file).shape for file in out.glob("*_mri_synthetic.nii.gz")]
    if made != [tuple(shape)]:
        raise ValueError(f"{out}: the run made volumes of shapes {made}; expected one of {tuple(shape)}.")
    print(f"run from another directory: a volume of {made[0]}")


def main() -> int:
    arguments = parse()
    root = arguments.root.resolve()
    try:
        if not Path(bundle.__file__).resolve().is_relative_to(root):
            raise ValueError(f"`bundle` came from {bundle.__file__}; set PYTHONPATH={root}.")
        metadata = ConfigParser.load_config_file(str(root / "configs/metadata.json"))
        shape = metadata["network_data_format"]["outputs"]["pred"]["spatial_shape"]
        data = one_film(arguments.out / "data", shape[0], shape[2])
        check_config(root, arguments.schema, data)
        check_load(root)
        check_run(root, data, arguments.out / "eval", shape)
    except (ValueError, OSError, RuntimeError, subprocess.CalledProcessError) as error:
        return fail(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
