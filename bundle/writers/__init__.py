"""Volumes to files, marked as synthetic."""
