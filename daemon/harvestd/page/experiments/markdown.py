"""Render an experiment's README as HTML: headings, paragraphs, lists, tables, code, and pictures of its own.

A person may have written anything beside harvestd's part, and names in it are from hosts. So markup in the text is
shown as text, links and pictures from elsewhere too, and no style, class or identifier comes from it.
"""

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup, escape

from harvestd.convention.paths import ANALYSIS
from harvestd.telemetry.sanitize import escaped, masked

LONGEST: Final = 200_000
"""Characters of a README that are rendered."""
_OWN: Final = re.compile(r"^<!-- harvestd (?:begins|ends)[^>]{0,200}-->$")
_DEEPEST: Final = 6
_DEEPER: Final = 1
"""How many levels deeper a heading is than in the file: the view has a heading of its own."""
_ALLOWED: Final = ("table", "strikethrough")
_FORBIDDEN: Final = ("link", "autolink", "html_block", "html_inline", "reference", "entity")


def rendered(text: str, title: str, pictures: Collection[str], url_of: Callable[[str], str]) -> Markup:
    """Return a README as HTML.

    A heading that is `title` is left out; `pictures` are the names in `analysis/` that may be shown, and
    `url_of` returns the address of one.
    """
    lines = [escaped(line.expandtabs(4)) for line in masked(text[:LONGEST]).splitlines()]
    parser = (
        MarkdownIt("commonmark", {"html": False, "maxNesting": 12}).enable(list(_ALLOWED)).disable(list(_FORBIDDEN))
    )
    tokens = parser.parse("\n".join(line for line in lines if not _OWN.match(line)))
    renderer = _Renderer(pictures, url_of)
    # Everything in the result was written by the renderer, which escapes each text.
    return Markup(renderer.render(_prepared(tokens, escaped(title)), parser.options, {}))  # noqa: S704  (see above)


def _prepared(tokens: Sequence[Token], title: str) -> list[Token]:
    """Return the tokens without what the view shows itself, with headings below its own."""
    found: list[Token] = []
    place = 0
    while place < len(tokens):
        token = tokens[place]
        if token.type == "heading_open" and _text(tokens[place + 1]) == title:
            place += 3
            continue
        if token.type == "thead_open":
            end = next(n for n in range(place, len(tokens)) if tokens[n].type == "thead_close")
            if not any(_text(each) for each in tokens[place:end]):
                place = end + 1
                continue
        if token.type in {"heading_open", "heading_close"}:
            token.tag = f"h{min(_DEEPEST, int(token.tag[1:]) + _DEEPER)}"
        token.attrs = {}
        found.append(token)
        place += 1
    return found


def _text(token: Token) -> str:
    return "".join(child.content for child in token.children or ()).strip()


class _Renderer(RendererHTML):
    """Renders tokens; a wide table scrolls in a region, and only known pictures are shown."""

    def __init__(self, pictures: Collection[str], url_of: Callable[[str], str]) -> None:
        super().__init__()
        self._pictures = pictures
        self._url_of = url_of

    def table_open(self, *_: Any) -> str:  # noqa: ANN401  (of the library's form)
        """Begin a table."""
        return '<div class="scrolls" tabindex="0" role="region" aria-label="Table"><table class="list">\n'

    def table_close(self, *_: Any) -> str:  # noqa: ANN401  (the same)
        """End a table."""
        return "</table></div>\n"

    def fence(self, tokens: Sequence[Token], idx: int, *_: Any) -> str:  # noqa: ANN401  (the same)
        """Return a block of code."""
        return f'<pre class="block" tabindex="0"><code>{escape(tokens[idx].content)}</code></pre>\n'

    def code_block(self, tokens: Sequence[Token], idx: int, *_: Any) -> str:  # noqa: ANN401  (the same)
        """Return a block of code."""
        return self.fence(tokens, idx)

    def image(self, tokens: Sequence[Token], idx: int, *_: Any) -> str:  # noqa: ANN401  (the same)
        """Return a picture of `analysis/`; what else stands as a picture is shown as text."""
        token = tokens[idx]
        source, name = str(token.attrs.get("src", "")), token.content
        file = source.removeprefix(f"{ANALYSIS}/")
        if file == source or file not in self._pictures:
            return f"{escape(name)} ({escape(source)})"
        return f'<img class="picture" src="{escape(self._url_of(file))}" alt="{escape(name)}" loading="lazy">'
