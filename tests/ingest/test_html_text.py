"""HTML becomes the text a reader sees, whatever state it is in."""

from __future__ import annotations

import time

import pytest

from ingest.sources.html_text import HtmlImage, plain, read_html


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("", ""),
        ("no markup", "no markup"),
        ("<p>one</p><p>two</p>", "one\n\ntwo"),
        ("<p>one<br>two<br/>three</p>", "one\ntwo\nthree"),
        ("a\n   lot\tof&nbsp;&nbsp;space", "a lot of space"),
        ("<pre>keep\n  lines</pre>", "keep\nlines"),
        ("<ul><li>one</li><li>two</li></ul>", "one\ntwo"),
        ("caf&eacute; &amp; &lt;b&gt; &#128651; &#x1F68B; &hearts;", "café & <b> 🚋 🚋 ♥"),
        ("a &nosuch; b & c", "a &nosuch; b & c"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("I <3 trams", "I <3 trams"),
        (
            '<p>#<span>Tram</span> by <a class="u-url mention" href="https://x.example/@ann">@<span>ann</span></a></p>',
            "#Tram by @ann",
        ),
        ("a<script>alert(1)</script>b<style>p{}</style>c", "abc"),
        ("a<!-- hidden <b>even so</b> -->b", "ab"),
        ("a<!-- never closed", "a"),
        ("<p>never <b>closed", "never closed"),
        ("</p></div>stray", "stray"),
        ("<p>tail <a href='", "tail <a href='"),
        ('<p>look :<img class="custom-emoji" alt=":tram:" src="https://x.example/t.png">:</p>', "look ::tram::"),
    ],
)
def test_text_is_what_a_reader_sees(html: str, text: str) -> None:
    assert plain(html) == text


def test_a_link_that_mastodon_shortens_is_whole() -> None:
    link = (
        '<a href="https://trams.example/lines/nine/today"><span class="invisible">https://</span>'
        '<span class="ellipsis">trams.example/lines</span><span class="invisible">/nine/today</span></a>'
    )
    assert plain(f"<p>see {link}</p>") == "see https://trams.example/lines/nine/today"


def test_the_address_of_a_quoted_post_is_left_out() -> None:
    assert (
        plain('<p class="quote-inline">RE: <a href="https://x.example/1">x.example/1</a></p><p>so true</p>')
        == "so true"
    )


def test_pictures_are_found() -> None:
    html = '<p>a <img src="https://x.example/1.jpg" alt="a tram"><img alt="none"></p>'
    assert read_html(html).images == (HtmlImage("https://x.example/1.jpg", "a tram"),)


@pytest.mark.parametrize(
    "bad",
    [
        "<",
        "<a ",
        "<a>",
        "<!--",
        "<![CDATA[",
        "<![CDATA[>",
        "<![",
        "<!",
        "</",
        "<?",
        "&",
        "&#",
        "<script>",
        "<div>",
        "<a b='>",
        "=",
        "<!-->",
    ],
)
def test_no_markup_takes_long(bad: str) -> None:
    """html.parser alone takes minutes for some of these."""
    began = time.perf_counter()
    plain(bad * (1_000_000 // len(bad)))
    assert time.perf_counter() - began < 2.0


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("late<![foo[x]]> again", "late again"),
        ("late<![ x ]> again", "late again"),
        ("<!DOCTYPE html [<!FOO>]><p>late</p>", "<!DOCTYPE html []>\n\nlate"),
        ("<!DOCTYPE html><?xml version='1.0'?><p>late</p>", "late"),
        ("<<!x>![foo[x]]>late", "<![foo[x]]>late"),
        ("<![foo[<b>late</b>]]>", "<![foo[late]]>"),
        (f"<p title='&#{'9' * 5000};'>late &#{'9' * 5000};</p>", "late \ufffd"),
        ("a <> b", "a <> b"),
    ],
)
def test_declarations_and_endless_numbers_do_not_raise(html: str, text: str) -> None:
    """html.parser raises AssertionError and ValueError for some of these."""
    assert plain(html) == text
