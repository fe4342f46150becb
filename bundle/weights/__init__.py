"""Weights in files: our own, and those imported from elsewhere."""

from bundle.weights.files import load_weights, read_weights, save_weights
from bundle.weights.importing import KINDS, import_weights
from bundle.weights.pretrained import load_parts, load_pretrained
from bundle.weights.starting import load_start

__all__ = [
    "KINDS",
    "import_weights",
    "load_parts",
    "load_pretrained",
    "load_start",
    "load_weights",
    "read_weights",
    "save_weights",
]
