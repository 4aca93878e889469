import contextlib
import csv
import errno
import hashlib
import io
import os
import random
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote

import pytest

from core import cli, transfer
from core import download as module
from core.dataset import GOLD, load_dataset
from core.download import CHECKSUMS, SOURCES, download, read_checksums
from core.errors import DatasetError
from tests.synthetic_dataset import write_dataset


@dataclass
class Site:
    """A server of one file that misbehaves as told: each request takes the next of ``moods``, then all are good.

    With ``files``, a server of those by their path, and of no other; ``asked`` lists the paths.
    """

    data: bytes = b""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    moods: list[str] = field(default_factory=list)
    etag: str = '"v1"'
    requests: list[str | None] = field(default_factory=list)
    url: str = ""
    over: threading.Event = field(default_factory=threading.Event)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers.get("Range")
        self.requests.append(asked)
        self.asked.append(unquote(handler.path))
        data = self.files.get(self.asked[-1], b"") if self.files else self.data
        mood = self.moods.pop(0) if self.moods else "good"
        if self.files and not data:
            mood = "404"
        if mood.isdigit():
            handler.send_error(int(mood))
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and mood != "ignore range" else 0
        if start and handler.headers.get("If-Range", self.etag) != self.etag:
            start = 0
        if start and start >= len(data):
            handler.send_error(416)
            return
        body = data[start:]
        handler.send_response(206 if start else 200)
        if start:
            shown = 0 if mood == "wrong range" else start
            handler.send_header("Content-Range", f"bytes {shown}-{len(data) - 1}/{len(data)}")
        handler.send_header("ETag", self.etag)
        if mood != "silent":
            claim = {"claims more": 1_000, "claims less": -1_000}.get(mood, 0)
            handler.send_header("Content-Length", str(len(body) + claim))
        handler.end_headers()
        middle = len(body) // 2
        handler.wfile.write(body[:middle])
        handler.wfile.flush()
        if mood == "stall":
            self.over.wait(5)
        if mood != "drop":
            handler.wfile.write(body[middle:])


@pytest.fixture
def site() -> Iterator[Site]:
    place = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                place.answer(self)
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    place.url = f"http://127.0.0.1:{server.server_port}/archive.zip"
    yield place
    place.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> bytes:
    """A published archive of a small dataset, and the checksum table that goes with it."""
    original = tmp_path / "original"
    write_dataset(original, n_classes=2, folds=2, per_class_and_fold=1, duration_s=0.3)
    with (original / "meta" / "esc50.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        data = (original / "audio" / row["filename"]).read_bytes()
        row |= {"bytes": str(len(data)), "sha256": hashlib.sha256(data).hexdigest()}
        row["upstream"] = f"001 - Thing/{row['filename']}"
    table = tmp_path / "checksums.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    monkeypatch.setattr(module, "CHECKSUMS", table)
    monkeypatch.setattr(transfer, "CHUNK", 1_000)  # the archive has about 100,000 bytes
    # load_dataset calls a set that no one publishes by its folder
    monkeypatch.setitem(SOURCES, "esc10", replace(SOURCES["esc10"], name="new", url="http://127.0.0.1:1/"))
    return zipped({f"ESC-10-553c/{row['upstream']}": original / "audio" / row["filename"] for row in rows})


def zipped(members: dict[str, Path | bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content if isinstance(content, bytes) else content.read_bytes())
    return buffer.getvalue()


def unzipped(data: bytes) -> dict[str, Path | bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def fetch(site: Site, to: Path, **changes: object) -> Path:
    return download("esc10", to, url=site.url, backoff_s=0.01, timeout_s=(2, 0.3), **changes)  # type: ignore[arg-type]


def refused(site: Site, to: Path, **changes: object) -> DatasetError:
    with pytest.raises(DatasetError) as caught:
        fetch(site, to, **changes)
    return caught.value


def resumed_at(requested: str | None) -> int:
    assert requested is not None
    return int(requested.removeprefix("bytes=").rstrip("-"))


def litter(folder: Path) -> set[str]:
    """What a download left in ``folder`` beside the lock."""
    every = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {name for name in every if not name.endswith(".lock")}


def test_a_good_server_gives_a_dataset_that_loads_and_no_litter(site: Site, small: bytes, tmp_path: Path) -> None:
    site.data = small
    seen: list[tuple[int, int | None]] = []
    folder = fetch(site, tmp_path / "place" / "new", progress=lambda done, total: seen.append((done, total)))
    assert len(load_dataset(folder).clips) == 4
    assert seen[0] == (0, len(small))
    assert seen[-1] == (len(small), len(small))
    assert {path.name for path in folder.parent.iterdir()} == {"new", ".new.lock"}
    assert (folder / "meta" / "attribution.csv").is_file()


def test_a_server_that_is_silent_about_the_length_is_taken_as_it_is(site: Site, small: bytes, tmp_path: Path) -> None:
    site.data, site.moods = small, ["silent"]
    seen: list[int | None] = []
    assert len(load_dataset(fetch(site, tmp_path / "new", progress=lambda _, total: seen.append(total))).clips) == 4
    assert set(seen) == {None}


@pytest.mark.parametrize("etag", ['"v1"', 'W/"v1"', ""])
def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(
    site: Site, small: bytes, tmp_path: Path, etag: str
) -> None:
    site.data, site.moods, site.etag = small, ["drop", "drop"], etag
    fetch(site, tmp_path / "new")
    assert site.requests[0] is None
    assert resumed_at(site.requests[1]) == pytest.approx(len(small) // 2, abs=1_000)
    assert resumed_at(site.requests[2]) > resumed_at(site.requests[1])
    assert len(site.requests) == 3


@pytest.mark.parametrize(
    "moods",
    [["500", "503"], ["429"], ["claims more"], ["stall"], ["drop", "ignore range"], ["drop", "wrong range"]],
    ids=" then ".join,
)
def test_a_server_with_troubles_is_asked_again(site: Site, small: bytes, tmp_path: Path, moods: list[str]) -> None:
    site.data, site.moods = small, list(moods)
    assert len(load_dataset(fetch(site, tmp_path / "new")).clips) == 4
    assert not site.moods


def test_a_part_of_another_version_is_not_continued(site: Site, small: bytes, tmp_path: Path) -> None:
    site.data, site.moods = b"x" * len(small), ["drop", "404"]
    refused(site, tmp_path / "new")
    site.data, site.etag = small, '"v2"'
    assert len(load_dataset(fetch(site, tmp_path / "new")).clips) == 4
    assert len(site.requests) == 3


def test_a_part_that_turns_out_not_to_fit_costs_one_more_transfer(site: Site, small: bytes, tmp_path: Path) -> None:
    site.data, site.moods, site.etag = b"x" * len(small), ["drop", "404"], 'W/"v1"'
    refused(site, tmp_path / "new")
    site.data = small
    assert len(load_dataset(fetch(site, tmp_path / "new")).clips) == 4
    assert [bool(asked) for asked in site.requests] == [False, True, True, False]


def test_a_part_of_another_address_or_too_long_a_part_is_not_continued(
    site: Site, small: bytes, tmp_path: Path
) -> None:
    site.data, site.moods = small + b"more", ["drop", "404", "drop", "404"]
    refused(site, tmp_path / "new")
    site.url += "?other"
    refused(site, tmp_path / "new")
    assert site.requests[2] is None
    site.data = small[:1_000]
    assert refused(site, tmp_path / "new").code == "checksum_mismatch"
    site.data = small
    assert len(load_dataset(fetch(site, tmp_path / "new")).clips) == 4


def test_what_arrived_is_kept_for_the_next_attempt(site: Site, small: bytes, tmp_path: Path) -> None:
    site.data, site.moods = small, ["drop", "500"]
    assert "what arrived is kept" in str(refused(site, tmp_path / "new", attempts=2))
    fetch(site, tmp_path / "new")
    assert resumed_at(site.requests[-1]) == pytest.approx(len(small) // 2, abs=1_000)


def test_an_archive_fetched_by_hand_is_taken_and_checked(site: Site, small: bytes, tmp_path: Path) -> None:
    site.moods = ["404"]
    message = str(refused(site, tmp_path / "new"))
    by_hand = Path(message.partition("save it as ")[2].partition(" and repeat")[0])
    by_hand.write_bytes(small)
    assert len(load_dataset(fetch(site, tmp_path / "new")).clips) == 4
    assert len(site.requests) == 1


def test_a_missing_file_is_told_at_once_with_the_way_out(site: Site, small: bytes, tmp_path: Path) -> None:
    site.moods = ["404"]
    error = refused(site, tmp_path / "new")
    assert error.code == "unreachable"
    assert f"could not be fetched from {site.url}: the server answered 404 Not Found." in str(error)
    assert "by hand" in str(error)
    assert "EARSHOT_DATA_DIR" in str(error)
    assert len(site.requests) == 1


def test_a_server_that_never_goes_on_is_given_up_in_plain_words(site: Site, small: bytes, tmp_path: Path) -> None:
    site.data, site.moods = small, ["stall", "stall"]
    assert "the server stopped answering" in str(refused(site, tmp_path / "new", attempts=2))


def test_no_server_is_told_by_its_address_and_the_cause(small: bytes, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"from http://127\.0\.0\.1:1/: Failed to .*refused\. Check the connection"):
        download("esc10", tmp_path / "new", attempts=2, backoff_s=0.01)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("url", ["nonsense", "ftp://127.0.0.1/x", "http://", "http://[/"])
def test_an_address_that_cannot_be_is_not_tried_again(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer.time, "sleep", lambda _: pytest.fail("waited for nothing"))
    with pytest.raises(DatasetError) as caught:
        download("esc10", tmp_path / "new", url=url)
    assert caught.value.code == "unreachable"


def test_one_changed_byte_lands_nowhere_and_is_removed(site: Site, small: bytes, tmp_path: Path) -> None:
    members = unzipped(small)
    name, content = next(iter(members.items()))
    assert isinstance(content, bytes)
    site.data = zipped(members | {name: content[:-1] + bytes([content[-1] ^ 1])})
    error = refused(site, tmp_path / "place" / "new")
    assert error.code == "checksum_mismatch"
    assert f"1 of 4 clips are missing or altered: {name.partition('/')[2]}" in str(error)
    assert not [name for name in litter(tmp_path / "place") if not name.endswith(".json")]
    site.data = small
    assert len(load_dataset(fetch(site, tmp_path / "place" / "new")).clips) == 4


def test_a_bad_archive_of_any_kind_is_refused(site: Site, small: bytes, tmp_path: Path) -> None:
    nameless = zipped({"Q": b"hello"}).replace(b"Q", b"\0")  # zipfile cuts names at a NUL
    for data in (zipped({"x/readme": b"hello"}), nameless, small[: len(small) // 2], b"<html>sign in</html>", b""):
        site.data = data
        assert refused(site, tmp_path / "new").code == "checksum_mismatch"


def test_a_server_that_claims_less_than_there_is_gives_a_damaged_archive(
    site: Site, small: bytes, tmp_path: Path
) -> None:
    site.data, site.moods = small, ["claims less"]
    assert refused(site, tmp_path / "new").code == "checksum_mismatch"
    assert len(load_dataset(fetch(site, tmp_path / "new")).clips) == 4


def test_no_damage_to_the_archive_escapes_as_another_error(small: bytes, tmp_path: Path) -> None:
    packed = bytearray(zipped(unzipped(small), zipfile.ZIP_DEFLATED))
    rng = random.Random(0)
    archive, codes = tmp_path / "archive.zip", set()
    directory = packed.index(b"PK\x01\x02")
    for trial in range(300):
        data = bytearray(packed)
        for _ in range(1 + trial % 4):
            data[rng.randrange(directory if trial % 2 else 0, len(data))] = rng.randrange(256)
        archive.write_bytes(data)
        try:
            module._unpack(archive, tmp_path / "work", tmp_path / f"new{trial}", SOURCES["esc10"])
        except DatasetError as exc:
            codes.add(exc.code)
    assert codes == {"checksum_mismatch", "unsafe_archive"}


def test_members_that_lead_elsewhere_are_links_or_bombs_are_not_unpacked(
    site: Site, small: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = zipfile.ZipInfo("x/link.ogg")
    link.external_attr = 0o120777 << 16
    linked = io.BytesIO(small)
    with zipfile.ZipFile(linked, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    bomb = zipped(unzipped(small) | {"x/zeros.ogg": b"\0" * (11 << 20)}, zipfile.ZIP_DEFLATED)
    monkeypatch.setitem(SOURCES, "esc10", replace(SOURCES["esc10"], largest_unpacked_bytes=10 << 20))
    for data, why in (
        (zipped(unzipped(small) | {"x/../../evil.ogg": b"no"}), "leads out"),
        (zipped(unzipped(small) | {"/evil.ogg": b"no"}), "leads out"),
        (zipped(unzipped(small) | {"x\\..\\evil.ogg": b"no"}), "leads out"),
        (linked.getvalue(), "is a link"),
        (bomb, "unpacked it has"),
        (zipped(unzipped(small) | {f"x/{k}": b"" for k in range(1_000)}), "1,004 members"),
        (zipped(unzipped(small), zipfile.ZIP_LZMA), "unusual"),
    ):
        site.data = data
        error = refused(site, tmp_path / "place" / "new")
        assert (error.code, why in str(error)) == ("unsafe_archive", True), error
    assert not [name for name in litter(tmp_path / "place") if not name.endswith(".json")]


def test_more_bytes_than_the_dataset_can_have_are_not_taken(
    site: Site, small: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SOURCES, "esc10", replace(SOURCES["esc10"], largest_bytes=1_000))
    site.data = small
    assert "more than 1,000 bytes" in str(refused(site, tmp_path / "new"))


def test_a_second_download_changes_nothing(site: Site, small: bytes, tmp_path: Path) -> None:
    site.data = small
    fetch(site, tmp_path / "new")
    fetch(site, tmp_path / "new")
    assert len(site.requests) == 1


def test_a_clip_that_was_changed_since_is_told(site: Site, small: bytes, tmp_path: Path) -> None:
    site.data = small
    fetch(site, tmp_path / "new")
    clip = next((tmp_path / "new" / "audio").iterdir())
    clip.write_bytes(b"garbage" * 100)
    error = refused(site, tmp_path / "new")
    assert (error.code, clip.name in str(error)) == ("in_the_way", True)
    assert clip.read_bytes().startswith(b"garbage")


def test_a_place_that_holds_something_else_is_left_alone(site: Site, small: bytes, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "letter.txt").write_text("dear")
    (tmp_path / "file").write_text("dear")
    write_dataset(tmp_path / "other", n_classes=2, folds=2, duration_s=0.1)
    write_dataset(tmp_path / "damaged", n_classes=2, folds=2, duration_s=0.1)
    next((tmp_path / "damaged" / "audio").iterdir()).unlink()
    for name, why in (
        ("folder", "something else is there"),
        ("file", "something else is there"),
        ("other", "other is there"),
        ("damaged", "1 are missing"),
        ("/", "a folder of its own"),
    ):
        error = refused(site, tmp_path / name)
        assert (error.code, why in str(error)) == ("in_the_way", True), error
    assert (tmp_path / "folder" / "letter.txt").read_text() == "dear"
    assert not site.requests


def test_an_empty_folder_and_the_current_one_are_filled(
    site: Site, small: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.data = small
    (tmp_path / "new").mkdir()
    monkeypatch.chdir(tmp_path / "new")
    fetch(site, Path())
    assert len(load_dataset(tmp_path / "new").clips) == 4


def test_two_downloads_to_one_place_make_one_transfer(site: Site, small: bytes, tmp_path: Path) -> None:
    site.data = small
    threads = [threading.Thread(target=fetch, args=(site, tmp_path / "new")) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(site.requests) == 1
    assert len(load_dataset(tmp_path / "new").clips) == 4


@pytest.mark.parametrize("step", ["_receive", "_unpack"])
def test_a_full_disk_is_told_with_what_to_do_and_does_no_harm(
    site: Site, small: bytes, tmp_path: Path, step: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    site.data = small
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer.Transfer if step == "_receive" else module, step, full)
        error = refused(site, tmp_path / "new")
    assert error.code == "disk"
    assert "No space left on device. Free space" in str(error)
    assert not (tmp_path / "new").exists()
    fetch(site, tmp_path / "new")
    assert len(site.requests) == (2 if step == "_receive" else 1)


def test_what_a_killed_run_left_half_unpacked_is_done_again(site: Site, small: bytes, tmp_path: Path) -> None:
    site.data = small
    half = tmp_path / ".new.esc10.download" / "unpacked" / "audio"
    half.mkdir(parents=True)
    (half / "rest.ogg").write_bytes(b"x")
    folder = fetch(site, tmp_path / "new")
    assert not (folder / "audio" / "rest.ogg").exists()
    assert len(load_dataset(folder).clips) == 4


def test_a_dataset_no_one_publishes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="Expected one of esc10, esc50, gold, got 'esc3'"):
        download("esc3", tmp_path / "new")  # type: ignore[arg-type]


@pytest.fixture
def fifty() -> dict[str, Path | bytes]:
    """The members of an archive as ESC-50's; ``publish`` has its checksum expected."""
    places = [(fold, target, take) for fold in range(1, 6) for target in range(50) for take in "ABCDEFGH"]
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    lines += [
        f"{f}-{f}{t:02}-{take}-{t}.wav,{f},{t},{f'class_{t}' if t else 'dog'},False,{f}{t:02},{take}"
        for f, t, take in places
    ]
    members: dict[str, Path | bytes] = {
        f"ESC-50-33c8/audio/{line.partition(',')[0]}": line.encode() for line in lines[1:]
    }
    members["ESC-50-33c8/meta/esc50.csv"] = "\n".join(lines).encode()
    members["ESC-50-33c8/LICENSE"] = b"CC BY-NC, and the authors"
    return members


def publish(monkeypatch: pytest.MonkeyPatch, data: bytes) -> bytes:
    monkeypatch.setitem(SOURCES, "esc50", replace(SOURCES["esc50"], sha256=hashlib.sha256(data).hexdigest()))
    return data


def test_esc50_arrives_with_its_clips_table_and_licence_alone(
    site: Site, tmp_path: Path, fifty: dict[str, Path | bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    others: dict[str, Path | bytes] = {
        "ESC-50-33c8/audio/run.sh": b"no",
        "ESC-50-33c8/x/audio/1.wav": b"no",
        "x": b"no",
    }
    site.data = publish(monkeypatch, zipped(fifty | others))
    folder = download("esc50", tmp_path / "fifty", url=site.url)
    dataset = load_dataset(folder)
    assert (dataset.name, len(dataset.class_names), len(dataset.clips)) == ("ESC-50", 50, 2_000)
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {name.partition("/")[2] for name in fifty}


def test_esc50_of_another_checksum_or_with_clips_missing_is_refused(
    site: Site, tmp_path: Path, fifty: dict[str, Path | bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    site.data = zipped(fifty)
    with pytest.raises(DatasetError, match=r"its sha256 is .* instead of 661183a6") as caught:
        download("esc50", tmp_path / "fifty", url=site.url)
    assert caught.value.code == "checksum_mismatch"
    site.data = publish(monkeypatch, zipped({"ESC-50-33c8/audio/1-2-A-3.wav": b"x"}))
    with pytest.raises(DatasetError, match="1 clips instead of 2,000"):
        download("esc50", tmp_path / "fifty", url=site.url)
    assert not (tmp_path / "fifty").exists()


def test_the_published_esc10_arrives_byte_for_byte(site: Site, esc10_dir: Path, tmp_path: Path) -> None:
    rows = read_checksums()
    site.data = zipped({f"ESC-10-553c/{row['upstream']}": esc10_dir / "audio" / row["filename"] for row in rows})
    folder = download("esc10", tmp_path / "esc10", url=site.url)
    assert load_dataset(folder).content_hash == load_dataset(esc10_dir).content_hash
    assert load_dataset(folder).name == "ESC-10"


@pytest.fixture
def golden(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Site:
    """A server of eleven files as upstream has them, and the checksum table that goes with it."""
    rng = random.Random(0)
    rows = [row for row in read_checksums() if row["filename"] in {clip.filename for clip in GOLD}]
    for row in rows:
        data = rng.randbytes(6_000)
        site.files[f"/{row['upstream']}"] = data
        row |= {"bytes": "6000", "sha256": hashlib.sha256(data).hexdigest()}
    table = tmp_path / "checksums.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    monkeypatch.setattr(module, "CHECKSUMS", table)
    monkeypatch.setattr(transfer, "CHUNK", 1_000)
    site.url = site.url.rpartition("/")[0]
    return site


def gold(site: Site, to: Path, **changes: object) -> Path:
    return download("gold", to, url=site.url, backoff_s=0.01, timeout_s=(2, 0.3), **changes)  # type: ignore[arg-type]


def no_gold(site: Site, to: Path, **changes: object) -> DatasetError:
    with pytest.raises(DatasetError) as caught:
        gold(site, to, **changes)
    assert not to.exists()
    return caught.value


def test_the_gold_clips_arrive_one_by_one_in_a_layout_that_loads(golden: Site, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    folder = gold(golden, tmp_path / "place" / "gold", progress=lambda done, total: seen.append((done, total)))
    assert sorted(golden.asked) == sorted(golden.files)
    dataset = load_dataset(folder, clips_per_class=1)
    assert (dataset.name, len(dataset.class_names)) == ("ESC-10 gold", 10)
    assert {clip.filename for clip in dataset.clips} == {clip.filename for clip in GOLD}
    assert {clip.path.read_bytes() for clip in dataset.clips} == set(golden.files.values())
    assert {path.name for path in folder.parent.iterdir()} == {"gold", ".gold.lock"}
    assert len((folder / "meta" / "attribution.csv").read_text(encoding="utf-8").splitlines()) == 1 + len(GOLD)
    assert (seen[0], seen[-1]) == ((0, 66_000), (66_000, 66_000))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_the_gold_clips_once_there_are_not_fetched_again(golden: Site, tmp_path: Path) -> None:
    gold(golden, tmp_path / "gold")
    gold(golden, tmp_path / "gold")
    assert len(golden.asked) == len(GOLD)


def test_the_gold_clips_alone_are_too_few_to_train_on(golden: Site, tmp_path: Path) -> None:
    folder = gold(golden, tmp_path / "gold")
    with pytest.raises(DatasetError, match="at least 2 clips a class"):
        load_dataset(folder)


@pytest.mark.parametrize(
    "moods",
    [
        ["stall"],
        ["drop"],
        ["claims more"],
        ["good", "drop", "ignore range"],
        ["good", "drop", "wrong range"],
        ["500", "good", "429"],
        ["silent"],
    ],
    ids=" then ".join,
)
def test_a_server_that_stalls_truncates_or_claims_more_is_asked_again_for_that_clip(
    golden: Site, tmp_path: Path, moods: list[str]
) -> None:
    golden.moods = list(moods)
    folder = gold(golden, tmp_path / "gold")
    assert len(load_dataset(folder, clips_per_class=1).clips) == len(GOLD)
    assert not golden.moods
    assert set(golden.asked) == set(golden.files)


def test_a_clip_that_breaks_off_goes_on_where_it_stopped(golden: Site, tmp_path: Path) -> None:
    golden.moods = ["good", "good", "drop"]
    gold(golden, tmp_path / "gold")
    assert golden.asked[2] == golden.asked[3]
    assert resumed_at(golden.requests[3]) == 3_000
    assert [asked for asked in golden.requests if asked] == [golden.requests[3]]


def test_what_a_broken_download_of_the_gold_clips_brought_is_not_fetched_again(golden: Site, tmp_path: Path) -> None:
    golden.moods = ["good"] * 5 + ["drop", "500"]
    assert "what arrived is kept" in str(no_gold(golden, tmp_path / "gold", attempts=2))
    assert gold(golden, tmp_path / "gold").is_dir()
    assert len(golden.asked) == 5 + 2 + 6
    assert resumed_at(golden.requests[7]) == 3_000


def test_a_server_that_claims_less_than_a_clip_has_is_refused(golden: Site, tmp_path: Path) -> None:
    golden.moods = ["claims less"]
    assert no_gold(golden, tmp_path / "gold").code == "checksum_mismatch"
    assert gold(golden, tmp_path / "gold").is_dir()


def test_one_altered_clip_of_eleven_leaves_nothing_half_placed(golden: Site, tmp_path: Path) -> None:
    path = list(golden.files)[-1]
    whole = golden.files[path]
    for data in (whole[:-1] + bytes([whole[-1] ^ 1]), whole + b"more", whole[:-1], b"<html>sign in</html>"):
        golden.files[path] = data
        error = no_gold(golden, tmp_path / "place" / "gold")
        assert error.code == "checksum_mismatch"
        assert path.removeprefix("/") in str(error)
        kept = {name.rpartition("/")[2] for name in litter(tmp_path / "place") if not name.endswith(".json")}
        assert len(kept) == len(GOLD) - 1
    golden.files[path] = whole
    assert gold(golden, tmp_path / "place" / "gold").is_dir()
    assert len(golden.asked) == len(GOLD) + 4
    assert {path.name for path in (tmp_path / "place").iterdir()} == {"gold", ".gold.lock"}


def test_a_clip_joined_from_parts_that_do_not_fit_costs_one_more_transfer(golden: Site, tmp_path: Path) -> None:
    path, golden.etag = next(iter(golden.files)), 'W/"v1"'
    whole, golden.files[path] = golden.files[path], b"x" * 6_000
    golden.moods = ["drop", "404"]
    no_gold(golden, tmp_path / "gold")
    golden.files[path] = whole
    gold(golden, tmp_path / "gold")
    assert [bool(asked) for asked in golden.requests[:4]] == [False, True, True, False]
    assert set(golden.asked[:4]) == {path}


def test_a_gold_clip_that_upstream_no_longer_has_is_told_by_its_address(golden: Site, tmp_path: Path) -> None:
    path = list(golden.files)[3]
    del golden.files[path]
    error = no_gold(golden, tmp_path / "gold")
    assert error.code == "unreachable"
    assert f"{golden.url}{quote(path)}: the server answered 404" in str(error)


def test_more_bytes_than_a_clip_can_have_are_not_taken(golden: Site, tmp_path: Path) -> None:
    golden.files[next(iter(golden.files))] = bytes(2 << 20)
    assert "more than 1,048,576 bytes" in str(no_gold(golden, tmp_path / "gold"))


def test_another_dataset_in_the_place_of_the_gold_clips_is_left_alone(golden: Site, tmp_path: Path) -> None:
    write_dataset(tmp_path / "other", n_classes=2, folds=2, duration_s=0.1)
    with pytest.raises(DatasetError, match="other is there"):
        gold(golden, tmp_path / "other")
    assert not golden.asked


def test_the_published_gold_clips_fit_what_is_expected_of_them() -> None:
    source = SOURCES["gold"]
    rows = [row for row in read_checksums() if row["filename"] in source.clips]
    assert len(rows) == len(GOLD)
    assert max(int(row["bytes"]) for row in rows) < source.largest_bytes
    assert source.url.rpartition("/")[2] == SOURCES["esc10"].url.rpartition("/")[2]  # the same commit


def test_the_real_gold_clips_are_what_the_gold_answers_are_asked_of(
    site: Site, esc10_dir: Path, tmp_path: Path
) -> None:
    for row in read_checksums():
        site.files[f"/{row['upstream']}"] = (esc10_dir / "audio" / row["filename"]).read_bytes()
    folder = download("gold", tmp_path / "gold", url=site.url.rpartition("/")[0])
    assert cli.main(["gold", "--data", str(folder)]) == 0


def test_the_shipped_table_lists_all_four_hundred_clips_once() -> None:
    rows = read_checksums()
    for column in ("filename", "upstream", "sha256"):
        assert len({row[column] for row in rows}) == 400
    assert sum(int(row["bytes"]) for row in rows) < SOURCES["esc10"].largest_unpacked_bytes
    assert CHECKSUMS.stat().st_size < 100_000


@pytest.mark.parametrize(
    ("arguments", "setting", "expected"),
    [
        ([], None, "data/esc10"),
        (["--dataset", "esc50"], None, "data/esc50"),
        (["--dataset", "gold"], None, "data/gold"),
        (["--dataset", "esc50"], "mine", "mine"),
        (["--dataset", "esc10", "--to", "there"], "mine", "there"),
    ],
    ids=["default", "the other", "the gold clips", "the setting", "the option"],
)
def test_the_command_says_where_the_dataset_is_and_reports_progress_on_stderr(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    setting: str | None,
    expected: str,
) -> None:
    def stand_in(dataset: str, destination: Path, *, progress: module.Progress) -> Path:
        for done in (0, 50, 100, 0, 200):  # a server may have to begin again
            progress(done, 200)
        return destination

    monkeypatch.setattr(module, "download", stand_in)
    monkeypatch.delenv("EARSHOT_DATA_DIR", raising=False)
    if setting:
        monkeypatch.setenv("EARSHOT_DATA_DIR", setting)
    assert cli.main(["download", *arguments]) == 0
    out, err = capsys.readouterr()
    assert out.strip().endswith(expected)
    assert "200/200" in err


def test_the_command_knows_no_other_dataset(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["download", "--dataset", "esc3"]) == 2
    assert "esc3" in capsys.readouterr().err
