"""How good predicted scores are: measures, reports and plots. Knows models and images, no training."""

from __future__ import annotations
