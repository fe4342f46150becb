"""Tensors of a checkpoint from elsewhere, read without executing anything that the file holds."""

from __future__ import annotations

import io
import pickle
import sys
import zipfile
from _compat_pickle import IMPORT_MAPPING
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.utils import optional_import
from torch import Tensor

safetensors, has_safetensors = optional_import("safetensors")

DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
INERT_NAMES = {
    *(f"builtins.{name}" for name in ("bool", "bytes", "complex", "dict", "float", "frozenset", "int", "list")),
    *(f"builtins.{name}" for name in ("object", "set", "slice", "str", "tuple", "NoneType")),
    *("collections.Counter", "collections.defaultdict", "collections.deque", "typing.Any", "typing.Union"),
    *("argparse.Namespace", "types.SimpleNamespace", "datetime.datetime", "datetime.timedelta", "uuid.UUID"),
    *("pathlib.PosixPath", "pathlib.PurePosixPath", "_codecs.encode", "copyreg._reconstructor"),
}
"""What a training may leave of the standard library; any other name of it, such as `os.system`, is an attack.

Classes of other packages (omegaconf, Lightning, a researcher's own) are read as placeholders and never imported.
"""
INERT_MODULES = {"numpy", "numpy.core.multiarray", "numpy._core.multiarray", "torch._utils", "torch._tensor"}
"""Whose functions put arrays and tensors together, read as placeholders, too."""


class Placeholder:
    """Stands where a file has an object of a class that is none of our business; does nothing with what it is given."""

    def __new__(cls, *_: Any, **__: Any) -> Placeholder:
        """An empty object, whatever the arguments."""
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        """Forget the item."""

    def extend(self, items: Any) -> None:
        """Forget the items."""

    def add(self, item: Any) -> None:
        """Forget the item."""


@dataclass(frozen=True)
class _Storage:
    dtype: torch.dtype
    key: str


@dataclass(frozen=True)
class _Stored:
    """A tensor that is still in the file."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def _tensor(storage: Any, offset: int, shape: Any, stride: Any, *_: Any) -> _Stored:
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("a tensor without a storage")
    return _Stored(storage, int(offset), tuple(map(int, shape)), tuple(map(int, stride)))


def _parameter(data: Any, *_: Any) -> Any:
    return data


_KNOWN = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}


class _Unpickler(pickle.Unpickler):
    """Knows dictionaries and tensors; every other class is a placeholder or refused; nothing is imported."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        if module in ("torch", "torch.storage") and name in DTYPES:
            return DTYPES[name]
        module = IMPORT_MAPPING.get(module, module)  # torch.save writes Python 2's names of modules
        if _inert(module, name):
            return Placeholder
        raise pickle.UnpicklingError(f"it names `{module}.{name}`, which has no business in a checkpoint")

    def persistent_load(self, pid: Any) -> _Storage:
        if not isinstance(pid, tuple) or len(pid) < 3 or pid[0] != "storage" or not isinstance(pid[1], torch.dtype):
            raise pickle.UnpicklingError("a storage of an unknown kind")
        return _Storage(pid[1], str(pid[2]))


def _inert(module: str, name: str) -> bool:
    """Whether a training leaves such a name in a checkpoint: a class, a dtype, or what arrays are put together by."""
    if module.partition(".")[0] in sys.stdlib_module_names:
        return f"{module}.{name}" in INERT_NAMES
    kind = name.rpartition(".")[2][:1].isupper() or isinstance(getattr(torch, name, None), torch.dtype | type)
    return kind or module in INERT_MODULES


class Checkpoint(Mapping[str, Tensor]):
    """The state dictionary of a file; a tensor is read when it is asked for.

    Zero-1-to-3's checkpoints hold optimiser states of twice the weights' size, which are never read.

    Args:
        path: a safetensors file, or one of `torch.save` (torch 1.6 or newer): a state dictionary alone, or a
            Lightning checkpoint with its extras.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, of another format, or names code that no checkpoint needs.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: Any
        if not self.path.is_file():
            raise FileNotFoundError(f"{path}: no such file.")
        with self.path.open("rb") as file:
            head = file.read(9)
        if head[:4] == b"PK\x03\x04":
            self._names: dict[str, Any] = self._read_zip()
        elif head[8:9] == b"{":
            self._names = self._read_safetensors()
        else:
            raise ValueError(
                f"{path}: neither a safetensors file nor one of torch.save (torch 1.6 or newer); load it where it was "
                "made and write it again with safetensors."
            )

    def __getitem__(self, name: str) -> Tensor:
        stored = self._names[name]
        if not isinstance(stored, _Stored):
            return self._file.get_tensor(name)
        try:
            data = self._file.read(f"{self._root}/data/{stored.storage.key}")
            flat = torch.frombuffer(bytearray(data), dtype=stored.storage.dtype) if data else torch.empty(0)
            return torch.as_strided(flat, stored.shape, stored.stride, stored.offset).clone()
        except (KeyError, ValueError, RuntimeError, OSError, zipfile.BadZipFile) as error:
            raise ValueError(f"{self.path}: `{name}` cannot be read, the file is damaged ({_short(error)}).") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it."""
        stored = self._names[name]
        return stored.shape if isinstance(stored, _Stored) else stored

    def _read_safetensors(self) -> dict[str, tuple[int, ...]]:
        if not has_safetensors:
            raise ValueError(f"{self.path}: a safetensors file needs the package `safetensors`.")
        try:
            self._file = safetensors.safe_open(str(self.path), framework="pt")
            return {name: tuple(self._file.get_slice(name).get_shape()) for name in self._file.keys()}  # noqa: SIM118
        except Exception as error:  # a Rust error class of its own
            raise ValueError(f"{self.path}: not a whole safetensors file ({_short(error)}).") from None

    def _read_zip(self) -> dict[str, _Stored]:
        try:
            self._file = archive = zipfile.ZipFile(self.path)
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            if any(name.endswith("constants.pkl") for name in names):
                raise ValueError("a TorchScript archive holds code; save its state_dict with safetensors")
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise ValueError("it is compressed, which torch.save never does")
            roots = [name.removesuffix("/data.pkl") for name in names if name.endswith("/data.pkl")]
            if len(roots) != 1:
                raise ValueError(f"a file of torch.save holds one data.pkl, this one {len(roots)}")
            self._root = roots[0]
            content = _Unpickler(io.BytesIO(archive.read(f"{self._root}/data.pkl"))).load()
        except Exception as error:  # a damaged pickle may raise anything
            raise ValueError(f"{self.path}: refused: {_short(error)}.") from None
        if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
            content = content["state_dict"]
        tensors = content if isinstance(content, dict) else {}
        if not tensors or not all(isinstance(k, str) and isinstance(v, _Stored) for k, v in tensors.items()):
            raise ValueError(f"{self.path}: holds no state dictionary: names with tensors, at the top or `state_dict`.")
        return dict(tensors)


def _short(error: Exception) -> str:
    return (str(error).strip().split("\n")[0][:200] or type(error).__name__).rstrip(".")
