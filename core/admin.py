"""Who may administer: the holder of the admin token, asked anew at every action.

The token is made at the first start, printed once and kept in a file that only its owner can read, as Jupyter does;
``EARSHOT_ADMIN_TOKEN`` replaces it. Wrong tokens are counted for the whole server, whoever sends them: from the fifth
on everybody waits, each time twice as long, up to a minute.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from core.config import Settings
from core.errors import AdminError, SettingsError

TOKEN_FILE = ".admin-token"  # under the runs folder
SHORTEST_TOKEN = 16  # characters
TOKEN_BYTES = 24  # as Jupyter's
FREE_ATTEMPTS = 4
LONGEST_WAIT_S = 60.0
TICKET_S = 12 * 3600.0  # how long a sign-in lasts


@dataclass(frozen=True)
class Admin:
    """Somebody who may. ``name`` goes into the audit table."""

    name: str


Guard = Callable[[], Admin]
"""Asked at every action; raises ``AdminError`` unless the caller is the admin at that moment."""


@dataclass(frozen=True)
class Ticket:
    """Proof of one sign-in; known to the browser session that holds it and to nobody else."""

    secret: str

    def __repr__(self) -> str:
        return "Ticket(…)"


class Gate:
    """Hands out tickets for the token and checks them. One for a whole server; safe to use from several threads."""

    def __init__(
        self, token: Callable[[], str], *, clock: Callable[[], float] = time.monotonic, name: str = "admin"
    ) -> None:
        self._token, self._clock, self._name = token, clock, name
        self._lock = threading.Lock()
        self._failures, self._open_at = 0, 0.0
        self._tickets: dict[bytes, tuple[float, bytes]] = {}  # digest of a ticket → when it ends, digest of its token

    def sign_in(self, given: str) -> Ticket:
        """Raises ``AdminError`` with code ``wrong_token`` or ``too_many_attempts``."""
        with self._lock:
            self._refuse_while_waiting()
            if not hmac.compare_digest(_digest(given.strip()), _digest(self._token())):
                self._count_failure()
                raise AdminError(
                    "Expected the admin token, got another text. It was printed at the first start and is kept in "
                    f"{TOKEN_FILE} in the runs folder, unless EARSHOT_ADMIN_TOKEN sets it.",
                    code="wrong_token",
                )
            self._failures = 0
            now = self._clock()
            self._tickets = {key: value for key, value in self._tickets.items() if value[0] > now}
            ticket = Ticket(secrets.token_urlsafe(TOKEN_BYTES))
            self._tickets[_digest(ticket.secret)] = (now + TICKET_S, _digest(self._token()))
            return ticket

    def check(self, ticket: Ticket | None) -> Admin:
        """Raises ``AdminError`` for no ticket, one that was not given out here or has ended, and after a new token."""
        with self._lock:
            ends, token = self._tickets.get(_digest(ticket.secret if ticket else ""), (0.0, b""))
            if ends <= self._clock() or not hmac.compare_digest(token, _digest(self._token())):
                raise AdminError("Only the admin may do this. Sign in first.", code="signed_out")
            return Admin(self._name)

    def sign_out(self, ticket: Ticket) -> None:
        with self._lock:
            self._tickets.pop(_digest(ticket.secret), None)

    def _refuse_while_waiting(self) -> None:
        left_s = self._open_at - self._clock()
        if left_s > 0:
            raise AdminError(
                f"Too many wrong tokens were sent to this server. Try again in {max(1, round(left_s))} s.",
                code="too_many_attempts",
            )

    def _count_failure(self) -> None:
        self._failures += 1
        if self._failures > FREE_ATTEMPTS:
            doublings = min(self._failures - FREE_ATTEMPTS, 10)  # a power of thousands is no number
            wait_s = min(LONGEST_WAIT_S, 2.0**doublings)
            self._open_at = self._clock() + wait_s


def listed(email: str | None, *, verified: object, settings: Settings) -> Admin:
    """Whom an identity provider vouches for, if they are on the list. Raises ``AdminError``.

    ``verified`` is the claim ``email_verified`` and must be True: where it is missing, people may be able to write any
    address into their account.
    """
    if not settings.admins:
        raise AdminError(
            "Nobody may administer: [auth] is set up but EARSHOT_ADMIN_EMAILS names nobody. Name the admins there.",
            code="no_admins",
        )
    if not email or verified is not True or email.lower() not in settings.admins:
        raise AdminError(
            f"{email or 'An account without an e-mail address'} may not administer. "
            "Sign in with an account that EARSHOT_ADMIN_EMAILS names, at a provider that says it verified the address.",
            code="not_listed",
        )
    return Admin(email.lower())


def admin_token(settings: Settings, *, tell: Callable[[str], None] = print) -> str:
    """The token that counts now. Where there is none yet, one is made, kept and told once through ``tell``.

    Raises ``SettingsError`` for a token too short to be one, or where it cannot be kept.
    """
    if settings.admin_token is not None:
        return _long_enough(settings.admin_token.get_secret_value(), "EARSHOT_ADMIN_TOKEN")
    path = settings.runs_dir / TOKEN_FILE
    try:
        return _long_enough(path.read_text(encoding="utf-8").strip(), str(path))
    except FileNotFoundError:
        return _make(path, tell)
    except OSError as exc:
        raise _unusable(path, exc) from exc


def _make(path: Path, tell: Callable[[str], None]) -> str:
    token = secrets.token_hex(TOKEN_BYTES)
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(token + "\n")
        try:
            os.link(part, path)  # whole or not at all, and never over one that another process just made
        except FileExistsError:
            return _long_enough(path.read_text(encoding="utf-8").strip(), str(path))
    except OSError as exc:
        raise _unusable(path, exc) from exc
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    tell(f"\n  The admin token of this Earshot, told once and kept in {path}:\n\n      {token}\n")
    return token


def _long_enough(token: str, where: str) -> str:
    if len(token) < SHORTEST_TOKEN:
        raise SettingsError(
            f"{where}: expected an admin token of {SHORTEST_TOKEN} characters or more, got {len(token)}. Make one: "
            "python -c 'import secrets; print(secrets.token_hex(24))'"
        )
    return token


def _unusable(path: Path, error: OSError) -> SettingsError:
    return SettingsError(
        f"Expected to keep the admin token in {path}, got {error.strerror or error}. Correct the permissions of the "
        "runs folder, or set EARSHOT_ADMIN_TOKEN."
    )


def _digest(text: str) -> bytes:
    """Digests are of equal length: comparing them tells nothing of the token's own."""
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()
