"""A small OpenID provider on this machine: discovery, authorization code with PKCE, signed ID tokens, userinfo, logout.

It approves whoever `address` names without asking. `flaw` makes its ID tokens ones that must be refused.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Literal
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

CLIENT_ID: Final = "moodstream"
CLIENT_SECRET: Final = "the client's secret"
CODE_LIFE_S: Final = 60.0

Flaw = Literal["", "foreign key", "unsigned", "expired", "another nonce", "another audience", "another issuer"]


@dataclass
class Grant:
    """What an authorization code stands for; it is good once."""

    address: str
    redirect_uri: str
    nonce: str
    challenge: str
    expires_at: float


@dataclass
class OpenIdProvider:
    """The provider's state; asked holds the paths of its requests in order."""

    issuer: str = ""
    address: str = "ann@example.org"
    flaw: Flaw = ""
    asked: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one", "use": "sig"}))
    foreign_key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one", "use": "sig"}))
    grants: dict[str, Grant] = field(default_factory=dict)
    access: dict[str, str] = field(default_factory=dict)

    def secrets_toml(self) -> str:
        """What the dashboard has to know of it."""
        return f"""[auth]
redirect_uri = "http://127.0.0.1:{{port}}/oauth2callback"
cookie_secret = "a secret of the tests, long enough for anybody"
client_id = "{CLIENT_ID}"
client_secret = "{CLIENT_SECRET}"
server_metadata_url = "{self.issuer}/.well-known/openid-configuration"
"""

    def discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "jwks_uri": f"{self.issuer}/jwks",
            "end_session_endpoint": f"{self.issuer}/logout",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
        }

    def authorize(self, asked: dict[str, str]) -> str:
        """Where to send the browser: back, with a code."""
        if asked.get("client_id") != CLIENT_ID or asked.get("response_type") != "code":
            raise ValueError("unknown client or response type")
        if "openid" not in asked.get("scope", "").split() or asked.get("code_challenge_method", "S256") != "S256":
            raise ValueError("no OpenID request, or a challenge that is not S256")
        code = secrets.token_urlsafe()
        self.grants[code] = Grant(
            self.address,
            asked["redirect_uri"],
            asked.get("nonce", ""),
            asked.get("code_challenge", ""),
            time.time() + CODE_LIFE_S,
        )
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def token(self, asked: dict[str, str], authorization: str) -> dict[str, Any]:
        """Tokens for a code, given once and to the client alone."""
        expected = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        if authorization != f"Basic {expected}":
            raise ValueError("another client")
        grant = self.grants.pop(asked["code"], None)
        if grant is None or time.time() > grant.expires_at or grant.redirect_uri != asked.get("redirect_uri"):
            raise ValueError("no such code")
        verifier = hashlib.sha256(asked.get("code_verifier", "").encode()).digest()
        if grant.challenge and base64.urlsafe_b64encode(verifier).rstrip(b"=").decode() != grant.challenge:
            raise ValueError("another verifier")
        access_token = secrets.token_urlsafe()
        self.access[access_token] = grant.address
        return {
            "access_token": access_token,
            "token_type": "Bearer",
            "expires_in": 300,
            "id_token": self.id_token(grant),
        }

    def claims(self, address: str) -> dict[str, Any]:
        return {"sub": hashlib.sha256(address.encode()).hexdigest(), "email": address, "email_verified": True}

    def id_token(self, grant: Grant) -> str:
        now = int(time.time())
        claims = self.claims(grant.address) | {
            "iss": "https://evil.example" if self.flaw == "another issuer" else self.issuer,
            "aud": "somebody-else" if self.flaw == "another audience" else CLIENT_ID,
            "nonce": "replayed" if self.flaw == "another nonce" else grant.nonce,
            "iat": now - 7200 if self.flaw == "expired" else now,
            "exp": now - 3600 if self.flaw == "expired" else now + 300,
        }
        if self.flaw == "unsigned":
            return jwt.encode({"alg": "none"}, claims, OctKey.import_key("no key at all, of length"), ["none"])
        key = self.foreign_key if self.flaw == "foreign key" else self.key
        return jwt.encode({"alg": "RS256", "kid": "one"}, claims, key)

    def userinfo(self, authorization: str) -> dict[str, Any]:
        return self.claims(self.access[authorization.removeprefix("Bearer ")])


@contextmanager
def openid_provider() -> Iterator[OpenIdProvider]:
    """A provider that answers on loopback while the body runs."""
    provider = OpenIdProvider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
            provider.asked.append(parts.path)
            if parts.path == "/.well-known/openid-configuration":
                self.answer(provider.discovery())
            elif parts.path == "/jwks":
                self.answer({"keys": [provider.key.as_dict(private=False)]})
            elif parts.path == "/userinfo":
                self.answer(provider.userinfo(self.headers.get("Authorization", "")))
            elif parts.path == "/authorize":
                self.send_on(provider.authorize(asked))
            elif parts.path == "/logout":
                self.send_on(asked["post_logout_redirect_uri"])
            else:
                self.answer({"error": "not found"}, 404)

        def do_POST(self) -> None:
            provider.asked.append(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            asked = {name: values[0] for name, values in parse_qs(body).items()}
            try:
                self.answer(provider.token(asked, self.headers.get("Authorization", "")))
            except ValueError as error:
                provider.refused.append(str(error))
                self.answer({"error": "invalid_grant", "error_description": str(error)}, 400)

        def answer(self, body: dict[str, Any], status: int = 200) -> None:
            packed = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(packed)))
            self.end_headers()
            self.wfile.write(packed)

        def send_on(self, address: str) -> None:
            self.send_response(302)
            self.send_header("Location", address)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """The tests' output is for the tests."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.issuer = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
