import contextlib
import csv
import io
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from core import download as module
from core.dataset import load_dataset
from core.download import CHECKSUMS, download, read_checksums
from core.errors import DatasetError
from tests.synthetic_dataset import write_dataset


@dataclass
class Site:
    """A server of one file that misbehaves as told: each request takes the next of ``moods``, then all are good."""

    data: bytes = b""
    moods: list[str] = field(default_factory=list)
    etag: str = '"v1"'
    requests: list[str | None] = field(default_factory=list)
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests.append(handler.headers.get("Range"))
        mood = self.moods.pop(0) if self.moods else "good"
        if mood.isdigit():
            handler.send_error(int(mood))
            return
        asked = handler.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and mood != "ignore range" else 0
        if start and handler.headers.get("If-Range") != self.etag:
            start = 0
        body = self.data[start:]
        handler.send_response(206 if start else 200)
        handler.send_header("ETag", self.etag)
        handler.send_header("Content-Length", str(len(body) + (1_000 if mood == "long" else 0)))
        handler.end_headers()
        if mood == "drop":
            body = body[: len(body) // 2]
        handler.wfile.write(body[: len(body) // 2])
        handler.wfile.flush()
        if mood == "stall":
            time.sleep(1.5)
        handler.wfile.write(body[len(body) // 2 :])


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
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    place.url = f"http://127.0.0.1:{server.server_port}/archive.zip"
    yield place
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> bytes:
    """A published archive of a small dataset, and the checksum table that goes with it."""
    write_dataset(tmp_path / "original", n_classes=2, folds=2, per_class_and_fold=1, duration_s=0.3)
    table = tmp_path / "checksums.csv"
    with (tmp_path / "original" / "meta" / "esc50.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        data = (tmp_path / "original" / "audio" / row["filename"]).read_bytes()
        row |= {
            "bytes": str(len(data)),
            "sha256": module.hashlib.sha256(data).hexdigest(),
            "upstream": f"00/{row['take']}",
        }
        row["upstream"] = f"001 - Thing/{row['filename']}"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    monkeypatch.setattr(module, "CHECKSUMS", table)
    monkeypatch.setattr(module, "CHUNK", 1_000)  # the archive has about 100,000 bytes
    monkeypatch.setitem(module.SOURCES, "esc10", module.Source("new", "http://127.0.0.1:1/", 10 << 20))
    return zipped({f"ESC-10-553c/{row['upstream']}": tmp_path / "original" / "audio" / row["filename"] for row in rows})


def zipped(members: dict[str, Path | bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content if isinstance(content, bytes) else content.read_bytes())
    return buffer.getvalue()


def fetch(site: Site, to: Path, **changes: object) -> Path:
    return download("esc10", to, url=site.url, backoff_s=0.01, timeout_s=(2, 0.5), **changes)  # type: ignore[arg-type]


def resumed_at(requested: str | None) -> int:
    assert requested is not None
    return int(requested.removeprefix("bytes=").rstrip("-"))


def test_a_good_server_gives_a_dataset_that_loads_and_no_litter(site: Site, small: bytes, tmp_path: Path) -> None:
    site.data = small
    seen: list[tuple[int, int | None]] = []
    folder = fetch(site, tmp_path / "place" / "new", progress=lambda done, total: seen.append((done, total)))
    assert len(load_dataset(folder).clips) == 4
    assert seen[0] == (0, len(small))
    assert seen[-1] == (len(small), len(small))
    left = {path.name for path in folder.parent.iterdir()}
    assert left == {"new", ".new.lock"}


def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(site: Site, small: bytes, tmp_path: Path) -> None:
    site.data, site.moods = small, ["drop", "drop"]
    fetch(site, tmp_path / "new")
    assert site.requests[0] is None
    assert resumed_at(site.requests[1]) == pytest.approx(len(small) // 2, abs=1_000)
    assert resumed_at(site.requests[2]) > resumed_at(site.requests[1])
    assert len(site.requests) == 3


@pytest.mark.parametrize("moods", [["500", "503"], ["429"], ["long"], ["stall"], ["drop", "ignore range"]])
def test_a_server_with_troubles_is_asked_again(site: Site, small: bytes, tmp_path: Path, moods: list[str]) -> None:
    site.data, site.moods = small, list(moods)
    assert len(load_dataset(fetch(site, tmp_path / "new")).clips) == 4


def test_a_part_of_another_version_is_not_continued(site: Site, small: bytes, tmp_path: Path) -> None:
    site.data, site.moods = b"x" * len(small), ["drop", "404"]
    with pytest.raises(DatasetError):
        fetch(site, tmp_path / "new")
    site.data, site.etag = small, '"v2"'
    assert len(load_dataset(fetch(site, tmp_path / "new")).clips) == 4


def test_what_arrived_is_kept_for_the_next_attempt(site: Site, small: bytes, tmp_path: Path) -> None:
    site.data, site.moods = small, ["drop", "500"]
    with pytest.raises(DatasetError, match="what arrived is kept"):
        fetch(site, tmp_path / "new", attempts=2)
    fetch(site, tmp_path / "new")
    assert resumed_at(site.requests[-1]) == pytest.approx(len(small) // 2, abs=1_000)


def test_a_missing_file_is_told_at_once_with_the_way_out(site: Site, small: bytes, tmp_path: Path) -> None:
    site.moods = ["404"]
    with pytest.raises(DatasetError, match=r"answered 404 .*by hand.*EARSHOT_DATA_DIR") as caught:
        fetch(site, tmp_path / "new")
    assert caught.value.code == "unreachable"
    assert len(site.requests) == 1


def test_no_server_is_told_by_its_address(small: bytes, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"could not be fetched from http://127\.0\.0\.1:1/"):
        download("esc10", tmp_path / "new", attempts=2, backoff_s=0.01)
    assert not (tmp_path / "new").exists()


def test_one_changed_byte_lands_nowhere_and_is_removed(site: Site, small: bytes, tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(small)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    name = next(iter(members))
    members[name] = members[name][:-1] + bytes([members[name][-1] ^ 1])
    site.data = zipped(dict(members))
    with pytest.raises(DatasetError, match="is not the published file") as caught:
        fetch(site, tmp_path / "new")
    assert caught.value.code == "checksum_mismatch"
    assert not (tmp_path / "new").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]


def test_a_missing_clip_and_a_damaged_archive_are_told(site: Site, small: bytes, tmp_path: Path) -> None:
    for data in (zipped({"ESC-10-553c/readme": b"hello"}), small[: len(small) // 2], b"<html>sign in</html>"):
        site.data = data
        with pytest.raises(DatasetError) as caught:
            fetch(site, tmp_path / "new")
        assert caught.value.code == "checksum_mismatch"


def test_a_member_that_claims_to_be_huge_is_not_unpacked(site: Site, small: bytes, tmp_path: Path) -> None:
    row = read_checksums()[0]
    site.data = zipped({f"x/{row['upstream']}": b"\0" * (50 << 20)})[: 10 << 20]
    with pytest.raises(DatasetError):
        fetch(site, tmp_path / "new")


def test_more_bytes_than_the_dataset_can_have_are_not_taken(
    site: Site, small: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module.SOURCES, "esc10", module.Source("new", "", 1_000))
    site.data = small
    with pytest.raises(DatasetError, match="more than 1,000 bytes"):
        fetch(site, tmp_path / "new")


def test_a_second_download_changes_nothing(site: Site, small: bytes, tmp_path: Path) -> None:
    site.data = small
    fetch(site, tmp_path / "new")
    fetch(site, tmp_path / "new")
    assert len(site.requests) == 1


def test_a_folder_that_holds_something_else_is_left_alone(site: Site, small: bytes, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "letter.txt").write_text("dear")
    with pytest.raises(DatasetError, match="something else is there") as caught:
        fetch(site, tmp_path / "new")
    assert caught.value.code == "in_the_way"
    assert (tmp_path / "new" / "letter.txt").read_text() == "dear"
    assert not site.requests


def test_two_downloads_to_one_place_make_one_transfer(site: Site, small: bytes, tmp_path: Path) -> None:
    site.data = small
    threads = [threading.Thread(target=fetch, args=(site, tmp_path / "new")) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(site.requests) == 1
    assert len(load_dataset(tmp_path / "new").clips) == 4


def test_a_full_disk_is_told_with_what_to_do(
    site: Site, small: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    site.data = small
    monkeypatch.setattr(module._Fetch, "_receive", full)
    with pytest.raises(DatasetError, match=r"No space left on device. Free space") as caught:
        fetch(site, tmp_path / "new")
    assert caught.value.code == "disk"


def test_a_dataset_no_one_publishes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="Expected one of esc10, esc50, got 'esc3'"):
        download("esc3", tmp_path / "new")


def test_esc50_takes_only_plain_clip_names_from_its_archive(site: Site, tmp_path: Path) -> None:
    write_dataset(
        tmp_path / "original", n_classes=50, folds=5, per_class_and_fold=8, duration_s=0.01, sample_rate_hz=8_000
    )
    members: dict[str, Path | bytes] = {
        f"ESC-50-master/audio/{path.name}": path for path in (tmp_path / "original" / "audio").iterdir()
    }
    members["ESC-50-master/meta/esc50.csv"] = tmp_path / "original" / "meta" / "esc50.csv"
    members["ESC-50-master/audio/../../evil.wav"] = b"no"
    members["/etc/audio/1-1-A-1.txt"] = b"no"
    site.data = zipped(members)
    folder = download("esc50", tmp_path / "fifty", url=site.url)
    dataset = load_dataset(folder)
    assert (dataset.name, len(dataset.class_names), len(dataset.clips)) == ("ESC-50", 50, 2_000)
    assert not list(tmp_path.rglob("evil.wav"))


def test_esc50_with_clips_missing_is_not_taken_for_whole(site: Site, tmp_path: Path) -> None:
    site.data = zipped({"ESC-50-master/audio/1-2-A-3.wav": b"x"})
    with pytest.raises(DatasetError, match="1 clips instead of 2,000"):
        download("esc50", tmp_path / "fifty", url=site.url)


def test_the_published_esc10_arrives_byte_for_byte(site: Site, esc10_dir: Path, tmp_path: Path) -> None:
    rows = read_checksums()
    site.data = zipped({f"ESC-10-553c/{row['upstream']}": esc10_dir / "audio" / row["filename"] for row in rows})
    folder = download("esc10", tmp_path / "esc10", url=site.url)
    assert load_dataset(folder).content_hash == load_dataset(esc10_dir).content_hash
    assert load_dataset(folder).name == "ESC-10"


def test_the_shipped_table_lists_all_four_hundred_clips_once() -> None:
    rows = read_checksums()
    assert len({row["filename"] for row in rows}) == len({row["upstream"] for row in rows}) == 400
    assert CHECKSUMS.stat().st_size < 100_000
