"""Rendering in tests, with the settings of a `RenderConfig` given one by one."""

from dataclasses import fields, replace

import memviz
from memviz.rendering import RenderConfig

SETTINGS = {field.name for field in fields(RenderConfig)}


def render(model, *what, config=None, **options):
    settings = {name: options.pop(name) for name in SETTINGS & options.keys()}
    return memviz.render(model, *what, config=replace(config or RenderConfig(), **settings), **options)


QUICK = {"size": 16, "steps": 3}


def unit_numbers(call):
    return [int(name.rstrip(")").rpartition(":")[2]) for name in call]
