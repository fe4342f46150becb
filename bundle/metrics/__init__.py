"""Metrics of volumes that MONAI lacks."""
