"""Paragraphs of an HTML page: its headings, paragraphs, list items, table cells and listings, without what only serves the browser or the site.

The standard library's parser takes any tag soup without an error. Where a page marks its content (`main`, `article`, role="main"), only that is
read; scripts, styles, controls, navigation, and headers, footers and asides of the page are left out.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser

Attributes = Mapping[str, str]
Skip = Callable[[str, Attributes], bool]

# fmt: off
VOID = frozenset({"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"})
NOT_TEXT = frozenset({
    "head", "script", "style", "noscript", "template", "svg", "math", "iframe", "object", "canvas", "select", "button", "textarea", "datalist",
    "audio", "video",
})
OF_THE_SITE = frozenset({"nav", "menu", "dialog"})
OF_THE_PAGE = frozenset({"aside", "header", "footer"})  # unless they stand within the marked content, as an article's own header
BLOCKS = frozenset({
    "address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "div", "dl", "dt", "fieldset", "figcaption", "figure",
    "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "html", "legend", "li", "main", "nav", "ol", "p", "pre", "section",
    "summary", "table", "tbody", "td", "tfoot", "th", "thead", "title", "tr", "ul",
})
# fmt: on
# An opening tag of the first kind ends an open one of the second, as browsers have it, unless one of the third stands between
CLOSES = {
    "p": ({"p"}, {"li", "td", "th", "dd", "div", "section", "body", "blockquote"}),
    "li": ({"li"}, {"ul", "ol", "menu"}),
    "dt": ({"dt", "dd"}, {"dl"}),
    "dd": ({"dt", "dd"}, {"dl"}),
    "tr": ({"tr"}, {"table"}),
    "td": ({"td", "th"}, {"tr", "table"}),
    "th": ({"td", "th"}, {"tr", "table"}),
    "option": ({"option"}, {"select"}),
}
ROLES = frozenset(
    {"navigation", "banner", "contentinfo", "search", "complementary", "menu", "menubar", "toolbar", "dialog"}
)


@dataclass
class Page:
    """What a page says."""

    title: str = ""
    language: str = ""  # as the page states it
    paragraphs: list[str] = field(default_factory=list)  # listings keep their line ends


def skip_usual(tag: str, attributes: Attributes) -> bool:
    """Whether an element is left out, with all it holds, wherever it stands: of the browser, of the site, or hidden."""
    if tag in NOT_TEXT or tag in OF_THE_SITE or attributes.get("role") in ROLES:
        return True
    return "hidden" in attributes or attributes.get("aria-hidden") == "true"


def read(html: str, skip: Skip = skip_usual) -> Page:
    """The title, language and paragraphs of a page; `skip` (tag, attributes) says which elements are left out."""
    parser = _Reader(skip)
    parser.feed(html)
    parser.close()
    return parser.finish()


@dataclass
class _Open:
    tag: str
    skipped: bool
    main: bool
    pre: bool


class _Reader(HTMLParser):
    def __init__(self, skip: Skip) -> None:
        super().__init__(convert_charrefs=True)
        self.skip = skip
        self.stack: list[_Open] = []
        self.page = Page()
        self.everything: list[tuple[str, bool]] = []  # (paragraph, within the marked content)
        self.parts: list[str] = []
        self.breaks = 0  # line breaks since the last text: two end the paragraph
        self.marked = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "html":
            self.page.language = attributes.get("lang") or attributes.get("xml:lang") or ""
        if tag in CLOSES:
            self._close_open(*CLOSES[tag])
        elif tag in BLOCKS and tag != "title":
            self._close_open({"head"}, {"body"})
        if tag in BLOCKS:
            self._end_paragraph()
        if tag == "br" and not self._within("skipped"):
            self._break()
        if tag in VOID:
            return
        top = self.stack[-1] if self.stack else _Open("", False, False, False)
        # a title is read although the head around it is not
        of_page = tag in OF_THE_PAGE and not top.main
        skipped = tag != "title" and (top.skipped or of_page or self.skip(tag, attributes))
        main = tag in ("main", "article") or attributes.get("role") == "main"
        self.marked |= main and not skipped
        self.stack.append(_Open(tag, skipped, top.main or main, top.pre or tag == "pre"))

    def handle_endtag(self, tag: str) -> None:
        if tag in BLOCKS:
            self._end_paragraph()
        if any(element.tag == tag for element in self.stack):
            while self.stack.pop().tag != tag:
                pass

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1].tag == "title":
            if not any(e.tag == "svg" for e in self.stack):
                self.page.title = " ".join((self.page.title + data).split())
        elif not self._within("skipped"):
            pre = self._within("pre")
            self.parts.append(data if pre else re.sub(r"\s+", " ", data))
            if data.strip():
                self.breaks = 0

    def finish(self) -> Page:
        self._end_paragraph()
        self.page.paragraphs = [text for text, main in self.everything if main or not self.marked]
        return self.page

    def _within(self, what: str) -> bool:
        return bool(self.stack) and bool(getattr(self.stack[-1], what))

    def _break(self) -> None:
        if self._within("pre"):
            self.parts.append("\n")
            return
        self.breaks += 1
        if self.breaks == 2:
            self._end_paragraph()
        self.parts.append(" ")

    def _close_open(self, tags: set[str], unless: set[str]) -> None:
        for depth in range(len(self.stack) - 1, -1, -1):
            if self.stack[depth].tag in unless:
                return
            if self.stack[depth].tag in tags:
                self._end_paragraph()
                del self.stack[depth:]
                return

    def _end_paragraph(self) -> None:
        text = "".join(self.parts)
        self.parts = []
        self.breaks = 0
        if text.strip():
            text = text.strip("\n") if self._within("pre") else " ".join(text.split())
            self.everything.append((text, self._within("main")))
