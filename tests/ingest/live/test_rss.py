"""Feeds beyond the suite: RSS, Atom and RDF as they come, conditional requests, paces, edits, hostile documents."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web

from ingest.authors import AuthorHash
from ingest.errors import BadSource, SourceUnreachable
from ingest.media.guard import Resolve
from ingest.sources.detect import SourceOptions
from ingest.sources.items import Draft, MediaLink, Skipped
from ingest.sources.lanes import FIRST_ATTEMPTS
from ingest.sources.patient_http import TryAgain
from ingest.sources.rss import Rss, open_rss
from ingest.sources.rss_document import is_well_formed, parse, read_document
from ingest.sources.rss_entries import draft_of, entry_id
from tests.ingest.live.http_stream import http_server
from tests.ingest.live.reading import reading, take, until
from tests.ingest.live.rss_upstream import made_up_feed, made_up_item
from tests.ingest.live.upstream import Waits, drafts_of, text_of

URL = "https://trams.example/feed.xml"
RECENT = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)

ATOM = f"""<?xml version="1.0" encoding="utf-8"?>
<feed xmlns="http://www.w3.org/2005/Atom" xml:lang="en"><title>Trams</title><id>urn:feed</id>
<entry><id>tag:trams.example,2026:1</id><title type="html">Late &amp;amp; crowded</title>
<link href="/posts/1"/><published>{RECENT.isoformat()}</published>
<updated>{(RECENT + timedelta(seconds=30)).isoformat()}</updated><author><name>Ann</name></author>
<summary type="html">&lt;p&gt;
The &lt;b&gt;nine&lt;/b&gt; again.&lt;/p&gt;&lt;img src="/nine.jpg" alt="a tram"&gt;</summary>
</entry></feed>"""

RDF = f"""<?xml version="1.0" encoding="iso-8859-1"?>
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/"
 xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:sy="http://purl.org/rss/1.0/modules/syndication/">
<channel rdf:about="https://trams.example/"><title>Trams</title><sy:updatePeriod>hourly</sy:updatePeriod>
<sy:updateFrequency>4</sy:updateFrequency></channel>
<item rdf:about="https://trams.example/1"><title>Verspätung am Königsplatz</title>
<link>https://trams.example/1</link><dc:date>{RECENT.isoformat()}</dc:date><dc:creator>Jörg</dc:creator></item></rdf:RDF>"""


def rss(*items: str, head: str = "") -> bytes:
    return (
        '<rss version="2.0" xmlns:media="http://search.yahoo.com/mrss/" '
        'xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd">'
        f"<channel><title>Trams</title>{head}{''.join(items)}</channel></rss>"
    ).encode()


def item(content: str, *, guid: str = "1", at: datetime = RECENT) -> str:
    return f"<item><guid isPermaLink='false'>{guid}</guid><pubDate>{format_datetime(at)}</pubDate>{content}</item>"


def drafts(body: bytes) -> list[Draft]:
    document = parse(body, url=URL, content_type="application/xml")
    return [
        draft_of(entry, entry_id(entry, URL) or "", 0, feed=document.feed, feed_url=URL, authors=AuthorHash(b"key"))
        for entry in document.entries
    ]


def only(body: bytes) -> Draft:
    (draft,) = drafts(body)
    return draft


def test_an_atom_entry() -> None:
    draft = only(ATOM.encode())
    assert draft.post.text == "Late & crowded\n\nThe nine again."
    assert (draft.post.url, draft.post.lang, draft.handle) == ("https://trams.example/posts/1", "en", "trams.example")
    assert draft.post.created_at == RECENT
    assert draft.links == (MediaLink(url="https://trams.example/nine.jpg", alt="a tram"),)


def test_an_rdf_item_in_an_old_encoding() -> None:
    document = parse(RDF.encode("iso-8859-1"), url=URL, content_type="text/xml; charset=iso-8859-1")
    assert document.pace_s == 900.0
    assert only(RDF.encode("iso-8859-1")).post.text == "Verspätung am Königsplatz"


def test_an_rss_title_may_hold_signs_that_look_like_markup() -> None:
    draft = only(rss(item("<title>1 &lt; 2 &amp; I &lt;3 trams</title>")))
    assert draft.post.text == "1 < 2 & I <3 trams"


def test_a_title_that_repeats_the_text_is_left_out() -> None:
    draft = only(rss(item("<title>The nine is</title><description>The nine is late.</description>")))
    assert draft.post.text == "The nine is late."


def test_pictures_named_as_such_come_before_those_in_the_text() -> None:
    media = "".join(
        f'<media:content type="image/jpeg" url="https://trams.example/{n}.jpg" width="{100 * n}" height="90"/>'
        for n in range(1, 7)
    )
    html = "<description>&lt;img src='https://trams.example/text.jpg'></description>"
    links = only(rss(item(media + html))).links
    assert links[0] == MediaLink(url="https://trams.example/1.jpg", width=100, height=90)
    assert len(links) == 4


def test_enclosures_and_thumbnails_are_pictures() -> None:
    enclosure = '<enclosure type="image/png" url="https://trams.example/a.png" length="1"/>'
    sound = '<enclosure type="audio/mpeg" url="https://trams.example/a.mp3" length="1"/>'
    assert [link.url for link in only(rss(item(enclosure + sound))).links] == ["https://trams.example/a.png"]
    thumbnails = "".join(
        f'<media:thumbnail url="https://trams.example/{side}.jpg" width="{side}" height="{side}"/>'
        for side in (64, 900, 300)
    )
    assert [link.url for link in only(rss(item(thumbnails))).links] == ["https://trams.example/300.jpg"]


@pytest.mark.parametrize("address", ["javascript:alert(1)", "data:image/png;base64,AA", "file:///etc/passwd", ""])
def test_only_web_addresses_are_pictures_and_links(address: str) -> None:
    draft = only(rss(item(f'<link>{address}</link><media:content medium="image" url="{address}"/>')))
    assert draft.links == () and not (draft.post.url or "").startswith(("javascript", "data", "file"))


def test_adult_feeds_are_sensitive() -> None:
    assert only(rss(item("<media:rating>adult</media:rating>"))).post.sensitive
    assert only(rss(item(""), head="<itunes:explicit>yes</itunes:explicit>")).post.sensitive
    assert not only(rss(item(""))).post.sensitive


def test_ids_are_of_the_guid_and_of_the_feed_unless_it_is_an_address() -> None:
    assert entry_id({"id": "https://a.example/1"}, "https://x.example") == entry_id({"id": "https://a.example/1"}, URL)
    assert entry_id({"id": "7"}, "https://x.example") != entry_id({"id": "7"}, URL)
    assert entry_id({}, URL) is None


@pytest.mark.parametrize("name", [b"/etc/passwd", b"http://127.0.0.1:9/feed", b"", b"<html><p>hello</p></html>", b"{}"])
async def test_what_is_no_feed_is_not_opened_as_one(name: bytes) -> None:
    with pytest.raises(TryAgain, match="no feed"):
        parse(name, url=URL, content_type="text/html")
    with pytest.raises(TryAgain, match="no feed"):
        await read_document(name, url=URL, content_type="text/html")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (rss(item("<title>late &amp; crowded</title>")), True),
        (RDF.encode("iso-8859-1"), True),
        (ATOM.encode(), True),
        (rss("<item>" * 100 + "</item>" * 100), False),
        (rss(item("<title>a & b</title>")), False),
        (rss(item("<dc:creator>ann</dc:creator>")), False),
        (rss(item("<title>caf&eacute;</title>")), False),
        (b"<!DOCTYPE rss>" + rss(), False),
        (ATOM.replace("utf-8", "utf-16").encode("utf-16"), False),
    ],
)
async def test_only_what_is_plainly_well_formed_is_read_here(body: bytes, expected: bool) -> None:
    assert is_well_formed(body) == expected


async def test_broken_documents_are_read_alike_in_a_process_apart() -> None:
    body = rss(item("<title>caf&eacute; & tram</title><description>very <b>late</b></description>"))
    document = await read_document(body, url=URL, content_type="text/xml")
    assert document.is_broken and not parse(rss(item("")), url=URL, content_type="text/xml").is_broken
    (entry,) = document.entries
    draft = draft_of(entry, "rss:1", 0, feed=document.feed, feed_url=URL, authors=AuthorHash(b"key"))
    assert draft.post.created_at == RECENT and draft.post.text.startswith("café & tram")


async def test_a_document_that_takes_too_long_is_given_up() -> None:
    """feedparser takes a quarter of a minute for it."""
    began = time.perf_counter()
    with pytest.raises(TryAgain, match="broken XML that takes more than 2 s"):
        await read_document(b"<a " * 1_000_000, url=URL, content_type="text/xml", limit_s=2.0)
    assert time.perf_counter() - began < 5.0


async def test_entities_do_not_explode() -> None:
    bomb = '<!DOCTYPE rss [<!ENTITY a "tram tram">'
    for one, other in zip("abcdefghi", "bcdefghij", strict=True):
        bomb += f'<!ENTITY {other} "{f"&{one};" * 10}">'
    document = await read_document(
        bomb.encode() + b"]>" + rss(item("<title>&j;</title>")), url=URL, content_type="text/xml"
    )
    assert all(len(entry.get("title", "")) < 10_000 for entry in document.entries)


async def test_files_are_not_read_by_entities() -> None:
    body = b'<!DOCTYPE rss [<!ENTITY x SYSTEM "file:///etc/hostname">]>' + rss(item("<title>a &x; b</title>"))
    document = await read_document(body, url=URL, content_type="text/xml")
    (entry,) = document.entries
    assert entry["title"].replace("&x;", "").split() == ["a", "b"]


@pytest.mark.parametrize("prefix", ["", "&nbsp;"])
async def test_a_document_feedparser_stumbles_over_is_told(prefix: str) -> None:
    """feedparser raises KeyError('where')."""
    body = rss(item(f"<title>late{prefix}</title>"), "<item><gml:posList>1</gml:posList></item>")
    body = body.replace(b"<rss ", b'<rss xmlns:gml="http://www.opengis.net/gml" ')
    with pytest.raises(TryAgain, match="feedparser cannot read \\(KeyError\\)" if not prefix else "no feed"):
        await read_document(body, url=URL, content_type="text/xml")


@pytest.mark.parametrize("ttl", ["nan", "inf", "1e999"])
def test_a_pace_that_is_no_number_is_none(ttl: str) -> None:
    body = rss(item("<title>late</title>"), head=f"<ttl>{ttl}</ttl>")
    assert parse(body, url=URL, content_type="application/xml").pace_s is None


class Site:
    """A site with feeds under a test's hand: path → how to answer."""

    def __init__(self, address: str, answers: dict[str, Callable[[web.Request], web.Response]]) -> None:
        self.address, self.answers = address, answers
        self.requests: list[web.Request] = []

    def show(self, body: bytes, path: str = "/feed.xml", **headers: str) -> None:
        self.answers[path] = lambda request: web.Response(body=body, headers=headers, content_type="text/xml")

    def refuse(self, status: int, path: str = "/feed.xml", **headers: str) -> None:
        self.answers[path] = lambda request: web.Response(status=status, headers=headers)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    answers: dict[str, Callable[[web.Request], web.Response]] = {}

    async def answer(request: web.Request) -> web.Response:
        opened.requests.append(request)
        return answers[request.path](request)

    async with http_server({"GET /{path:.*}": answer}) as address:
        opened = Site(address, answers)
        yield opened


def feeds(
    site: Site, *paths: str, cursor: str | None = None, waits: Waits | None = None, resolve: Resolve | None = None
) -> Rss:
    return Rss(
        authors=AuthorHash(b"key"),
        feeds=[site.address + path for path in paths or ("/feed.xml",)],
        cursor=cursor,
        sleep=waits or Waits(),
        deadline_s=2.0,
        resolve=resolve,
    )


async def test_an_unchanged_feed_is_asked_for_by_etag_and_date(site: Site) -> None:
    told = {"ETag": '"made-up"', "Last-Modified": "Sun, 22 Nov 2026 10:00:00 GMT"}
    site.show(made_up_feed([made_up_item(1)]), **told)
    source = feeds(site)
    async with reading(source) as items:
        await until(lambda: len(site.requests) > 1)
        site.refuse(304)
        await until(lambda: len(site.requests) > 3)
    assert "If-None-Match" not in site.requests[0].headers
    again = site.requests[-1].headers
    assert (again["If-None-Match"], again["If-Modified-Since"]) == ('"made-up"', told["Last-Modified"])
    assert len(items) == 1
    site.requests.clear()
    async with reading(feeds(site, cursor=source.cursor)):
        await until(lambda: site.requests)
    assert site.requests[0].headers["If-None-Match"] == '"made-up"'


async def test_a_document_read_in_part_is_read_again(site: Site) -> None:
    site.show(made_up_feed([made_up_item(2), made_up_item(1)]), ETag='"made-up"')
    source = feeds(site)
    await take(source, 1)
    assert source.cursor is not None and "made-up" not in source.cursor
    assert [draft.post.text for draft in drafts_of(await take(feeds(site, cursor=source.cursor), 2))] == [
        text_of(1),
        text_of(2),
    ]


@pytest.mark.parametrize(
    ("head", "headers", "pace_s"),
    [
        ("", {}, 300),
        ("<ttl>1</ttl>", {}, 60),
        ("<ttl>10</ttl>", {}, 600),
        ("<ttl>soon</ttl>", {}, 300),
        ("<ttl>100000</ttl>", {}, 3600),
        ("", {"Cache-Control": "public, max-age=1200"}, 1200),
        ("<ttl>10</ttl>", {"Cache-Control": "max-age=0"}, 600),
    ],
)
async def test_a_feed_is_polled_at_its_pace(site: Site, head: str, headers: dict[str, str], pace_s: int) -> None:
    site.show(rss(item("<title>late</title>"), head=head), **headers)
    waits = Waits()
    async with reading(feeds(site, waits=waits)):
        await until(lambda: waits.seconds)
    assert waits.seconds[0] == pace_s


async def test_a_busy_site_is_left_alone_as_long_as_it_asks(site: Site) -> None:
    site.refuse(429, **{"Retry-After": "1234"})
    waits = Waits()
    async with reading(feeds(site, waits=waits)):
        await until(lambda: 1234.0 in waits.seconds)


async def test_a_feed_that_moved_is_read_at_its_new_place(site: Site) -> None:
    site.show(made_up_feed([made_up_item(1)]), path="/new.xml")
    site.refuse(301, Location="/new.xml")
    async with reading(feeds(site)) as items:
        await until(lambda: len(site.requests) > 4)
    assert [request.path for request in site.requests][:4] == ["/feed.xml", "/new.xml", "/new.xml", "/new.xml"]
    assert len(items) == 1


class Names:
    """A resolver under a test's hand: host → addresses."""

    def __init__(self, **addresses: Sequence[str]) -> None:
        self.addresses, self.asked = addresses, list[str]()

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        if host not in self.addresses:
            raise OSError("no such name")
        return self.addresses[host]


@pytest.mark.parametrize("status", [301, 302])
@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("93.184.216.34", "10.0.0.1"), ("::1",), ()])
async def test_a_redirect_into_a_private_network_is_refused(
    site: Site, status: int, addresses: tuple[str, ...]
) -> None:
    site.show(made_up_feed([made_up_item(1)]), path="/new.xml")
    site.refuse(301, path="/step.xml", Location=site.address.replace("127.0.0.1", "localhost") + "/new.xml")
    site.refuse(status, Location="/step.xml")
    source = feeds(site, resolve=Names(localhost=addresses))
    with pytest.raises(SourceUnreachable, match="a redirect to localhost, whose address is not public"):
        await take(source, 1)
    assert {request.path for request in site.requests} == {"/feed.xml", "/step.xml"}
    assert [request.path for request in site.requests].count("/feed.xml") == FIRST_ATTEMPTS, "it did not move"
    assert source.state.skipped["redirect to an address that is not public"] == FIRST_ATTEMPTS


async def test_a_redirect_to_a_public_host_is_followed_and_checked_at_every_poll(site: Site) -> None:
    site.show(made_up_feed([made_up_item(1)]), path="/new.xml")
    site.refuse(301, Location=site.address.replace("127.0.0.1", "localhost") + "/new.xml")
    names = Names(localhost=("93.184.216.34",))
    source = feeds(site, resolve=names)
    async with reading(source) as items:
        await until(lambda: len(site.requests) > 3)
        assert [request.path for request in site.requests][:3] == ["/feed.xml", "/new.xml", "/new.xml"]
        names.addresses = {"localhost": ("127.0.0.1",)}
        await until(lambda: "whose address is not public" in source.state.detail)
    assert len(items) == 1 and set(names.asked) == {"localhost"}


@pytest.mark.parametrize(
    ("there", "problem"),
    [
        ("/feed.xml", "redirects in a circle"),
        ("http://nowhere.example/", "a redirect to nowhere.example, a name without address"),
        ("http://a:b/", "connection lost"),
        ("file:///etc/passwd", "name without address"),
    ],
)
async def test_a_redirect_to_nowhere_ends_in_one_line(site: Site, there: str, problem: str) -> None:
    site.refuse(302, Location=there)
    with pytest.raises(SourceUnreachable, match=problem):
        await take(feeds(site, resolve=Names()), 1)


async def test_a_password_goes_along_on_its_own_host_only(site: Site) -> None:
    site.show(made_up_feed([made_up_item(1)]), path="/new.xml")
    site.refuse(302, Location=site.address + "/near.xml")
    site.refuse(302, path="/near.xml", Location=site.address.replace("127.0.0.1", "localhost") + "/new.xml")
    source = Rss(
        authors=AuthorHash(b"key"),
        feeds=[site.address.replace("//", "//me:word@") + "/feed.xml"],
        sleep=Waits(),
        deadline_s=2.0,
        resolve=Names(localhost=("93.184.216.34",)),
    )
    await take(source, 1)
    assert ["Authorization" in request.headers for request in site.requests[:3]] == [True, True, False]


@pytest.mark.parametrize("status", [401, 410])
async def test_a_feed_that_is_gone_ends_alone(site: Site, status: int) -> None:
    site.show(made_up_feed([made_up_item(1)]))
    site.refuse(status, path="/gone.xml")
    source = feeds(site, "/feed.xml", "/gone.xml")
    async with reading(source) as items:
        await until(lambda: items and f"HTTP {status}" in source.state.detail)
        assert source.state.phase == "live" and source.state.detail.startswith("1 of 2 live")
    with pytest.raises(SourceUnreachable, match=f"nothing is left to read: HTTP {status}"):
        await take(feeds(site, "/gone.xml"), 1)


async def test_a_page_that_is_no_feed_ends_in_one_line(site: Site) -> None:
    site.show(b"<html><body>hello</body></html>")
    with pytest.raises(SourceUnreachable, match="an answer that is no feed"):
        await take(feeds(site), 1)


async def test_a_dated_edit_is_a_higher_revision(site: Site) -> None:
    site.show(made_up_feed([made_up_item(1)]))
    async with reading(feeds(site)) as items:
        await until(lambda: items)
        site.show(made_up_feed([made_up_item(1, edit=1)]))
        await until(lambda: len(items) == 2)
    first, second = (draft.post for draft in drafts_of(items))
    assert first.id == second.id and (first.revision, second.revision) == (0, 20)
    assert second.text == text_of(1, 1)


async def test_an_edit_without_a_date_is_a_higher_revision_too(site: Site) -> None:
    async with reading(feeds(site)) as items:
        for count, word in enumerate(("late", "very late", "gone"), 1):
            site.show(rss(item(f"<title>{word}</title>")))
            await until(lambda: len(items) == count)  # noqa: B023  # awaited at once
    revisions = [draft.post.revision for draft in drafts_of(items)]
    assert revisions == sorted(set(revisions)) and all(revision % 2 == 0 for revision in revisions)


async def test_old_entries_are_counted_and_undated_ones_are_of_now(site: Site) -> None:
    old = item("<title>old</title>", guid="old", at=RECENT - timedelta(days=3))
    site.show(rss(old, "<item><title>undated</title></item>"))
    items = await take(feeds(site), 2)
    (draft,) = drafts_of(items)
    assert draft.warnings == ("no date: taken as now",) and draft.post.text == "undated"
    assert [skipped.reason for skipped in items if isinstance(skipped, Skipped)] == ["older than two days"]


async def test_a_feed_that_turned_over_may_have_a_gap(site: Site) -> None:
    site.show(made_up_feed([made_up_item(1)]))
    source = feeds(site)
    async with reading(source) as items:
        await until(lambda: items)
        site.show(made_up_feed([made_up_item(3), made_up_item(2)]))
        await until(lambda: len(items) == 3)
    assert source.state.gaps[0].endswith("all 2 entries are new: others may have left the feed unread")


async def test_broken_xml_is_read_as_far_as_it_goes(site: Site) -> None:
    site.show(made_up_feed([made_up_item(1), "<item><title>a & b", made_up_item(2)]))
    source = feeds(site)
    async with reading(source) as items:
        await until(lambda: text_of(1) in {draft.post.text for draft in drafts_of(items)})
    assert source.state.skipped["broken XML, read as far as it goes"] >= 1


async def test_a_key_in_an_address_is_not_shown(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    site.show(made_up_feed([made_up_item(1)]))
    source = feeds(site, "/feed.xml?key=made-up-key")
    items = await take(source, 1)
    assert "made-up-key" not in f"{source.state} {source.cursor} {caplog.text} {source!r} {items}"


@pytest.mark.parametrize(
    "address", ["trams.example/feed", "file:///etc/passwd", "ftp://trams.example", "https://", "http://["]
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(BadSource, match="is no feed's address"):
        Rss(authors=AuthorHash(b"key"), feeds=(address,))


def test_a_refused_address_shows_no_secret() -> None:
    with pytest.raises(BadSource) as refusal:
        Rss(authors=AuthorHash(b"key"), feeds=("ftp://me:word@trams.example/feed?key=made-up",))
    assert "word" not in str(refusal.value) and "made-up" not in str(refusal.value)


@pytest.mark.parametrize("changes", [{}, {"hosts": ("https://trams.example",), "channels": (URL,)}])
def test_feeds_are_named_as_channels(changes: dict[str, Any]) -> None:
    with pytest.raises(BadSource):
        open_rss(SourceOptions(authors=AuthorHash(b"key"), **changes))


def test_media_hosts_are_the_feeds_own() -> None:
    source = Rss(authors=AuthorHash(b"key"), feeds=(URL, "https://me:word@trams.example/b", "http://127.0.0.1:80/c"))
    assert source.media_hosts == ("trams.example", "127.0.0.1:80")
