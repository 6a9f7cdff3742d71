"""Templates, and static files under URLs that hold a hash of their content, so that browsers keep them for good."""

import hashlib
import mimetypes
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from harvestd.convention.structs import Immutable
from harvestd.page import words
from harvestd.page.guard import STATIC

_PACKAGE: Final = "harvestd.page"
_FOR_GOOD: Final = {"cache-control": "public, max-age=31536000, immutable"}
_DIGITS: Final = 16
mimetypes.add_type("text/javascript", ".js")


class StaticFile(Immutable):
    """One file of `static/`, in memory."""

    content: bytes
    media_type: str


class Assets:
    """All templates and static files; they are read once."""

    def __init__(self) -> None:
        self._files = dict(_found(files(_PACKAGE) / "static", ""))
        digest = hashlib.sha256()
        for name, file in sorted(self._files.items()):
            digest.update(name.encode() + b"\0" + file.content)
        self.version: Final = digest.hexdigest()[:_DIGITS]
        """Changes with any static file: all have one prefix, so that modules can import each other by relative URLs."""
        self._templates = Environment(
            loader=PackageLoader(_PACKAGE),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.globals.update(static=self.url)
        self._templates.filters.update(words.FILTERS)

    def url(self, name: str) -> str:
        """Return the URL of a static file; raise `KeyError` for an unknown name."""
        if name not in self._files:
            raise KeyError(name)
        return f"{STATIC}{self.version}/{name}"

    def file(self, name: str) -> StaticFile:
        """Return a static file; raise `KeyError` for an unknown name."""
        return self._files[name]

    def render(self, template: str, context: Mapping[str, object]) -> str:
        """Return a filled template."""
        return self._templates.get_template(template).render(context)

    async def answer(self, request: Request) -> Response:
        """Answer a request for a static file."""
        found = self._files.get(request.path_params["name"])
        if found is None or request.path_params["version"] != self.version:
            return PlainTextResponse("there is no such file\n", 404)
        return Response(found.content, headers=_FOR_GOOD, media_type=found.media_type)


def _found(directory: Traversable, prefix: str) -> list[tuple[str, StaticFile]]:
    found: list[tuple[str, StaticFile]] = []
    for each in directory.iterdir():
        name = f"{prefix}{each.name}"
        if each.is_dir():
            found += _found(each, f"{name}/")
        else:
            media_type = mimetypes.guess_type(each.name)[0] or "text/plain"
            found.append((name, StaticFile(each.read_bytes(), media_type)))
    return found
