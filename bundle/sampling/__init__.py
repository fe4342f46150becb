"""Noise schedules and samplers; they know a callable and no network."""
