"""The tables of the paper with ours: a plan as JSON, the commands it means, and what they gave."""

from bundle.tables.plan import Plan, Row, read_plan
from bundle.tables.run import run_plan

__all__ = ["Plan", "Row", "read_plan", "run_plan"]
