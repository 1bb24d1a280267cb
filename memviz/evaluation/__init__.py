"""How good predicted scores are: measures, reports and plots."""

from memviz.evaluation.evaluate import Report, SavedReport, evaluate, measure

__all__ = ["Report", "SavedReport", "evaluate", "measure"]
