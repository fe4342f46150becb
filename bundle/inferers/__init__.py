"""Run a network over a film."""

from bundle.inferers.volume import VolumeInferer

__all__ = ["VolumeInferer"]
