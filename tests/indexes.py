"""Indexes in tests: saved often while they are built, and compared byte by byte."""

import pytest

from memviz.index import build, scanner

FILES = ["images.parquet", "stats.parquet", "top.parquet"]


@pytest.fixture(autouse=True)
def save_often(monkeypatch):
    monkeypatch.setattr(build, "GIVE_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(scanner, "GIVE_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(scanner, "BUFFER", 4)


def same(one, two):
    return all((one / name).read_bytes() == (two / name).read_bytes() for name in FILES)
