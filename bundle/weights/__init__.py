"""Weights in files."""

from bundle.weights.files import load_weights, read_weights, save_weights, weights_hash

__all__ = ["load_weights", "read_weights", "save_weights", "weights_hash"]
