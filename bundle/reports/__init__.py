"""Tables, intervals, pictures and pages of scores, within an evaluation and over several."""

from bundle.reports.statistics import Interval, Paired, interval, paired

__all__ = ["Interval", "Paired", "interval", "paired"]
