"""TLS as our clients speak it: which files, and what a failed handshake means. Kafka's and Redis's alike."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

_EXPIRED: Final = (9, 10)
_UNKNOWN_CA: Final = (2, 18, 19, 20, 21)
_OTHER_NAME: Final = (62, 64)
"""OpenSSL's X509_V_ERR_* codes."""


class Refusal(NamedTuple):
    """A server is there and does not let us in: why, and what to do about it."""

    problem: str
    remedy: str


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """ca: certificates to trust instead of the system's; cert, key: what we show of ourselves, where that is asked."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    @classmethod
    def from_env(cls, prefix: str, environ: Mapping[str, str]) -> TlsFiles:
        """Reads PREFIX_CA_FILE, PREFIX_CERT_FILE and PREFIX_KEY_FILE. Raises ValueError naming the variable."""
        found = {name: environ.get(f"{prefix}_{name.upper()}_FILE") for name in ("ca", "cert", "key")}
        files = cls(**{name: Path(value) for name, value in found.items() if value})
        if files.key is not None and files.cert is None:
            raise ValueError(
                f"{prefix}_KEY_FILE is set without {prefix}_CERT_FILE: name the certificate of the key too"
            )
        for name, path in (("CA", files.ca), ("CERT", files.cert), ("KEY", files.key)):
            if path is not None and not path.is_file():
                raise ValueError(f"{prefix}_{name}_FILE={str(path)!r} is no file: name one in PEM format")
        try:
            files.context()
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            named = ", ".join(str(path) for path in (files.ca, files.cert, files.key) if path is not None)
            raise ValueError(
                f"{prefix}_…_FILE: {named} cannot be used ({error}): give unencrypted PEM files"
            ) from error
        return files

    def context(self) -> ssl.SSLContext:
        """Certificates and host names are checked, always."""
        context = ssl.create_default_context(cafile=self.ca)
        if self.cert is not None:
            context.load_cert_chain(self.cert, self.key)
        return context


def tls_refusal(error: BaseException, prefix: str) -> Refusal | None:
    """What a failed handshake means, wherever in the chain of causes it stands; None if it was none."""
    for cause in causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _of_certificate(cause, prefix)
        if isinstance(cause, ssl.SSLError):
            remedy = f"see that it speaks TLS, and whether it wants {prefix}_CERT_FILE and {prefix}_KEY_FILE"
            return Refusal(f"no TLS handshake: {cause.reason or cause}", remedy)
    return None


def _of_certificate(error: ssl.SSLCertVerificationError, prefix: str) -> Refusal:
    if error.verify_code in _EXPIRED:
        return Refusal(f"its {error.verify_message}", "renew the server's certificate, or mend this machine's clock")
    if error.verify_code in _UNKNOWN_CA:
        remedy = f"let {prefix}_CA_FILE name the certificate of the authority that signed it"
        return Refusal(f"its certificate is by an unknown authority: {error.verify_message}", remedy)
    if error.verify_code in _OTHER_NAME:
        return Refusal(
            f"its certificate is another's: {error.verify_message}", f"let {prefix} use the certificate's name"
        )
    return Refusal(f"its certificate is not accepted: {error.verify_message}", "give the server a valid one")


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what it came from, innermost last."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def secret(name: str, environ: Mapping[str, str]) -> str:
    """A secret from the variable itself or from the file that NAME_FILE names; empty if there is neither.

    Raises ValueError.
    """
    value, file = environ.get(name), environ.get(f"{name}_FILE")
    if value and file:
        raise ValueError(f"{name} and {name}_FILE are both set: set one")
    if not file:
        return value or ""
    try:
        return Path(file).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{name}_FILE={file!r} cannot be read: {error}") from error
