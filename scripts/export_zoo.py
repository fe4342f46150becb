"""Export the committed bundle as the zip file that MONAI's model zoo takes, and check it as the zoo does.

The zip is made from git, never from the work tree, and depends on the commit alone: equal commits give equal bytes.
`docs/publishing.md` says how to go on from there.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAME = "knee_xray_to_mri_latent_diffusion"
SCHEMA = ROOT / "tests/data/meta_schema_20240725.json"
LEFT_OUT = (
    ".ci",
    ".gitignore",
    ".gitattributes",
    "eval",
    "runs",
    "tests",
    "requirements/dev.in",
    "requirements/dev.txt",
)
"""Of the repository: what tests and develops it."""
NEVER = ("__pycache__", ".venv", ".pytest_cache", ".mypy_cache", ".ruff_cache", "data/phantom", "demo", "dist")
"""Made by a run; a commit that holds one is refused."""
LARGEST_BYTES = 25_000_000
"""The zoo's 25 MB, a file, in the stricter reading of MB."""
REQUIRED = (
    "LICENSE",
    "configs/inference.json",
    "configs/metadata.json",
    "configs/train.json",
    "docs/README.md",
    "docs/data_license.txt",
    "models/model.pt",
)
TEMPLATE = ("# Model Overview", "## Data", "## Performance", "## Commands", "# License")
"""Headings of the zoo's README that the model card must have, at any level."""
STAMP = (1980, 1, 1, 0, 0, 0)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path("dist"), metavar="DIR", help="folder to write to; the zip file goes there"
    )
    parser.add_argument("--commit", default="HEAD", metavar="NAME", help="commit to export; default: HEAD")
    parser.add_argument("--no-checks", action="store_true", help="leave out the checks that build the network")
    return parser.parse_args(arguments)


def is_under(name: str, folders: tuple[str, ...]) -> bool:
    """Whether a path in the repository is one of the files or folders, or lies in one."""
    return any(name == folder or name.startswith(folder + "/") for folder in folders)


def committed_files(commit: str, root: Path = ROOT) -> dict[str, bytes]:
    """Name to content of what a commit gives to the zoo, sorted by name.

    Raises:
        ValueError: if there is no such commit, or it holds what a run made.
    """
    with tempfile.TemporaryFile() as file:
        git = subprocess.run(["git", "archive", "--format=tar", commit], cwd=root, stdout=file, stderr=subprocess.PIPE)
        if git.returncode:
            raise ValueError(f"git archive {commit}: {git.stderr.decode().strip()}")
        file.seek(0)
        with tarfile.open(fileobj=file) as archive:
            members = sorted((member for member in archive if member.isfile()), key=lambda member: member.name)
            names = [member.name for member in members]
            made = [name for name in names if is_under(name, NEVER) or "/__pycache__/" in f"/{name}"]
            if made:
                raise ValueError(f"commit {commit} holds {made[0]}, which a run makes; remove it from git.")
            kept = [member for member in members if not is_under(member.name, LEFT_OUT)]
            return {member.name: archive.extractfile(member).read() for member in kept}  # type: ignore[union-attr]


def write_zip(files: dict[str, bytes], target: Path) -> None:
    """Write the files under the bundle's name, with times and rights that do not depend on the machine."""
    part = target.with_name(target.name + ".part")
    with zipfile.ZipFile(part, "w") as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(f"{NAME}/{name}", date_time=STAMP)
            info.compress_type, info.external_attr, info.create_system = zipfile.ZIP_DEFLATED, 0o100644 << 16, 3
            archive.writestr(info, content, compresslevel=9)
    os.replace(part, target)


def faults(files: dict[str, bytes]) -> list[str]:
    """What is wrong with an export, of all that can be seen without building the network."""
    found = [f"{name}: is not there; the zoo requires it." for name in REQUIRED if name not in files]
    found += [
        f"{name}: has {len(content)} bytes; the zoo takes files of at most 25 MB."
        for name, content in files.items()
        if len(content) > LARGEST_BYTES
    ]
    if found:
        return found
    metadata = json.loads(files["configs/metadata.json"])
    if metadata.get("version") not in metadata.get("changelog", {}):
        found.append(f"configs/metadata.json: version {metadata.get('version')} must be a key of `changelog`.")
    if metadata.get("schema", "").rsplit("/", 1)[-1] != SCHEMA.name:
        found.append(f"configs/metadata.json: `schema` must be that of {SCHEMA.name}.")
    headings = {line.lstrip("# ").lower() for line in files["docs/README.md"].decode().splitlines() if line[:1] == "#"}
    missing = [heading for heading in TEMPLATE if heading.lstrip("# ").lower() not in headings]
    if missing:
        found.append(f"docs/README.md: lacks {', '.join(missing)} of the zoo's template.")
    if "torchscript" not in files["docs/README.md"].decode().lower():
        found.append("docs/README.md: must say that TorchScript is not supported, since the zoo tests it otherwise.")
    for name in ("configs/train.json", "configs/inference.json"):
        keys = {"bundle_root", "device", "dataset_dir", "output_dir", "network_def"} - set(json.loads(files[name]))
        if keys:
            found.append(f"{name}: lacks {', '.join(sorted(keys))}.")
    return found


def check_unpacked(archive: Path) -> None:
    """Unpack the zip elsewhere and check it there, with its own code alone.

    Raises:
        subprocess.CalledProcessError: if a check fails; its output has been shown.
    """
    with tempfile.TemporaryDirectory(prefix="zoo-") as folder:
        with zipfile.ZipFile(archive) as zipped:
            zipped.extractall(folder)
        root = Path(folder).resolve() / NAME
        elsewhere = Path(folder).resolve() / "elsewhere"
        elsewhere.mkdir()
        environment = os.environ | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
        options = [str(root), "--schema", str(SCHEMA), "--out", str(elsewhere)]
        # messages of the checks, as all messages, on stderr
        subprocess.run(
            [sys.executable, str(root / "scripts/check_export.py"), *options],
            cwd=elsewhere,
            env=environment,
            check=True,
            stdout=sys.stderr,
        )


def main() -> int:
    arguments = parse()
    try:
        files = committed_files(arguments.commit)
        found = faults(files)
        if found:
            raise ValueError("\n       ".join(found))
        version = json.loads(files["configs/metadata.json"])["version"]
        arguments.out.mkdir(parents=True, exist_ok=True)
        target = arguments.out / f"{NAME}_v{version}.zip"
        write_zip(files, target)
        print(f"{len(files)} files of commit {arguments.commit}: there, and none over 25 MB", file=sys.stderr)
        if not arguments.no_checks:
            check_unpacked(target)
    except (ValueError, OSError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    print(f"{target.stat().st_size / 1e6:.1f} MB, sha256 {digest}", file=sys.stderr)
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
