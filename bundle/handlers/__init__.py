"""Ignite handlers: metrics and reports."""
