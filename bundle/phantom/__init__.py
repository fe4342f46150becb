"""The digital knee: one parameter set, posed and measured twice."""
