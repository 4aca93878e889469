"""The API as its own process: sockets that lie, drip or say nothing, and how it ends."""

from __future__ import annotations

import base64
import json
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2 as httpx
import numpy as np
import pytest

from core.audio import write_wav
from core.config import ROOT
from core.store import Store
from tests.api_server import ApiServer, api_server
from tests.postgresql import Cluster

RATE = 32_000
WAIT_S = 300.0  # for a machine that is busy with something else


def noise(seconds: float = 1.0) -> bytes:
    samples = np.random.default_rng(0).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)
    return write_wav(samples, RATE)


def head(*lines: str, path: str = "/v1/classify", method: str = "POST") -> bytes:
    return "\r\n".join(
        [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: audio/wav", *lines, "", ""]
    ).encode()


class Caller:
    """A socket, and what the server says on it."""

    def __init__(self, server: ApiServer) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S)

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *parts: bytes) -> Caller:
        """Stops where the server has closed."""
        try:
            for part in parts:
                self.socket.sendall(part)
        except OSError:
            pass
        return self

    def hear(self) -> bytes:
        """All that comes until the server closes."""
        heard = b""
        try:
            while part := self.socket.recv(65_536):
                heard += part
        except ConnectionResetError:
            pass
        return heard


def refusal(heard: bytes, status: int) -> str:
    """The code of the last response of ``heard``: one error, in the one shape."""
    heads, _, body = heard.rpartition(b"\r\n\r\n")
    last = heads[heads.rindex(b"HTTP/1.1 ") :]
    assert last.startswith(f"HTTP/1.1 {status} ".encode()), heard
    assert b"content-type: application/json" in last.lower()
    answer = json.loads(body)
    assert set(answer) == {"error"}
    code: str = answer["error"]["code"]
    return code


def is_well(server: ApiServer) -> bool:
    with server.client() as client:
        return client.post("/v1/classify", content=noise(0.5), headers={"content-type": "audio/wav"}).status_code == 200


def test_a_declared_length_over_the_limit_is_refused_before_a_byte_is_sent(server: ApiServer) -> None:
    with Caller(server) as caller:
        assert refusal(caller.send(head("Content-Length: 999999999999")).hear(), 413) == "too_many_bytes"


def test_who_asks_first_whether_to_send_is_told_not_to(server: ApiServer) -> None:
    with Caller(server) as caller:
        heard = caller.send(head("Content-Length: 10000000", "Expect: 100-continue")).hear()
    assert refusal(heard, 413) == "too_many_bytes"
    assert b"100 Continue" not in heard


def test_a_body_without_a_length_is_cut_off_at_the_limit(server: ApiServer) -> None:
    chunk = b"8000\r\n" + bytes(0x8000) + b"\r\n"
    with Caller(server) as caller:
        heard = caller.send(head("Transfer-Encoding: chunked"), *[chunk] * 80).hear()  # without an end
    assert refusal(heard, 413) == "too_many_bytes"


def test_a_length_that_says_too_much_waits_no_longer_than_it_may(server: ApiServer) -> None:
    with Caller(server) as caller:
        assert refusal(caller.send(head("Content-Length: 1000"), bytes(10)).hear(), 408) == "slow_body"


def test_a_caller_that_hangs_up_early_does_no_harm(server: ApiServer) -> None:
    with Caller(server) as caller:
        caller.send(head("Content-Length: 1000"), bytes(10))
    with Caller(server) as caller:
        caller.send(head("Content-Length: 1000"), bytes(10)).socket.shutdown(socket.SHUT_WR)
        caller.hear()
    assert is_well(server)
    assert "Traceback" not in server.log.read_text()


def test_a_length_that_says_too_little_cuts_the_body_there(server: ApiServer) -> None:
    with Caller(server) as caller:
        heard = caller.send(head("Content-Length: 10"), bytes(1_000)).hear()
    assert b'"code": "not_audio"' in heard
    assert refusal(heard, 400) == "bad_http"


@pytest.mark.parametrize(
    "sent",
    [
        head("Content-Length: many"),
        head("Content-Length: -1"),
        head("Content-Length: 1", "Content-Length: 2"),
        b"hello\r\n\r\n",
        head(f"X-Long: {'x' * 100_000}"),
        head("Transfer-Encoding: chunked") + b"zz\r\n",
    ],
)
def test_what_is_no_http_gets_the_same_shape_of_an_error(server: ApiServer, sent: bytes) -> None:
    with Caller(server) as caller:
        heard = caller.send(sent).hear()
    assert re.match(rb"HTTP/1.1 4\d\d ", heard)
    assert set(json.loads(heard.rpartition(b"\r\n\r\n")[2])) == {"error"}


def test_dripping_callers_are_ended_and_hold_up_no_one(server: ApiServer) -> None:
    """One that says nothing, one whose head never ends, one whose body comes byte by byte."""

    def drip(start: bytes) -> bytes:
        with Caller(server) as caller:
            caller.send(start)
            ended = threading.Event()

            def go_on() -> None:
                while not ended.wait(0.2):
                    caller.send(b"x" if start else b"")

            thread = threading.Thread(target=go_on)
            thread.start()
            try:
                return caller.hear()
            finally:
                ended.set()
                thread.join()

    with ThreadPoolExecutor(3) as pool:
        heard = list(pool.map(drip, [b"", b"GET /healthz HTTP/1.1\r\nX-Slow: ", head("Content-Length: 100000")]))
        assert is_well(server)
    assert [refusal(heard[0], 408), refusal(heard[1], 408), refusal(heard[2], 408)] == [
        "slow_head",
        "slow_head",
        "slow_body",
    ]


def test_after_an_answer_the_connection_serves_the_next(server: ApiServer) -> None:
    with Caller(server) as caller:
        caller.send(head(method="GET", path="/healthz"), head("Connection: close", method="GET", path="/healthz"))
        assert caller.hear().count(b"HTTP/1.1 200") == 2


def test_the_readmes_examples_work_as_they_stand(server: ApiServer, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Over HTTP")[1].split("\n## ")[0]
    script = next(block for block in section.split("```") if "curl" in block)
    lines = [line for line in script.splitlines() if "curl " in line]
    assert len(lines) >= 9
    for name in ("dog.wav", "rain.wav"):
        (tmp_path / name).write_bytes(noise())
    # --fail: an error of the server ends the script; -w: a line for each answer
    checked = script.replace("http://127.0.0.1:8000", server.url).replace(
        "curl ", "curl --fail --silent -w '\\nok\\n' "
    )
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", checked], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()[-500:]
    assert done.stdout.decode().splitlines().count("ok") == len(lines)
    assert (tmp_path / "why.png").read_bytes().startswith(b"\x89PNG")


def post_until_killed(server: ApiServer, callers: int = 4) -> set[int]:
    """Post from several callers at once and kill the server among it; the ids that it had acknowledged."""
    acknowledged: list[int] = []
    enough = threading.Semaphore(0)

    def post(_: int) -> None:
        with server.client() as client:
            while True:
                try:
                    answer = client.post("/v1/classify", content=noise(0.5), headers={"content-type": "audio/wav"})
                except httpx.TransportError:
                    return
                assert answer.status_code == 200, answer.text
                acknowledged.append(answer.json()["id"])
                enough.release()

    with ThreadPoolExecutor(callers) as pool:
        done = [pool.submit(post, i) for i in range(callers)]
        for _ in range(2 * callers):
            assert enough.acquire(timeout=WAIT_S)
        server.end(signal.SIGKILL)
    for one in done:
        one.result()
    return set(acknowledged)


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    with api_server(tmp_path) as server:
        acknowledged = post_until_killed(server)
    assert acknowledged <= stored(f"sqlite:///{tmp_path / 'log.sqlite3'}")


def test_sigterm_finishes_what_was_accepted_and_takes_no_more(tmp_path: Path) -> None:
    with api_server(tmp_path, api_workers=1) as server:
        statuses: list[int] = []

        def post(_: int) -> None:
            with server.client() as client:
                body = {"audio": base64.b64encode(noise(8)).decode()}
                statuses.append(client.post("/v1/classify", json=body).status_code)

        with ThreadPoolExecutor(6) as pool:
            for i in range(6):
                pool.submit(post, i)
            waiting = wait_until_waiting(server)
            server.end(signal.SIGTERM)
        log = server.log.read_text()
    assert waiting
    assert statuses == [200] * 6, log
    assert "Traceback" not in log
    with pytest.raises(httpx.ConnectError), server.client() as client:
        client.get("/healthz")
    assert len(stored(f"sqlite:///{tmp_path / 'log.sqlite3'}")) == 6


def wait_until_waiting(server: ApiServer) -> bool:
    """All six are in: one at work, and the rest before it or done."""
    deadline = time.monotonic() + WAIT_S
    with server.client() as client:
        while time.monotonic() < deadline:
            lines = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[0] != "#")
            done = float(lines.get("earshot_predictions_total", 0))
            if done + float(lines["earshot_queue_depth"]) + float(lines["earshot_workers_busy"]) >= 6:
                return True
    return False


def test_postgresql_may_go_and_come_back_and_what_was_acknowledged_survives_kill_9(
    postgresql: Cluster, postgresql_url: str, tmp_path: Path
) -> None:
    with api_server(tmp_path, database_url=postgresql_url) as server:
        with server.client() as client:

            def post() -> httpx.Response:
                return client.post("/v1/classify", content=noise(0.5), headers={"content-type": "audio/wav"})

            before = post().json()["id"]
            postgresql.stop()
            try:
                answer, ready = post(), client.get("/readyz")
            finally:
                postgresql.start()
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_stored")
            assert (ready.status_code, ready.json()["error"]["code"]) == (503, "not_ready")
            assert answer.headers["retry-after"]
            after = post().json()["id"]
            assert client.get("/readyz").status_code == 200
        acknowledged = post_until_killed(server)
    assert acknowledged | {before, after} <= stored(postgresql_url)


def stored(url: str) -> set[int]:
    """The ids of all records."""
    store = Store.open(url)
    found = {int(i) for model in store.models()["fingerprint"] for i in store.records(model)["id"]}
    store.close()
    return found
