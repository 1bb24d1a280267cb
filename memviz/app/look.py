"""How the application's pages look: fragments and whole pages from what is held, in the galleries' style."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache

from PIL import Image, ImageOps

from memviz.app.config import MEGABYTE
from memviz.app.desk import Desk
from memviz.app.form import FIELD
from memviz.app.guard import SITE
from memviz.app.held import Batch, Held, Photograph
from memviz.explanation.checkup import find_checkup
from memviz.explanation.choice import known_finding
from memviz.explanation.labels import load_labels
from memviz.gallery.explanation import dots, largest
from memviz.gallery.html import environment
from memviz.gallery.overlay import gradient
from memviz.gallery.pictures import jpeg
from memviz.images import open_image, package_photos
from memviz.images.formats import formats
from memviz.layers.unit import Unit
from memviz.models.weights import PUBLISHED
from memviz.site import SavedSite

STATIC = ("style.css", "app.js")
_SAMPLES = ("astronaut", "chelsea", "coffee", "rocket", "china", "flower")
_SAMPLE_SIDE = 240  # px
_MEANING = {
    "memorability": "Of 100 people who have seen it once, about {} would recognize it when it comes again, the network "
    "predicts.",
    "false alarms": "Of 100 people who have never seen it, about {} would say that they had, the network predicts.",
}


class Look:
    """Makes pages.

    Args:
        desk: that works on the photographs.
        held: the photographs.
        site: to which units are linked; None where there is none.
    """

    def __init__(self, desk: Desk, held: Held, site: SavedSite | None) -> None:
        self._desk, self._held, self._site = desk, held, site
        self._labels = {} if desk.index is None else load_labels(desk.index)
        model, config = desk.model, desk.config
        checkup = None if desk.index is None else find_checkup(desk.index)
        record = next((each for each in PUBLISHED if each.fingerprint == desk.weights), None)
        known = {part: known_finding(desk.weights, checkup, part) for part in model.branches}
        self._pages = environment("memviz.app")
        self._pages.globals |= {
            "model": model.name, "target": model.target or "score", "weights": desk.weights,
            "licence": record.licence if record else "", "published": record is not None,
            "verdict": checkup.verdict if checkup else [],
            "findings": {part: text for part, text in known.items() if text},
            "ranked": 0 if desk.index is None else len(desk.index.ranked),
            "site": site, "field": FIELD, "samples": sample_names(),
            "formats": formats(), "megabytes": f"{config.body / MEGABYTE:g}", "files": config.files,
            "minutes": round(config.kept_seconds / 60), "grace": round(config.grace_seconds),
            "references": config.explain.references, "passes": config.explain.passes,
            "meaning": self._meaning, "dots": dots, "largest": largest, "gradient": gradient(41),
            "page_of": self._page_of, "label_of": self._label_of, "picture_of": self._picture_of,
        }  # fmt: skip

    def home(self) -> str:
        """The page from which photographs are given."""
        return self._page("home.html")

    def about(self) -> str:
        """What the score says and does not say."""
        return self._page("about.html")

    def api(self, base: str, token: bool) -> str:
        """How to ask without a browser."""
        return self._page("api.html", base=base, token=token)

    def token(self, message: str = "") -> str:
        """Asks for the token."""
        return self._page("token.html", message=message)

    def error(self, status: int, reason: str) -> str:
        """That something is not possible, and why."""
        return self._page("error.html", status=status, reason=reason)

    def batch(self, batch: Batch) -> str:
        """The page of photographs."""
        numbers = range(len(batch.photographs))
        working = any(each.working for each in batch.photographs)
        shown = [self.photograph(batch, number) for number in numbers]
        return self._page("batch.html", batch=batch, shown=shown, working=working)

    def photograph(self, batch: Batch, number: int) -> str:
        """One of them, as a fragment."""
        return self._fragment("photograph", batch, number)

    def status(self, batch: Batch, number: int) -> str:
        """What is done with it, as a fragment."""
        return self._fragment("status", batch, number)

    def sample(self, name: str) -> bytes:
        """A small JPEG of a sample photograph; empty where there is none of that name."""
        return _sample(name) if name in sample_names() else b""

    def static(self, name: str) -> bytes | None:
        """A style sheet or a script; None where there is none of that name."""
        return self._static.get(name)

    @cached_property
    def _static(self) -> dict[str, bytes]:
        sheets = ("page.css", "explanation.css", "app.css")
        style = "".join(self._pages.get_template(each).render() for each in sheets)
        return {"style.css": style.encode(), "app.js": self._pages.get_template("app.js").render().encode()}

    def _page(self, template: str, **values: object) -> str:
        return self._pages.get_template(template).render(**values).lstrip()

    def _fragment(self, name: str, batch: Batch, number: int) -> str:
        own = batch.photographs[number]
        make: Callable[..., str] = getattr(self._parts, name)
        return make(own, f"/photographs/{batch.name}/{number}", number, self._desk.position(own)).strip()

    @cached_property
    def _parts(self) -> object:
        return self._pages.get_template("parts.html").make_module({})

    def _meaning(self, photograph: Photograph) -> str:
        text = _MEANING.get(self._desk.model.target or "", "")
        return text.format(round(100 * (photograph.score or 0))) if text else ""

    def _page_of(self, unit: str) -> str | None:
        page = self._site.page(_unit(unit)) if self._site else None
        return f"{SITE}/{page.removesuffix('index.html')}" if page else None

    def _picture_of(self, unit: str) -> tuple[str, str] | None:
        """The picture of a unit on the site, and what it shows: "render" or "seen"."""
        if self._site is None:
            return None
        if picture := self._site.picture(_unit(unit)):
            return f"{SITE}/{picture}", "render"
        seen = self._site.seen(_unit(unit))
        return (f"{SITE}/{seen}", "seen") if seen else None

    def _label_of(self, unit: str) -> str:
        label = self._labels.get(_unit(unit))
        return label.text or "" if label else ""


def _unit(text: str) -> Unit:
    address, _, channel = text.rpartition(":")
    return Unit(address, int(channel))


@lru_cache(1)
def sample_names() -> tuple[str, ...]:
    """The photographs of installed packages that visitors may try."""
    known = package_photos()
    return tuple(name for name in _SAMPLES if name in known)


@lru_cache(len(_SAMPLES))
def _sample(name: str) -> bytes:
    picture = ImageOps.fit(open_image(package_photos()[name]), (_SAMPLE_SIDE, _SAMPLE_SIDE), Image.Resampling.LANCZOS)
    return jpeg(picture, 80)
