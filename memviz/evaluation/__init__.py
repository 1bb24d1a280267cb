"""How good predicted scores are: measures, reports and plots. Knows models and images, no training."""

from memviz.evaluation.evaluate import Report, evaluate, measure

__all__ = ["Report", "evaluate", "measure"]
