"""How the models are made: training on scored photographs, distillation, and the search for settings."""

from memviz.training.config import Runtime, TrainConfig
from memviz.training.job import Start, TrainingJob
from memviz.training.search import search
from memviz.training.teacher import Teacher
from memviz.training.train import train

__all__ = ["Runtime", "Start", "Teacher", "TrainConfig", "TrainingJob", "search", "train"]
