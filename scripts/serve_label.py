"""Start a MONAI Label server with this bundle, for 3D Slicer or OHIF, until it is interrupted.

`make label` runs it in the environment of MONAI Label (.venv-label). The server answers this machine alone.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAME = "knee_xray_to_mri_latent_diffusion"
HOST = "127.0.0.1"
APP = "sample-apps/monaibundle"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", metavar="DIR", help="folder of films; default: films of the phantom's test split")
    parser.add_argument("--port", type=int, default=8000, metavar="N", help="port on 127.0.0.1")
    parser.add_argument("--app", type=Path, default=ROOT / "dist/label", metavar="DIR", help="folder for server files")
    return parser.parse_args(arguments)


def sample_app() -> Path:
    """MONAI Label's application for bundles, where pip or uv put it."""
    packages = Path(sysconfig.get_paths()["purelib"])
    # pip follows the wheel's data scheme; uv leaves the folder beside the package
    for folder in (Path(sys.prefix) / "monailabel", *packages.glob("monailabel-*.data/data/monailabel")):
        if (folder / APP / "main.py").is_file():
            return folder / APP
    raise FileNotFoundError(
        f"{APP}: not found in {sys.prefix}; expected MONAI Label there. Start the server with `make label`."
    )


def make_app(app: Path) -> Path:
    """The application folder, with this bundle linked as its model; gives the folder."""
    shutil.copytree(sample_app(), app, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    link = app / "model" / NAME
    link.parent.mkdir(exist_ok=True)
    if link.is_symlink():
        link.unlink()
    if link.exists():
        raise FileExistsError(f"{link}: is no link; expected the bundle's. Delete it, or name another folder by --app.")
    link.symlink_to(ROOT, target_is_directory=True)
    return app


def phantom_studies(folder: Path) -> Path:
    """Copy the films of the phantom's test split, since the server writes into its studies; gives the folder."""
    data = ROOT / "data/phantom"
    listing = data / "dataset.json"
    if not listing.is_file():
        raise FileNotFoundError(f"{listing}: no such file; `make data` makes it, or name a folder by --studies.")
    folder.mkdir(parents=True, exist_ok=True)
    for item in json.loads(listing.read_text())["test"]:
        film = data / item["film"]
        if not (folder / film.name).exists():
            shutil.copyfile(film, folder / film.name)
    return folder


def main() -> int:
    arguments = parse()
    try:
        app = make_app(arguments.app.resolve())
        studies = Path(arguments.studies).resolve() if arguments.studies else phantom_studies(app / "studies")
        if not studies.is_dir():
            raise FileNotFoundError(f"{studies}: no such folder; --studies must be a folder of films.")
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    address = f"http://{HOST}:{arguments.port}"
    print(
        f"MONAI Label serves {NAME}; it is ready when it says `Uvicorn running`.\n"
        f"  browser    {address}/info/     the model; {address}/ lists all requests (its page needs a network)\n"
        f"  3D Slicer  MONAI Label module, server address {address}\n"
        f"  OHIF       {address}/ohif/     needs the viewer and a DICOMweb archive, see docs/monai-label.md\n"
        f"  films      {studies}\n"
        "  stop       Ctrl-C\n"
        "Every volume is SYNTHETIC and NOT FOR DIAGNOSIS. The server answers this machine alone and asks no password.",
        flush=True,
    )
    options = ["--app", str(app), "--studies", str(studies), "--host", HOST, "--port", str(arguments.port)]
    settings = {"models": NAME, "zoo_source": "ngc", "skip_trainers": "true", "sam2": "false"}
    for name, value in settings.items():
        options += ["--conf", name, value]
    command = [sys.executable, "-m", "monailabel.main", "start_server", *options]
    # Replaces this process, so that whoever stops `make label` stops the server.
    os.chdir(app)
    if os.name == "posix":
        os.execv(sys.executable, command)
    return subprocess.call(command)


if __name__ == "__main__":
    sys.exit(main())
