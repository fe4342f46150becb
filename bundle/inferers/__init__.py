"""Run a network over a film."""
