"""HTML as people write it in posts and feeds → plain text with its line breaks, and the pictures in it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Final, NamedTuple

MAX_CHARS: Final = 20_000
"""More than any post has; beyond it a text is cut before it is parsed."""

_BREAKS: Final = frozenset({"br", "li", "tr", "dt", "dd", "option"})
_PARAGRAPHS: Final = frozenset(
    {"p", "div", "blockquote", "pre", "ul", "ol", "dl", "table", "h1", "h2", "h3", "h4", "h5", "h6", "hr"}
    | {"section", "article", "header", "footer", "figure", "figcaption"}
)
_UNSEEN: Final = frozenset({"script", "style", "template", "noscript", "head", "title", "iframe", "object", "svg"})
_VOID: Final = frozenset({"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"})
_SPACES: Final = re.compile(r"[ \t\r\f\v\u00a0]+")
_DECLARATION: Final = re.compile(r"<[!?][^<>]*>")
_NO_TAG: Final = re.compile(r"<(?![^<>!?][^<>]*>)")
_NO_NUMBER: Final = re.compile(r"&#[0-9]{1000,};?")
"""Python reads no number of more than 4,300 digits."""
_TOO_MANY_BREAKS: Final = re.compile(r"\n{3,}")


class HtmlImage(NamedTuple):
    """An <img>: its address as written, its description."""

    src: str
    alt: str


class Readable(NamedTuple):
    """What of HTML can be read."""

    text: str
    images: tuple[HtmlImage, ...] = ()


def read_html(html: str) -> Readable:
    """Paragraphs are parted by an empty line, <br> is a line break, entities are characters.

    Mastodon hides the ends of a long link from the eye (`invisible` spans): read as text they make the link whole.
    Its `quote-inline` paragraph only repeats the address of a quoted post, and is left out.
    """
    parser = _Parser()
    parser.feed(_tame(html[:MAX_CHARS]))
    parser.close()
    lines = (_SPACES.sub(" ", line).strip() for line in "".join(parser.parts).split("\n"))
    return Readable(_TOO_MANY_BREAKS.sub("\n\n", "\n".join(lines)).strip(), tuple(parser.images))


def _tame(html: str) -> str:
    """Without comments and declarations, and each < that begins no tag escaped.

    At "<a <a <a …" html.parser takes minutes, and at "<![foo[x]]>" or a number without end it raises.
    """
    parts, start = [], 0
    while (opened := html.find("<!--", start)) >= 0:
        parts.append(html[start:opened])
        closed = html.find("-->", opened + 4)
        start = closed + 3 if closed >= 0 else len(html)
    tags = _DECLARATION.sub("", "".join((*parts, html[start:])))
    return _NO_NUMBER.sub("\ufffd", _NO_TAG.sub("&lt;", tags))


def plain(html: str) -> str:
    """The text alone."""
    if "<" not in html and "&" not in html:
        return html.strip()
    return read_html(html).text


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.images: list[HtmlImage] = []
        self._pre = 0
        self._unseen: list[str] = []
        """Open elements from the one that is not shown on; empty while text is seen."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._unseen:
            if tag not in _VOID:
                self._unseen.append(tag)
            return
        attributes = dict(attrs)
        if tag in _UNSEEN or "quote-inline" in (attributes.get("class") or "").split():
            if tag not in _VOID:
                self._unseen.append(tag)
        elif tag == "img":
            self._image(attributes)
        elif tag in _BREAKS:
            self.parts.append("\n")
        elif tag in _PARAGRAPHS:
            self._pre += tag == "pre"
            self.parts.append("\n\n")

    def handle_endtag(self, tag: str) -> None:
        if self._unseen:
            if tag in self._unseen:  # what was left open inside closes with it
                while self._unseen.pop() != tag:
                    pass
        elif tag in _PARAGRAPHS:
            self._pre = max(0, self._pre - (tag == "pre"))
            self.parts.append("\n\n")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.parts.append(data if self._pre else data.replace("\n", " "))

    def _image(self, attributes: dict[str, str | None]) -> None:
        alt = (attributes.get("alt") or "").strip()
        if src := (attributes.get("src") or "").strip():
            self.images.append(HtmlImage(src, alt))
        if alt and "emoji" in (attributes.get("class") or ""):  # a word of the text, drawn
            self.parts.append(alt)
