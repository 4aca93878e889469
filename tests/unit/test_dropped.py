"""Zips and files from a browser: what is heard, what is left out and why, and that nothing hostile gets further."""

import io
import struct
import zipfile

import pytest

from core import dropped
from core.dropped import Found, in_zip, of_upload
from core.errors import LimitError, RecordsError

MB = 2**20


def packed(files: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def names(found: Found) -> list[str]:
    return [file.name for file in found.files]


def test_sounds_of_a_zip_come_out_as_they_went_in() -> None:
    found = in_zip(packed({"a.wav": b"one", "sub/b.flac": b"two"}), max_bytes=MB)
    assert [(file.name, file.read()) for file in found.files] == [("a.wav", b"one"), ("sub/b.flac", b"two")]
    assert (found.n_names, found.left_out) == (2, ())


def test_what_is_hostile_or_no_sound_is_left_out_and_counted_and_the_rest_goes_on() -> None:
    files = {
        "good.wav": b"x",
        "../../etc/cron.d/evil.wav": b"x",
        "/absolute.wav": b"x",
        "C:\\windows.wav": b"x",
        "inner.zip": packed({"deep.wav": b"x"}),
        "more.tar.gz": b"x",
        ".DS_Store": b"x",
        "__MACOSX/good.wav": b"x",
        "empty.wav": b"",
        "long.wav": bytes(2 * MB),
    }
    found = in_zip(packed(files), max_bytes=MB)
    assert names(found) == ["good.wav"]
    assert found.n_names == 10
    assert dict(found.left_out) == {
        "names that lead out of the archive": 3,
        "archives within": 2,
        "hidden files": 2,
        "empty files": 1,
        "files over 1 MB": 1,
    }


def test_of_ten_thousand_files_a_thousand_are_heard_spread_over_all() -> None:
    found = in_zip(packed({f"{i:05d}.wav": b"x" for i in range(10_000)}), max_bytes=MB)
    assert len(found.files) == 1_000
    assert (names(found)[0], names(found)[-1]) == ("00000.wav", "09999.wav")
    assert sum(count for _, count in found.left_out) == 9_000
    assert found.n_names == 10_000


def test_too_many_names_are_refused_before_any_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropped, "MOST_NAMES", 5)
    with pytest.raises(LimitError, match="Expected at most 5 files"):
        in_zip(packed({str(i): b"x" for i in range(6)}), max_bytes=MB)


def test_a_bomb_is_not_unpacked() -> None:
    bomb = packed({"bomb.wav": bytes(20 * MB), "a.wav": b"x"}, compression=zipfile.ZIP_DEFLATED)
    found = in_zip(bomb, max_bytes=25 * MB)
    assert names(found) == ["a.wav"]
    assert found.left_out == (("files packed over 200 times smaller than they are", 1),)


def test_a_file_that_lies_about_its_size_is_read_no_further_than_the_limit() -> None:
    data = bytearray(packed({"a.wav": bytes(range(256)) * 64}, compression=zipfile.ZIP_DEFLATED))
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 10)  # the directory says 10 bytes
    found = in_zip(bytes(data), max_bytes=100)
    assert len(found.files[0].read()) <= 101


def test_a_damaged_entry_reads_as_empty_and_stops_no_other() -> None:
    data = bytearray(packed({"a.wav": b"A" * 50, "b.wav": b"B" * 50}))
    data[data.index(b"A" * 50)] = 0
    assert [file.read() for file in in_zip(bytes(data), max_bytes=MB).files] == [b"", b"B" * 50]


def test_encrypted_entries_are_left_out() -> None:
    data = bytearray(packed({"a.wav": b"secret"}))
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + offset] |= 1
    assert in_zip(bytes(data), max_bytes=MB).left_out == (("encrypted files", 1),)


def test_sounds_beyond_the_total_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropped, "MOST_BYTES", 100)
    with pytest.raises(LimitError, match="Split it"):
        in_zip(packed({"a.wav": b"x" * 80, "b.wav": b"x" * 80}), max_bytes=MB)


@pytest.mark.parametrize("data", [b"", b"not a zip", b"PK\x03\x04 cut off"])
def test_what_is_no_zip_is_told(data: bytes) -> None:
    with pytest.raises(RecordsError, match="Pack it again"):
        in_zip(data, max_bytes=MB)


def test_an_upload_mixes_files_and_zips_by_content() -> None:
    zipped = packed({"in.wav": b"x", "../out.wav": b"x"})
    found = of_upload([("plain.wav", b"y"), ("named.wav", zipped), ("bad.zip", b"no")], max_bytes=MB)
    assert names(found) == ["plain.wav", "in.wav"]
    assert dict(found.left_out) == {"names that lead out of the archive": 1, "zips that cannot be opened": 1}
    with pytest.raises(RecordsError):
        of_upload([("bad.zip", b"no")], max_bytes=MB)
