"""A local server that speaks the part of Tableau's REST API that publishing uses, and keeps what it was sent."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VERSION = "3.24"
TOKEN_NAME, TOKEN = "earshot", "s3cr3t"
NAMESPACE = 'xmlns="http://tableau.com/api"'


@dataclass
class Received:
    """What clients did: paths in order, the parts of the last publication, whether they signed out."""

    address: str = ""
    calls: list[str] = field(default_factory=list)
    request: str = ""
    workbook: bytes = b""
    pieces: bytes = b""
    signed_out: bool = False


@contextmanager
def tableau_server() -> Iterator[Received]:
    """Serve on a free port of loopback until the block ends."""
    received = Received()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(received))
    received.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


def _handler(received: Received) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._noted()
            if "serverinfo" in self.path.lower():
                self._answer(
                    200,
                    f'<serverInfo><productVersion build="0">2026.1</productVersion>'
                    f"<restApiVersion>{VERSION}</restApiVersion></serverInfo>",
                )
            elif "/projects" in self.path:
                total = "1" if "default" in self.path else "0"
                project = '<project id="p1" name="default"/>' if total == "1" else ""
                page = f'<pagination pageNumber="1" pageSize="100" totalAvailable="{total}"/>'
                self._answer(200, f"{page}<projects>{project}</projects>")
            else:
                self._answer(404, '<error code="404000"><summary>Not found</summary><detail/></error>')

        def do_POST(self) -> None:
            body = self._noted()
            if self.path.endswith("/auth/signin"):
                if f'personalAccessTokenSecret="{TOKEN}"' not in body.decode():
                    detail = "<summary>Signin Error</summary><detail>Error signing in to Tableau Server</detail>"
                    self._answer(401, f'<error code="401001">{detail}</error>')
                    return
                self._answer(
                    200, '<credentials token="t"><site id="s1" contentUrl="here"/><user id="u1"/></credentials>'
                )
            elif self.path.endswith("/auth/signout"):
                received.signed_out = True
                self.send_response(204)
                self.end_headers()
            elif "/fileUploads" in self.path:
                self._answer(201, '<fileUpload uploadSessionId="f1" fileSize="0"/>')
            elif "/workbooks" in self.path and self.headers.get("X-Tableau-Auth") == "t":
                parts = _parts(self.headers["Content-Type"], body)
                received.request = parts["request_payload"].decode()
                received.workbook = parts.get("tableau_workbook", received.pieces)
                name = re.search(r'name="([^"]+)"', received.request)
                said = name[1] if name else ""
                self._answer(
                    201,
                    f'<workbook id="w1" name="{said}" contentUrl="{said}" webpageUrl="{received.address}/#/w1">'
                    '<project id="p1" name="default"/><owner id="u1"/><tags/></workbook>',
                )
            else:
                self._answer(401, '<error code="401002"><summary>No</summary><detail>no token</detail></error>')

        def do_PUT(self) -> None:
            body = self._noted()
            received.pieces += _parts(self.headers["Content-Type"], body)["tableau_file"]
            self._answer(200, '<fileUpload uploadSessionId="f1" fileSize="1"/>')

        def _noted(self) -> bytes:
            received.calls.append(f"{self.command} {self.path.partition('?')[0]}")
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def _answer(self, status: int, inside: str) -> None:
            data = f'<?xml version="1.0" encoding="UTF-8"?><tsResponse {NAMESPACE}>{inside}</tsResponse>'.encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            """Tests are quiet."""

    return Handler


def _parts(content_type: str, body: bytes) -> dict[str, bytes]:
    """The parts of a multipart body, by name."""
    message = message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    found = {}
    for part in message.get_payload():
        name = re.search(r'name="?([^";]+)', part["Content-Disposition"])
        assert name
        found[name[1]] = part.get_payload(decode=True) or b""
    return found
