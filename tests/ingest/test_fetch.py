"""Servers that answer badly, slowly, endlessly or falsely, and how politely they are asked all the same."""

from __future__ import annotations

import asyncio
import gzip
import shutil
import socket
import ssl
import subprocess
import time
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from ingest.errors import MalformedMedia, MediaUnavailable
from ingest.media.fetch import MediaFetcher
from ingest.media.sanitize import MAX_BYTES, make_safe
from tests.ingest.hostile_pictures import MARK, photo
from tests.ingest.hostile_server import HostileServer, Talk, answer, redirect

JPEG: Final = photo("JPEG")
TYPE: Final = "Content-Type: image/jpeg"
PICTURE: Final = answer(JPEG, TYPE)
HEAD: Final = f"HTTP/1.1 200 OK\r\n{TYPE}\r\n"


@pytest.fixture
async def server() -> AsyncIterator[HostileServer]:
    async with HostileServer({"/a.jpg": PICTURE}) as server:
        yield server


@pytest.fixture
async def fetcher(server: HostileServer) -> AsyncIterator[MediaFetcher]:
    async with MediaFetcher(allowed=[server.address, "cdn.example.org"], total_s=5) as fetcher:
        yield fetcher


async def reason_of(fetcher: MediaFetcher, link: str) -> str:
    with pytest.raises(MediaUnavailable) as raised:
        await fetcher.fetch(link)
    return raised.value.reason


def dripping(data: bytes, *, at_once: int = 1) -> Talk:
    async def talk(writer: asyncio.StreamWriter) -> None:
        for start in range(0, len(data), at_once):
            writer.write(data[start : start + at_once])
            await writer.drain()
            await asyncio.sleep(0.01)

    return talk


def without_end(head: bytes, part: bytes) -> Talk:
    async def talk(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(part)
            await writer.drain()

    return talk


def then_closed(data: bytes, *, abruptly: bool = False) -> Talk:
    async def talk(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if abruptly:
            writer.transport.abort()
        raise ConnectionResetError

    return talk


def chunked(*parts: bytes, ending: bytes = b"0\r\n\r\n") -> bytes:
    body = b"".join(f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in parts)
    return (HEAD + "Transfer-Encoding: chunked\r\n\r\n").encode() + body + ending


async def silence(writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def test_a_picture_comes_as_it_is_and_says_what_we_want(fetcher: MediaFetcher, server: HostileServer) -> None:
    assert await fetcher.fetch(server.url("/a.jpg")) == JPEG
    (request,) = server.requests
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in request[1:])}
    assert request[0] == "GET /a.jpg HTTP/1.1"
    assert headers["host"] == server.address
    assert headers["user-agent"].startswith("Moodstream")
    assert headers["accept-encoding"] == "identity"
    assert headers["accept"].startswith("image/jpeg")
    assert set(headers) == {"host", "user-agent", "accept", "accept-encoding", "connection"}
    assert (fetcher.fetched, fetcher.cached, fetcher.refused) == (1, 0, {})


GOOD: Final[dict[str, bytes | Talk]] = {
    "chunked": chunked(JPEG[:7], JPEG[7:]),
    "chunk by chunk of one byte": chunked(*(bytes((byte,)) for byte in JPEG[:300]), JPEG[300:]),
    "ended by closing": then_closed((HEAD + "\r\n").encode() + JPEG),
    "type with a parameter": answer(JPEG, "Content-Type: Image/JPEG; charset=binary"),
    "type by its old name": answer(JPEG, "Content-Type: image/pjpeg"),
    "identity said aloud": answer(JPEG, TYPE, "Content-Encoding: identity"),
    "in ten parts": dripping(PICTURE, at_once=1 + len(PICTURE) // 10),
    "informational answer first": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + PICTURE,
    "bytes behind the body": PICTURE + b"HTTP/1.1 200 OK\r\n\r\n",
}

BAD: Final[dict[str, tuple[bytes | Talk, str]]] = {
    # slow
    "silence": (silence, "too slow"),
    "headers byte by byte": (dripping(PICTURE), "too slow"),
    "headers without end, slowly": (dripping(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 10_000), "too slow"),
    "body byte by byte": (dripping(PICTURE, at_once=200), "too slow"),
    "informational answers without end": (
        without_end(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 50),
        "too slow",
    ),
    # endless or large
    "body without end": (without_end((HEAD + "\r\n").encode() + JPEG, bytes(1 << 20)), "too large"),
    "chunks without end": (
        without_end(chunked(JPEG, ending=b""), b"100000\r\n" + bytes(1 << 20) + b"\r\n"),
        "too large",
    ),
    "length beyond the limit": (answer(JPEG, TYPE, length=MAX_BYTES + 1), "too large"),
    "length of an exabyte": (answer(JPEG, TYPE, length=10**18), "too large"),
    "headers of 300 KB": (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 300_000 + b"\r\n\r\n", "broken response"),
    # packed
    "gzip bomb": (answer(gzip.compress(bytes(50_000_000)), TYPE, "Content-Encoding: gzip"), "content encoding"),
    "gzip": (answer(gzip.compress(JPEG), TYPE, "Content-Encoding: gzip"), "content encoding"),
    "deflate": (answer(zlib.compress(JPEG), TYPE, "Content-Encoding: deflate"), "content encoding"),
    "brotli": (answer(JPEG, TYPE, "Content-Encoding: br"), "content encoding"),
    "two encodings": (answer(JPEG, TYPE, "Content-Encoding: identity, gzip"), "content encoding"),
    "gzip not said": (answer(gzip.compress(JPEG), TYPE), "not what its type says"),
    "gzip as transfer": (
        (HEAD + "Transfer-Encoding: gzip\r\n\r\n").encode() + gzip.compress(JPEG),
        "broken response",
    ),
    # not what it should be
    "html": (answer(MARK, "Content-Type: text/html"), "content type"),
    "svg": (answer(b"<svg/>", "Content-Type: image/svg+xml"), "content type"),
    "avif": (answer(JPEG, "Content-Type: image/avif"), "content type"),
    "any image": (answer(JPEG, "Content-Type: image/*"), "content type"),
    "bytes of any kind": (answer(JPEG, "Content-Type: application/octet-stream"), "content type"),
    "no type": (answer(JPEG), "content type"),
    "html as jpeg": (answer(b"<!doctype html>" + MARK, TYPE), "not what its type says"),
    "svg as png": (answer(b"<svg/>" + bytes(20), "Content-Type: image/png"), "not what its type says"),
    "jpeg as png": (answer(JPEG, "Content-Type: image/png"), "not what its type says"),
    "blanks before the jpeg": (answer(b"\r\n" + JPEG, TYPE), "not what its type says"),
    "html before the jpeg": (answer(MARK + JPEG, TYPE), "not what its type says"),
    "two bytes": (answer(b"\xff\xd8", TYPE), "not what its type says"),
    "no bytes": (answer(b"", TYPE), "empty"),
    "html as jpeg without end": (without_end((HEAD + "\r\n").encode(), MARK * 100), "not what its type says"),
    # broken
    "length beyond the body": (then_closed(answer(JPEG, TYPE, length=len(JPEG) + 1)), "broken response"),
    "two lengths": (answer(JPEG, TYPE, "Content-Length: 7"), "broken response"),
    "length below zero": (answer(JPEG, TYPE, length=-1), "broken response"),
    "length in words": (PICTURE.replace(b"Content-Length: ", b"Content-Length: about "), "broken response"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n" + bytes(100) + b"\r\n\r\n", "broken response"),
    "HTTP 0.9": (then_closed(JPEG), "broken response"),
    "bad status": (b"HTTP/1.1 2OO OK\r\n\r\n", "broken response"),
    "bad header": (b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n", "broken response"),
    "zero byte in a header": (b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n", "broken response"),
    "bad chunk size": (chunked(JPEG, ending=b"zz\r\n"), "broken response"),
    "chunk size of 2^80": (chunked(JPEG, ending=b"1" + b"0" * 20 + b"\r\n"), "broken response"),
    "closed at once": (then_closed(b""), "broken response"),
    "closed within the headers": (then_closed(PICTURE[:30]), "broken response"),
    "closed within a chunk": (then_closed(chunked(JPEG, ending=b"ff\r\nabc")), "broken response"),
    "reset within the body": (then_closed(answer(JPEG, TYPE, length=10**6), abruptly=True), "broken response"),
    "another protocol": (answer(b"", "Upgrade: websocket", status="101 Switching Protocols"), "broken response"),
    # statuses
    "204": (answer(status="204 No Content"), "HTTP 204"),
    "206": (answer(JPEG, TYPE, status="206 Partial Content"), "HTTP 206"),
    "304": (answer(status="304 Not Modified"), "HTTP 304"),
    "401 that asks for a password": (
        answer(b"", 'WWW-Authenticate: Basic realm="x"', status="401 Unauthorized"),
        "HTTP 401",
    ),
    "403": (answer(JPEG, TYPE, status="403 Forbidden"), "HTTP 403"),
    "404 with a picture": (answer(JPEG, TYPE, status="404 Not Found"), "HTTP 404"),
    "410": (answer(status="410 Gone"), "HTTP 410"),
    "429": (answer(status="429 Too Many Requests"), "HTTP 429"),
    "500": (answer(status="500 Oops"), "HTTP 500"),
    "503": (answer(status="503 Busy"), "HTTP 503"),
    # redirects
    "redirect to itself": (redirect("/x"), "too many redirects"),
    "redirect without target": (answer(status="302 Found"), "HTTP 302"),
    "redirect with an empty target": (redirect(""), "HTTP 302"),
    "300": (answer(b"", "Location: /a.jpg", status="300 Choices"), "HTTP 300"),
    "redirect to metadata": (redirect("http://169.254.169.254/latest/"), "host not allowed"),
    "redirect to loopback": (redirect("https://127.0.0.1/"), "host not allowed"),
    "redirect to another port": (redirect("http://127.0.0.1:1/"), "host not allowed"),
    "redirect to another host": (redirect("https://evil.test/"), "host not allowed"),
    "redirect to another host without scheme": (redirect("//evil.test/"), "host not allowed"),
    "redirect to a backslash": (redirect("https:\\\\evil.test/"), "broken response"),
    "redirect to http": (redirect("http://cdn.example.org/"), "not https"),
    "redirect to another port of a listed host": (redirect("https://cdn.example.org:22/"), "port not allowed"),
    "redirect to a listed name at a private address": (redirect("https://cdn.example.org/"), "address not public"),
    "redirect to credentials": (redirect("https://a:b@cdn.example.org/"), "credentials in URL"),
    "redirect to a file": (redirect("file:///etc/passwd"), "bad URL"),
    "redirect to data": (redirect("data:image/png;base64,AAAA"), "broken response"),
    "redirect to a script": (redirect("javascript:alert(1)"), "broken response"),
    "redirect to ftp": (redirect("ftp://cdn.example.org/"), "not https"),
    "redirect to half a bracket": (redirect("http://[::1"), "broken response"),
    "redirect to a bad port": (redirect("https://cdn.example.org:x/"), "broken response"),
    "redirect to a name that does not decode": (redirect("https://xn--zzzz/"), "broken response"),
}


@pytest.mark.parametrize("name", GOOD)
async def test_an_honest_answer_of_any_form_is_taken(name: str, fetcher: MediaFetcher, server: HostileServer) -> None:
    server.pages["/x"] = GOOD[name]
    assert await fetcher.fetch(server.url("/x")) == JPEG


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_answer_is_refused(name: str, server: HostileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    page, expected = BAD[name]
    server.pages["/x"] = page

    async def resolve(host: str, port: int) -> list[str]:
        return ["10.0.0.1"] if host == "cdn.example.org" else [host]

    limit_s = 0.4 if expected == "too slow" else 5
    async with MediaFetcher(allowed=[server.address, "cdn.example.org"], total_s=limit_s, resolve=resolve) as fetcher:
        started = time.monotonic()
        assert await reason_of(fetcher, server.url("/x")) == expected
        assert time.monotonic() - started < 3
        assert fetcher.refused == {expected: 1}
        if not fetcher.resting_hosts():
            assert await fetcher.fetch(server.url("/a.jpg")) == JPEG  # the connection is not left in disorder


async def test_a_picture_shorter_than_it_was_is_left_to_the_decoder(
    fetcher: MediaFetcher, server: HostileServer
) -> None:
    server.pages["/x"] = answer(JPEG[:1000], TYPE)
    data = await fetcher.fetch(server.url("/x"))
    with pytest.raises(MalformedMedia):
        make_safe(data)


async def test_three_redirects_are_followed_and_no_fourth(fetcher: MediaFetcher, server: HostileServer) -> None:
    server.pages |= {f"/{n}": redirect(f"/{n - 1}" if n > 1 else "a.jpg") for n in (1, 2, 3, 4)}
    assert await fetcher.fetch(server.url("/3")) == JPEG
    assert await reason_of(fetcher, server.url("/4")) == "too many redirects"


async def test_cookies_are_not_kept(fetcher: MediaFetcher, server: HostileServer) -> None:
    server.pages["/x"] = answer(JPEG, TYPE, "Set-Cookie: who=you; Path=/")
    await fetcher.fetch(server.url("/x"))
    await fetcher.fetch(server.url("/a.jpg"))
    assert not [line for request in server.requests for line in request if line.lower().startswith("cookie")]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of a server that calls itself pictures.test, signed by nobody."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl makes the certificate of this test's server; install it")
    path = tmp_path_factory.mktemp("tls") / "pictures.pem"
    command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=pictures.test"
    names = ("-addext", "subjectAltName=DNS:pictures.test")
    subprocess.run([openssl, *command.split(), *names, "-keyout", path, "-out", f"{path}.crt"],
                   check=True, capture_output=True)  # fmt: skip
    path.write_bytes(path.read_bytes() + Path(f"{path}.crt").read_bytes())
    return path


@pytest.fixture
async def tls_server(certificate: Path) -> AsyncIterator[HostileServer]:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    async with HostileServer({"/a.jpg": PICTURE}, tls=tls) as server:
        yield server


async def loopback(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


async def test_https_is_spoken_to_the_name_and_not_to_its_number(
    tls_server: HostileServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    believing = ssl.create_default_context(cafile=str(certificate))
    monkeypatch.setattr("httpx.create_ssl_context", lambda **_: believing)
    address = tls_server.address.replace("127.0.0.1", "pictures.test")
    other = tls_server.address.replace("127.0.0.1", "other.test")
    async with MediaFetcher(allowed=[address, other], resolve=loopback) as fetcher:
        assert await fetcher.fetch(f"https://{address}/a.jpg") == JPEG
        assert f"Host: {address}" in tls_server.requests[0]
        assert await reason_of(fetcher, f"https://{other}/a.jpg") == "no connection"


async def test_a_host_without_a_known_certificate_is_not_believed(tls_server: HostileServer) -> None:
    address = tls_server.address.replace("127.0.0.1", "pictures.test")
    async with MediaFetcher(allowed=[address], resolve=loopback) as fetcher:
        assert await reason_of(fetcher, f"https://{address}/a.jpg") == "no connection"


async def test_https_to_a_server_that_speaks_none_is_refused(fetcher: MediaFetcher, server: HostileServer) -> None:
    async with MediaFetcher(allowed=[server.address], connect_s=0.3) as fetcher:
        assert await reason_of(fetcher, f"https://{server.address}/a.jpg") in ("no connection", "too slow")


async def test_a_host_that_does_not_listen_is_no_connection() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        async with MediaFetcher(allowed=[address]) as fetcher:
            assert await reason_of(fetcher, f"http://{address}/") == "no connection"
