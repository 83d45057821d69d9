"""Settings of the dashboard, from the environment."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from inference_worker.redis_access import DEFAULT_URL, redis_url
from ingest.telemetry.variables import log_form

from .redis_address import redis_address

_AUTH_KEYS = ("redirect_uri", "cookie_secret")
_PROVIDER_KEYS = ("client_id", "client_secret", "server_metadata_url")
_SECRET_CHARACTERS = 32
SHIPPED_MODEL = Path(__file__).parent.parent / "inference_worker" / "models" / "default"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """redis_url: where results are read; namespace: shown when the link names none; refresh_s: pace of live parts.

    ingest_health: host:port of each ingest process that is to be asked how it is; model: the worker's, for its card.
    auth: `oidc` where people log in, else `off`; editors, viewers: addresses of those who may change things, or look,
    or `*@domain`; viewers None: whoever the provider knows;
    topics_path: the user's topics, where they are named; else ./topics.toml, or the shipped ones.
    runs: folder of the replays `moodstream replay` made; log: form of log lines.
    """

    redis_url: str = field(default=DEFAULT_URL, repr=False)
    namespace: str = "live"
    refresh_s: float = 2.0
    ingest_health: tuple[str, ...] = ()
    model: Path = SHIPPED_MODEL
    auth: str = "off"
    editors: tuple[str, ...] = ()
    viewers: tuple[str, ...] | None = None
    topics_path: Path | None = None
    runs: Path = Path(".moodstream/runs")
    log: str = "plain"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Raises ValueError naming the variable, its value and what it takes."""
        return cls(
            redis_url=redis_url(environ),
            namespace=environ.get("MOODSTREAM_NAMESPACE", cls.namespace),
            refresh_s=_refresh_s(environ.get("MOODSTREAM_REFRESH_S", str(cls.refresh_s))),
            ingest_health=_addresses(environ.get("MOODSTREAM_INGEST_HEALTH", "")),
            model=Path(environ.get("MOODSTREAM_MODEL") or cls.model),
            auth=_auth(environ.get("MOODSTREAM_AUTH", cls.auth)),
            editors=_people("MOODSTREAM_EDITORS", environ.get("MOODSTREAM_EDITORS", "")),
            viewers=_people("MOODSTREAM_VIEWERS", environ.get("MOODSTREAM_VIEWERS", "")) or None,
            topics_path=Path(environ["MOODSTREAM_TOPICS"]) if environ.get("MOODSTREAM_TOPICS") else None,
            runs=Path(environ.get("MOODSTREAM_RUNS") or cls.runs),
            log=log_form(environ),
        )

    @property
    def redis_address(self) -> str:
        return redis_address(self.redis_url)


def _refresh_s(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0.5 <= seconds <= 3600:
        raise ValueError(f"MOODSTREAM_REFRESH_S is {value!r}: give seconds from 0.5 to 3600")
    return seconds


def _addresses(value: str) -> tuple[str, ...]:
    addresses = tuple(part.strip() for part in value.split(",") if part.strip())
    for address in addresses:
        try:
            parts = urlsplit(f"//{address}")
            is_address = bool(parts.hostname and parts.port) and parts.netloc == address and parts.username is None
        except ValueError:
            is_address = False
        if not is_address:
            raise ValueError(f"MOODSTREAM_INGEST_HEALTH is {value!r}: give host:port, several with commas between them")
    return addresses


def _auth(value: str) -> str:
    if value not in ("off", "oidc"):
        raise ValueError(f"MOODSTREAM_AUTH is {value!r}: use off, or oidc to let people log in")
    return value


def _people(variable: str, value: str) -> tuple[str, ...]:
    names = tuple(name.casefold() for name in value.replace(",", " ").split())
    for name in names:
        user, at, domain = name.partition("@")
        if not user or not at or not domain or "*" in domain or ("*" in user and user != "*"):
            raise ValueError(f"{variable} names {name!r}: use addresses such as ann@example.org or *@example.org")
    return names


def secrets_files() -> tuple[Path, Path]:
    """Where secrets.toml may lie: at home, or, which wins, in the folder the dashboard is started from."""
    return Path.home() / ".streamlit" / "secrets.toml", Path.cwd() / ".streamlit" / "secrets.toml"


def check_login(files: Sequence[Path]) -> None:
    """Raises ValueError if these files have no complete `[auth]` for MOODSTREAM_AUTH=oidc; no value of it is shown."""
    found: dict[str, object] = {}
    for file in files:
        try:
            found.update(tomllib.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ValueError(f"MOODSTREAM_AUTH is oidc, but {file} cannot be read: {error}") from error
    auth = found.get("auth")
    if not isinstance(auth, dict):
        names = " or ".join(str(file) for file in reversed(files))
        raise ValueError(f"MOODSTREAM_AUTH is oidc, but there is no [auth] in {names}: write it, or unset the variable")
    default = auth.get("default")
    provider = default if isinstance(default, dict) else auth
    missing = [key for key in _AUTH_KEYS if not auth.get(key)] + [
        key for key in _PROVIDER_KEYS if not provider.get(key)
    ]
    if missing:
        raise ValueError(f"MOODSTREAM_AUTH is oidc, but [auth] in secrets.toml lacks {', '.join(missing)}: add it")
    if not str(auth["redirect_uri"]).endswith("/oauth2callback"):
        raise ValueError(
            f"redirect_uri in secrets.toml is {auth['redirect_uri']!r}: give the page's address and /oauth2callback"
        )
    if len(str(auth["cookie_secret"])) < _SECRET_CHARACTERS:
        raise ValueError(
            f"cookie_secret in secrets.toml is shorter than {_SECRET_CHARACTERS} characters, and who guesses it is "
            "anybody: make one with python -c 'import secrets; print(secrets.token_hex())'"
        )
