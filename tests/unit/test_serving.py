"""The parts of the API beneath its routes."""

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from core.cli import main
from core.config import Limits
from core.errors import SettingsError
from core.serving.access import Access, check_host, is_loopback
from core.serving.body import BodyLimits, DisconnectedError, Message, Receive, read_body
from core.serving.messages import RequestError, SoundInJson, encoded, shown_name
from core.serving.workers import Claim, LateError, Workers


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "LOCALHOST", "::ffff:127.0.0.1"]
)
def test_loopback_is_known(host: str) -> None:
    assert is_loopback(host)
    check_host(host, None)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.2", "example.org", "localhost.example.org", "127.0.0.1.nip.io", "", None]
)
def test_everything_else_is_not_loopback_and_wants_a_key(host: str | None) -> None:
    assert not is_loopback(host)
    with pytest.raises(SettingsError, match="EARSHOT_API_KEY to be set"):
        check_host(str(host), None)
    check_host(str(host), "k" * 16)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "earshot.example"])
def test_the_server_does_not_start_for_others_without_a_key(
    host: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EARSHOT_API_KEY", "")
    assert main(["serve", "--host", host]) == 1
    assert "EARSHOT_API_KEY to be set" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["short", "ö" * 20, " " + "k" * 20, "k" * 20 + "\n"])
def test_a_key_that_is_easily_guessed_or_no_header_is_refused(key: str) -> None:
    with pytest.raises(SettingsError, match="EARSHOT_API_KEY: expected 16") as caught:
        Access(key)
    assert key not in str(caught.value)


def test_the_body_may_hold_the_largest_sound_in_base64() -> None:
    limits = Limits(max_bytes=10_001)
    body = SoundInJson(audio=encoded(bytes(limits.max_bytes)), name="x" * 255).model_dump_json()
    assert len(body) <= BodyLimits.of(limits, grace_s=1).max_bytes


def receiving(*chunks: bytes | None) -> Receive:
    """A caller that sends ``chunks``; ``None`` hangs up; then it says nothing more."""
    left: Iterator[tuple[int, bytes | None]] = iter(enumerate(chunks, start=1))

    async def receive() -> Message:
        for number, chunk in left:
            if chunk is None:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": chunk, "more_body": number < len(chunks) or not chunk}
        await asyncio.Event().wait()
        raise AssertionError

    return receive


def read(*chunks: bytes | None, max_bytes: int = 100, grace_s: float = 30.0, **headers: str) -> bytes:
    limits = BodyLimits(max_bytes=max_bytes, grace_s=grace_s)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return asyncio.run(read_body(receiving(*chunks), given, limits))


def test_a_body_is_read_whole_up_to_its_limit() -> None:
    assert read(b"ab", b"cd") == b"abcd"
    assert len(read(bytes(60), bytes(40))) == 100


@pytest.mark.parametrize(
    ("chunks", "headers", "status"),
    [
        ([bytes(60), bytes(41)], {}, 413),
        ([b""], {"content_length": "101"}, 413),
        ([b""], {"content_length": "9" * 100}, 413),
        ([b"x"], {"content_encoding": "br"}, 415),
    ],
)
def test_a_body_beyond_its_bounds_is_refused(chunks: list[bytes], headers: dict[str, str], status: int) -> None:
    with pytest.raises(RequestError) as caught:
        read(*chunks, **headers)
    assert caught.value.status == status


def test_a_body_that_stops_is_refused_in_time_and_one_that_breaks_off_has_nobody_to_tell() -> None:
    with pytest.raises(RequestError, match="got 1 bytes") as caught:
        read(b"x", b"", grace_s=0.05)
    assert caught.value.status == 408
    with pytest.raises(DisconnectedError):
        read(b"x", None)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (None, "sound"),
        ("", "sound"),
        ("a/b/", "sound"),
        ("a\\b.wav", "b.wav"),
        ("a\0\ud800b", "a��b"),
        ("x" * 999, "x" * 255),
    ],
)
def test_names_are_made_fit_to_show(given: str | None, shown: str) -> None:
    assert shown_name(given) == shown


def test_workers_finish_what_waits_before_they_close_and_take_nothing_after() -> None:
    workers = Workers(count=1, capacity=5, timeout_s=60)
    begun, go_on, done = threading.Event(), threading.Event(), list[int]()

    def work(number: int) -> int:
        begun.set()
        assert go_on.wait(60)
        done.append(number)
        return number

    async def ask() -> list[int]:
        asked = [asyncio.create_task(workers.do(lambda _, i=i: work(i))) for i in range(4)]  # type: ignore[misc]
        while workers.waiting < 3:
            await asyncio.sleep(0.01)
        assert await asyncio.to_thread(begun.wait, 60)
        assert workers.busy == 1
        closing = asyncio.create_task(asyncio.to_thread(workers.close))
        go_on.set()
        await closing
        with pytest.raises(RequestError, match="no more may"):
            await workers.do(lambda _: None)
        return await asyncio.gather(*asked)

    assert asyncio.run(ask()) == done == [0, 1, 2, 3]


def test_an_error_of_the_work_reaches_who_asked_and_the_worker_lives_on() -> None:
    workers = Workers(count=1, capacity=1, timeout_s=60)

    async def ask() -> str:
        for kind in (ValueError, TimeoutError):
            with pytest.raises(kind):
                await workers.do(lambda _, kind=kind: (_ for _ in ()).throw(kind("mine")))  # type: ignore[misc]
        return await workers.do(lambda _: "well")

    assert asyncio.run(ask()) == "well"
    workers.close()


def test_work_and_who_asked_cannot_both_win() -> None:
    taken, given_up = Claim(), Claim()
    taken.take()
    assert not taken.give_up()
    taken.take()
    assert given_up.give_up()
    with pytest.raises(LateError):
        given_up.take()


def test_who_asked_waits_for_work_that_is_about_to_leave_its_trace() -> None:
    workers = Workers(count=1, capacity=1, timeout_s=0.1)
    storing = threading.Event()

    def work(claim: Claim) -> str:
        claim.take()
        storing.set()
        time.sleep(0.5)  # past the time that whoever asked has
        return "stored"

    assert asyncio.run(workers.do(work)) == "stored"
    workers.close()


def test_what_nobody_waits_for_leaves_the_queue_or_no_trace() -> None:
    workers = Workers(count=1, capacity=1, timeout_s=60)
    begun, go_on, traces = threading.Event(), threading.Event(), list[str]()

    def work(claim: Claim) -> None:
        begun.set()
        assert go_on.wait(60)
        claim.take()
        traces.append("left")

    async def ask() -> None:
        hung_up = [asyncio.get_running_loop().create_future() for _ in range(2)]
        asked = [asyncio.create_task(workers.do(work, gone=hung_up[0]))]
        assert await asyncio.to_thread(begun.wait, 60)
        asked.append(asyncio.create_task(workers.do(work, gone=hung_up[1])))
        while not workers.waiting:
            await asyncio.sleep(0.01)
        for gone in hung_up:
            gone.set_result(None)
        for one in asked:
            with pytest.raises(DisconnectedError):
                await one
        assert workers.waiting == 0  # though the only worker is still at the first
        assert workers.busy == 1

    asyncio.run(ask())
    go_on.set()
    workers.close()
    assert traces == []
