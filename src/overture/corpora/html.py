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
Mark = Callable[[str, Attributes], str | None]
Span = tuple[int, int, str]  # of a paragraph: from which character up to which, and what it is

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
    spans: list[list[Span]] = field(
        default_factory=list
    )  # of each paragraph, what was marked in it; nothing in listings


def skip_usual(tag: str, attributes: Attributes) -> bool:
    """Whether an element is left out, with all it holds, wherever it stands: of the browser, of the site, or hidden."""
    if tag in NOT_TEXT or tag in OF_THE_SITE or attributes.get("role") in ROLES:
        return True
    return "hidden" in attributes or attributes.get("aria-hidden") == "true"


def mark_nothing(tag: str, attributes: Attributes) -> None:
    """The usual: mark-up within a paragraph is dropped."""


def read(html: str, skip: Skip = skip_usual, mark: Mark = mark_nothing) -> Page:
    """The title, language and paragraphs of a page; `skip` (tag, attributes) says which elements are left out, `mark` what is to be known of
    those that stand within a paragraph: a label, or None. Of marked elements within each other the outer one counts."""
    parser = _Reader(skip, mark)
    parser.feed(html)
    parser.close()
    return parser.finish()


@dataclass
class _Open:
    tag: str
    skipped: bool
    main: bool
    pre: bool
    begins: tuple[int, str] | None = (
        None  # of a marked element: where in the paragraph as it was written, and its label
    )


class _Reader(HTMLParser):
    def __init__(self, skip: Skip, mark: Mark) -> None:
        super().__init__(convert_charrefs=True)
        self.skip, self.mark = skip, mark
        self.stack: list[_Open] = []
        self.page = Page()
        self.everything: list[tuple[str, list[Span], bool]] = []  # (paragraph, its spans, within the marked content)
        self.parts: list[str] = []
        self.spans: list[Span] = []  # of `parts` as they were written
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
        within = any(element.begins for element in self.stack)
        label = None if skipped or top.pre or within else self.mark(tag, attributes)
        begins = None if label is None else (sum(map(len, self.parts)), label)
        self.stack.append(_Open(tag, skipped, top.main or main, top.pre or tag == "pre", begins))

    def handle_endtag(self, tag: str) -> None:
        if tag in BLOCKS:
            self._end_paragraph()
        if any(element.tag == tag for element in self.stack):
            while (element := self.stack.pop()).tag != tag:
                self._end_span(element)
            self._end_span(element)

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
        kept = [(text, spans) for text, spans, main in self.everything if main or not self.marked]
        self.page.paragraphs, self.page.spans = [text for text, _ in kept], [spans for _, spans in kept]
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

    def _end_span(self, element: _Open) -> None:
        if element.begins is not None and (end := sum(map(len, self.parts))) > element.begins[0]:
            self.spans.append((element.begins[0], end, element.begins[1]))

    def _end_paragraph(self) -> None:
        text, spans = "".join(self.parts), self.spans
        self.parts, self.spans = [], []
        self.breaks = 0
        for element in self.stack:
            element.begins = None  # a marked element that holds paragraphs marks nothing
        if text.strip():
            pre = self._within("pre")
            placed = [] if pre else [found for span in spans if (found := _respaced(text, span))]
            text = text.strip("\n") if pre else " ".join(text.split())
            self.everything.append((text, placed, self._within("main")))


def _respaced(text: str, span: Span) -> Span | None:
    """Where a span of `text` is when every run of white space in that has become one space; None of white space alone."""
    first, last, label = span
    inside = text[first:last]
    if not inside.strip():
        return None
    begin = first + len(inside) - len(inside.lstrip())
    before = " ".join(text[:begin].split())
    start = len(before) + bool(before and text[begin - 1].isspace())
    return start, start + len(" ".join(inside.split())), label
