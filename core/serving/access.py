"""Who may call: the holder of the key, or, where there is no key, this machine alone.

It fails closed. Without a key a request must come from a loopback address to one, be addressed to a loopback name (a
page in a browser could reach the port under a name of its own) and come from no other site's page.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from core.errors import SettingsError
from core.serving.messages import RequestError

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/openapi.json", "/docs"})
SHORTEST_KEY = 16  # characters
HOW_TO_MAKE_ONE = "python -c 'import secrets; print(secrets.token_urlsafe(32))'"


class Access:
    """Decides on each request before its body is read."""

    def __init__(self, key: str | None) -> None:
        if key and (len(key) < SHORTEST_KEY or not key.isascii() or not key.isprintable() or key != key.strip()):
            raise SettingsError(
                f"EARSHOT_API_KEY: expected {SHORTEST_KEY} or more plain characters, as a header can carry them, "
                f"got {len(key)}, or others. Make one: {HOW_TO_MAKE_ONE}"
            )
        self._digest = _digest(key.encode()) if key else None

    def check(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        """Raise ``RequestError`` where the caller may not."""
        if self._digest is not None:
            is_open = scope["path"] in OPEN_PATHS and scope["method"] in ("GET", "HEAD")
            if not is_open and not self._has_key(headers):
                raise RequestError(
                    401,
                    "unauthorized",
                    "Expected the API key, in the header X-API-Key or as Authorization: Bearer KEY.",
                    {"www-authenticate": "Bearer"},
                )
        elif not _is_from_here(scope, headers):
            raise RequestError(
                403,
                "loopback_only",
                "This server has no API key, so it answers this machine alone, under a loopback address. "
                "Set EARSHOT_API_KEY to serve others.",
            )

    def _has_key(self, headers: Mapping[str, str]) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        bearer = token.strip() if scheme.lower() == "bearer" else ""
        given = headers.get("x-api-key") or bearer
        # digests are of equal length: the comparison tells nothing of the key's own
        return hmac.compare_digest(_digest(given.encode("utf-8", "replace")), self._digest or b"")


def check_host(host: str, key: str | None) -> None:
    """Raise ``SettingsError`` where ``host`` would let other machines in without a key."""
    if not key and not is_loopback(host):
        raise SettingsError(
            f"Expected EARSHOT_API_KEY to be set before serving on {host}, which other machines can reach. "
            f"Make one: {HOW_TO_MAKE_ONE}. Or serve on 127.0.0.1."
        )


def is_loopback(host: str | None) -> bool:
    """``127.0.0.1``, ``::1``, ``localhost``; no other name, whatever it resolves to."""
    host = (host or "").strip("[]").lower()
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _is_from_here(scope: Mapping[str, Any], headers: Mapping[str, str]) -> bool:
    ends = [scope.get("client"), scope.get("server")]
    names = [end[0] if end else None for end in ends] + [_host_of("//" + headers.get("host", ""))]
    if "origin" in headers:
        names.append(_host_of(headers["origin"]))
    return all(is_loopback(name) for name in names)


def _host_of(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()
