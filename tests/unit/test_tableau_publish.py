"""Publishing, against a local server that speaks the part of Tableau's REST API it uses."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from pydantic import SecretStr

from core.config import Settings
from core.errors import ExportError
from core.tableau.publish import Site, publish
from tests.tableau_server import TOKEN, TOKEN_NAME, VERSION, Received, tableau_server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Received]:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    with tableau_server() as received:
        yield received


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "earshot.twbx"
    path.write_bytes(os.urandom(5_000))
    return path


def site(received: Received, **changes: object) -> Site:
    facts = {"server": received.address, "site": "here", "project": "default"}
    return Site(**(facts | {"token_name": TOKEN_NAME, "token": SecretStr(TOKEN)} | changes))


def test_the_workbook_arrives_byte_for_byte_and_the_session_ends(server: Received, book: Path) -> None:
    assert publish(book, site(server)) == f"{server.address}/#/w1"
    assert server.workbook == book.read_bytes()
    assert 'name="Earshot"' in server.request
    assert server.signed_out
    assert server.calls[1] == f"POST /api/{VERSION}/auth/signin"  # of the server's version: tokens came with 3.6


def test_a_large_workbook_goes_in_pieces(server: Received, book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tableauserverclient.server.endpoint import workbooks_endpoint

    monkeypatch.setattr(workbooks_endpoint, "FILESIZE_LIMIT", 1_000)
    publish(book, site(server))
    assert server.pieces == book.read_bytes()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"token": SecretStr("wr0ng")}, "401001"),
        ({"project": "elsewhere"}, "EARSHOT_TABLEAU_PROJECT"),
        ({"server": "http://127.0.0.1:9"}, "Check the address"),
    ],
)
def test_what_a_site_refuses_is_told_without_the_secret(
    server: Received, book: Path, changes: dict[str, object], says: str
) -> None:
    with pytest.raises(ExportError, match=says) as told:
        publish(book, site(server, **changes))
    assert TOKEN not in str(told.value)
    assert "wr0ng" not in str(told.value)
    assert server.workbook == b""


def test_a_site_comes_from_the_settings_and_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARSHOT_TABLEAU_SERVER", "https://tableau.example.org")
    with pytest.raises(ExportError, match="EARSHOT_TABLEAU_TOKEN_NAME, EARSHOT_TABLEAU_TOKEN not set"):
        Site.of(Settings.load())
    monkeypatch.setenv("EARSHOT_TABLEAU_TOKEN_NAME", "me")
    monkeypatch.setenv("EARSHOT_TABLEAU_TOKEN", "secret")
    found = Site.of(Settings.load())
    assert (found.server, found.site, found.project) == ("https://tableau.example.org", "", "default")
    assert "secret" not in repr(found)


@pytest.mark.parametrize("address", ["{host}", "http://tableau.example.org", "ftp://127.0.0.1", ""])
def test_a_token_goes_nowhere_unencrypted(server: Received, book: Path, address: str) -> None:
    given = address.format(host=server.address.removeprefix("http://"))
    with pytest.raises(ExportError, match="begins with https://"):
        publish(book, site(server, server=given))
    assert server.workbook == b""


class _OtherServer(BaseHTTPRequestHandler):
    """Answers everything with a page, as a login portal does."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<html><body>Sign in</body></html>")

    def log_message(self, *args: object) -> None:
        pass


def test_a_server_that_is_no_tableau_is_told_as_that(server: Received, book: Path) -> None:
    with HTTPServer(("127.0.0.1", 0), _OtherServer) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        try:
            with pytest.raises(ExportError, match="Check the address"):
                publish(book, site(server, server=f"http://127.0.0.1:{other.server_port}"))
        finally:
            other.shutdown()
            thread.join()


def test_a_server_that_says_nothing_is_given_up(server: Received, book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.tableau.publish.SILENT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(ExportError, match="Check the address"):
        publish(book, site(server, server=f"http://127.0.0.1:{silent.getsockname()[1]}"))
