"""Publish the workbook to a Tableau Server or Cloud, signed in by a personal access token."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from core.config import Settings
from core.errors import ExportError

WORKBOOK = "Earshot"
SILENT_S = 60  # after which a server that says nothing is given up
LOOPBACK = {"127.0.0.1", "::1", "localhost"}


@dataclass(frozen=True)
class Site:
    """Where to publish, and as whom. The token is never shown."""

    server: str
    site: str
    project: str
    token_name: str
    token: SecretStr

    @classmethod
    def of(cls, settings: Settings, *, formats: Collection[str] = ("twbx",)) -> Site:
        """Raises ``ExportError``: ``no_tableau`` where nothing is configured, ``no_twbx`` where ``formats`` lack it."""
        if "twbx" not in formats:
            raise ExportError(
                "Expected a workbook to publish; none is among the formats. Add twbx to --formats.", code="no_twbx"
            )
        missing = [
            f"EARSHOT_TABLEAU_{name.upper()}"
            for name in ("server", "token_name", "token")
            if not getattr(settings, f"tableau_{name}")
        ]
        if missing or not settings.tableau_server or not settings.tableau_token_name or not settings.tableau_token:
            raise ExportError(
                f"Expected a Tableau site to publish to; {', '.join(missing)} not set. Make a personal access token in "
                "your account's settings there, and set it.",
                code="no_tableau",
            )
        return cls(
            server=settings.tableau_server,
            site=settings.tableau_site or "",
            project=settings.tableau_project,
            token_name=settings.tableau_token_name,
            token=settings.tableau_token,
        )


def publish(workbook: Path, site: Site, *, name: str = WORKBOOK) -> str:
    """Publish the ``.twbx`` in place of an earlier one of this ``name``; return its address. Raises ``ExportError``."""
    import tableauserverclient as tsc

    _check_address(site.server)
    try:
        server = tsc.Server(site.server, http_options={"timeout": SILENT_S})
        try:
            server.use_server_version()  # before signing in: tokens came with version 3.6
        except AttributeError as exc:  # an answer without the part that it looks for
            raise ValueError("an answer that is not Tableau's") from exc
        token = tsc.PersonalAccessTokenAuth(site.token_name, site.token.get_secret_value(), site_id=site.site)
        with server.auth.sign_in(token):
            item = tsc.WorkbookItem(_project(server, site.project), name=name, show_tabs=True)
            done = server.workbooks.publish(item, workbook, tsc.Server.PublishMode.Overwrite, None, False, False)
    except _failures() as exc:
        reason = str(exc).replace(site.token.get_secret_value(), "…").strip() or type(exc).__name__
        raise ExportError(
            f"Expected {site.server} to take the workbook, got: {reason}. Check the address, the site, the token's "
            "name and secret, and that it may publish there.",
            code="publish",
        ) from exc
    return str(done.webpage_url or f"{site.server}: workbook {done.id}")


def _check_address(server: str) -> None:
    """The token goes there: encrypted, or not off this machine. Without a scheme the client would take http."""
    parts = urlsplit(server)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise ExportError(
            f"Expected an address that begins with https://, got {server!r}. The token would go there unencrypted: "
            "correct EARSHOT_TABLEAU_SERVER.",
            code="publish",
        )


def _failures() -> tuple[type[Exception], ...]:
    """What the client raises: it has no common root."""
    from requests.exceptions import RequestException
    from tableauserverclient.server.endpoint import exceptions

    return (RequestException, exceptions.TableauError, ValueError)


def _project(server: object, name: str) -> str:
    import tableauserverclient as tsc

    options = tsc.RequestOptions()
    options.filter.add(tsc.Filter(tsc.RequestOptions.Field.Name, tsc.RequestOptions.Operator.Equals, name))
    found, _ = server.projects.get(options)  # type: ignore[attr-defined]
    if not found:
        raise ExportError(f"Expected a project {name!r} on that site, found none. Set EARSHOT_TABLEAU_PROJECT.")
    return str(found[0].id)
