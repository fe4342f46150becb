"""The digital knee: one parameter set, posed and measured twice."""

from bundle.phantom.on_the_fly import OnTheFly

__all__ = ["OnTheFly"]
