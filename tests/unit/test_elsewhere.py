"""``tests.elsewhere`` on a package made here: what it reads, refuses and counts."""

import hashlib
import struct
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.errors import DatasetError
from core.unknown import SCORES
from tests.elsewhere import MANIFEST, UNKNOWN, commands, lines, read, summarise

SOUND = b"the bytes of a sound"


def recording(member: str, data: bytes = SOUND) -> dict[str, str]:
    return {"package": "made", "version": "1", "member": member, "sha256": hashlib.sha256(data).hexdigest()}


def resource_file(*, packed: bool) -> bytes:
    """A Qt resource file of version 1 with one folder ``a`` and in it one file ``b``."""
    member = struct.pack(">I", len(SOUND)) + zlib.compress(SOUND) if packed else SOUND
    data = struct.pack(">I", len(member)) + member
    names = b"".join(struct.pack(">HI", 1, 0) + letter.encode("utf-16-be") for letter in "ab")
    folder, file = struct.pack(">IHII", 0, 2, 1, 2), struct.pack(">IHHHI", 8, 1 if packed else 0, 0, 0, 0)
    tree = struct.pack(">IHII", 0, 2, 1, 1) + folder + file
    return struct.pack(">4s4I", b"qres", 1, 20 + len(data) + len(names), 20, 20 + len(data)) + data + names + tree


def test_a_member_is_read_only_with_the_bytes_that_were_labelled(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "dog.wav").write_bytes(SOUND)
    assert read(tmp_path, recording("dog.wav")) == SOUND
    with pytest.raises(DatasetError, match="other bytes"):
        read(tmp_path, recording("dog.wav", b"others"))


@pytest.mark.parametrize("packed", [False, True])
def test_a_member_of_a_resource_file_is_found_by_its_path(tmp_path: Path, packed: bool) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "x.rcc").write_bytes(resource_file(packed=packed))
    assert read(tmp_path, recording("x.rcc!a/b")) == SOUND


@pytest.mark.parametrize("member", ["dog.wav", "../outside.wav", "/etc/hostname", "link.wav"])
def test_nothing_missing_or_outside_the_package_is_opened(tmp_path: Path, member: str) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "outside.wav").write_bytes(SOUND)
    (tmp_path / "made" / "link.wav").symlink_to(tmp_path / "outside.wav")
    with pytest.raises(DatasetError, match="--packages"):
        read(tmp_path, recording(member))


def test_the_summary_counts_each_side_by_itself() -> None:
    rows = pd.DataFrame(
        [
            ("one", "dog", "dog", 0.9, False, 0.5, 0.1),
            ("one", "dog", "rain", 0.9, False, 3.0, 0.2),
            ("two", "rain", "rain", 0.6, True, 3.0, 0.3),
            ("two", UNKNOWN, "rain", 0.5, True, 3.0, 0.8),
            ("two", UNKNOWN, "dog", 0.95, False, 9.0, 0.9),
        ],
        columns=["package", "label", "predicted", "confidence", "flagged", "duration_s", "msp"],
    ).assign(member="a/b.wav", what="a sound")
    rows = rows.assign(**dict.fromkeys(SCORES, rows["msp"]))
    found = summarise(rows, rng=np.random.default_rng(0), draws=2)
    assert (found["n_in_class"], found["n_unknown"]) == (3, 2)
    assert found["accuracy"]["value"] == pytest.approx(2 / 3)
    assert found["balanced_over_classes"] == found["balanced_over_packages"] == 0.75
    assert found["in_class_accepted"]["value"] == pytest.approx(2 / 3)
    assert found["unknown_flagged"]["value"] == 0.5
    assert found["auroc"]["msp"]["value"] == 1
    assert [row["predicted"] for row in found["confident_wrong"]] == ["dog", "rain"]
    assert found["unknown_flagged_by_duration"]["(5.0, inf]"]["n"] == 1
    assert any("n 3" in line for line in lines(found))


def test_the_manifest_names_each_recording_once_and_how_to_get_it() -> None:
    manifest = pd.read_csv(MANIFEST)
    assert manifest["sha256"].is_unique
    assert manifest["sha256"].str.fullmatch("[0-9a-f]{64}").all()
    assert not manifest.isna().any().any()
    assert len(commands(manifest)) == manifest["package"].nunique()
