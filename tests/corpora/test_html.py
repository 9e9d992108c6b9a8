"""Paragraphs of pages, well made and not."""

from overture.corpora import html


def test_a_page_becomes_its_paragraphs() -> None:
    page = html.read(
        """<!DOCTYPE html><html lang="es"><head><title> The
        title </title><style>p {color: red}</style><script>var x = "<p>no</p>";</script></head>
        <body><h1>Heading</h1><p>One <b>bold</b>,<i> slanted</i> &amp; &eacute;<a href="x">link</a>.</p>
        <ul><li>first<li>second <p>more</p></ul>
        <table><tr><td>a</td><td>b</td></tr></table>
        <pre>def f():
    return 1
</pre><!-- said to nobody --></body></html>"""
    )
    assert page.title == "The title" and page.language == "es"
    assert page.paragraphs == [
        "Heading", "One bold, slanted & élink.", "first", "second", "more", "a", "b", "def f():\n    return 1",
    ]  # fmt: skip


def test_what_serves_the_site_is_left_out() -> None:
    page = html.read(
        '<body><header>Site</header><nav><p>menu</p></nav><p>text</p><aside>also</aside><div hidden>no</div><p aria-hidden="true">no</p>'
        '<div role="navigation">no</div><form><select><option>no</select><p>asked</p></form><footer>(c)</footer><svg><title>no</title></svg></body>'
    )
    assert page.paragraphs == ["text", "asked"] and page.title == ""


def test_only_the_marked_content_is_read_where_there_is_one() -> None:
    page = html.read("<p>around</p><main><header>Its own head</header><p>inside</p></main><p>below</p>")
    assert page.paragraphs == ["Its own head", "inside"]
    assert html.read('<div>x</div><div role="main">y</div>').paragraphs == ["y"]
    assert html.read("<div>x</div>y").paragraphs == ["x", "y"]


def test_paragraphs_that_nobody_closed() -> None:
    assert html.read("<p>one<p>two<div>three</div>four<dl><dt>term<dd>told<dt>next</dl>").paragraphs == [
        "one", "two", "three", "four", "term", "told", "next",
    ]  # fmt: skip
    assert html.read("</p></div>loose</b> <p>end").paragraphs == ["loose", "end"]
    assert html.read("<head><meta charset=utf-8><body><p>a head that nobody closed").paragraphs == [
        "a head that nobody closed"
    ]


def test_two_breaks_end_a_paragraph_and_one_does_not() -> None:
    assert html.read("<p>a<br>b<br><br/>c</p>").paragraphs == ["a b", "c"]
    assert html.read("<pre>a<br>  b</pre>").paragraphs == ["a\n  b"]


def test_one_may_say_what_else_is_left_out() -> None:
    def skip(tag: str, attributes: html.Attributes) -> bool:
        return attributes.get("class") == "x" or html.skip_usual(tag, attributes)

    assert html.read('<p class="x">no</p><p>yes <span class="x">no</span>too</p><nav>no</nav>', skip).paragraphs == [
        "yes too"
    ]


def test_what_is_marked_within_paragraphs_keeps_its_place() -> None:
    def mark(tag: str, attributes: html.Attributes) -> str | None:
        return attributes.get("class") if tag == "code" else None

    page = html.read(
        '<p>One  <code class="f"> a\n b </code>, <b><code class="g"><code class="h">c</code></code></b>\n<code>d</code><code class="i"> </code></p>'
        '<pre>x <code class="f">no</code></pre><p><code class="f">open<p>next <code class="f">e</code></p><nav><code class="f">no</code></nav>',
        mark=mark,
    )
    assert page.paragraphs == ["One a b , c d", "x no", "open", "next e"]
    found = [[(text[a:b], label) for a, b, label in own] for text, own in zip(page.paragraphs, page.spans)]
    assert found == [[("a b", "f"), ("c", "g")], [], [], [("e", "f")]]
