"""With what is a photograph compared? Other photographs, in an order that a seed decides, or itself without details."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from memviz.errors import StoreError
from memviz.images import content_hash, open_image, package_photos
from memviz.index import Index

Source = Literal["index", "package", "blurred"]


@dataclass(frozen=True)
class References:
    """What a photograph was compared with.

    Attributes:
        source: "index": photographs drawn from an index; "package": those that scikit-image and scikit-learn carry;
            "blurred": the photograph itself without its details.
        photographs: their names; none for "blurred".
        among: from how many they were drawn.
        score, logit: their means.
    """

    source: Source
    photographs: tuple[str, ...]
    among: int
    score: float
    logit: float

    @property
    def what(self) -> str:
        """What they are, in words.

        >>> References("index", ("a.jpg", "b.jpg"), 700, 0.8, 1.4).what
        '2 photographs drawn at random from the 700 of the index'
        """
        if self.source == "blurred":
            return "the same photograph, blurred until its details are gone"
        count = f"{len(self.photographs)} photograph{'s' * (len(self.photographs) != 1)}"
        where = "of the index" if self.source == "index" else "that come with scikit-image and scikit-learn"
        return f"{count} drawn at random from the {self.among} {where}"


@dataclass(frozen=True, eq=False)
class Candidates:
    """Photographs that may serve as references.

    Attributes:
        source: where they come from.
        names, hashes: of each, and the SHA-256 of its file.
        scores: of each, as an index knows them; NaN where they are not known.
        order: their places, in the order in which they are drawn.
        open: reads one, upright RGB.
    """

    source: Source
    names: tuple[str, ...]
    hashes: tuple[str, ...]
    scores: NDArray[np.float64]
    order: tuple[int, ...]
    open: Callable[[int], Image.Image]

    @classmethod
    def of(cls, index: Index | None, seed: int) -> Candidates:
        """The ranked photographs of an index, or, without one, those of installed packages.

        Raises:
            StoreError: a damaged index.
            ImageError: no package carries photographs.
        """
        if index is None:
            paths = list(package_photos().items())
            names, hashes = [name for name, _ in paths], [content_hash(path) for _, path in paths]
            scores = np.full(len(paths), np.nan)
            read: Callable[[int], Image.Image] = lambda place: open_image(paths[place][1])  # noqa: E731
        else:
            ranked = index.ranked
            numbers, names, hashes = (ranked[name].tolist() for name in ("image", "path", "sha256"))
            scores = ranked["prediction"].to_numpy(np.float64)
            read = lambda place: index.photo(numbers[place])  # noqa: E731
        order = np.random.default_rng(abs(seed)).permutation(len(names)).tolist()
        source: Source = "package" if index is None else "index"
        return cls(source, tuple(names), tuple(hashes), scores, tuple(order), read)

    def draw(self, count: int, without: str) -> list[int]:
        """The places of the first ones, but for the photograph whose SHA-256 is `without`.

        Raises:
            StoreError: there is no other photograph.
        """
        drawn = [place for place in self.order if self.hashes[place] != without][:count]
        if not drawn:
            raise StoreError(
                "The index holds no other photograph than the one that is to be explained, so there is nothing to "
                "compare it with. Give an index of more photographs, or none."
            )
        return drawn

    def percentile(self, score: float, without: str) -> tuple[float, int] | None:
        """The percentage of the photographs whose score is lower (of equal ones half), and how many there are.

        None where no index knows the scores, or knows but one. The photograph itself, `without`, does not count.
        """
        known = np.array([mine != without for mine in self.hashes]) & np.isfinite(self.scores)
        others = self.scores[known]
        if self.source != "index" or len(others) < 2:
            return None
        own = np.float32(score)  # as an index keeps them
        lower, equal = int((others < own).sum()), int((others == own).sum())
        return 50 * (2 * lower + equal) / len(others), len(others)
