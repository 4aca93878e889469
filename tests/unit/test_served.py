"""Which model answers: promotion, roll-back, and what happens when they are interrupted."""

import json
import shutil
from pathlib import Path

import pytest

from core.artifact import Artifact, load_artifact, read_manifest, save_artifact
from core.config import SERVED_POINTER, SHIPPED_ARTIFACT, Settings
from core.errors import ArtifactError, RunError, SettingsError
from core.served import promote, roll_back, served


@pytest.fixture
def runs(tmp_path: Path, untrained: Artifact, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs, ``a`` and ``b``, with different models."""
    monkeypatch.delenv("EARSHOT_ARTIFACT", raising=False)
    monkeypatch.setenv("EARSHOT_RUNS_DIR", str(tmp_path))
    for name in ("a", "b"):
        save_artifact(
            tmp_path / name / "artifact", untrained.net, untrained.manifest.model_copy(update={"run_id": name})
        )
    return tmp_path


def serving() -> str:
    return read_manifest(Settings.load().artifact).run_id


def test_without_a_promotion_the_shipped_model_serves(runs: Path) -> None:
    assert Settings.load().artifact == SHIPPED_ARTIFACT
    assert served(runs).current is None
    with pytest.raises(RunError, match="the shipped model serves"):
        roll_back(runs)


def test_a_promoted_model_serves_from_its_own_copy_until_it_is_rolled_back(runs: Path) -> None:
    first = promote(runs / "a", runs, by="ada")
    second = promote(runs / "b", runs, by="bob")
    assert first.fingerprint != second.fingerprint
    assert Settings.load().artifact == runs / "served" / second.fingerprint
    shutil.rmtree(runs / "b")
    assert load_artifact(Settings.load().artifact).manifest.run_id == "b"
    assert [(promotion.run, promotion.by) for promotion in served(runs).promotions] == [("a", "ada"), ("b", "bob")]
    assert roll_back(runs).run_id == "a"
    assert serving() == "a"
    assert roll_back(runs) == read_manifest(SHIPPED_ARTIFACT)
    assert Settings.load().artifact == SHIPPED_ARTIFACT


def test_an_explicit_artifact_wins(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    promote(runs / "a", runs, by="ada")
    monkeypatch.setenv("EARSHOT_ARTIFACT", str(runs / "b" / "artifact"))
    assert serving() == "b"
    assert Settings.load().artifact_is_set


def test_promoting_what_serves_already_changes_nothing(runs: Path) -> None:
    promote(runs / "a", runs, by="ada")
    promote(runs / "a", runs, by="bob")
    assert len(served(runs).promotions) == 1


def test_an_altered_model_is_never_promoted(runs: Path) -> None:
    promote(runs / "a", runs, by="ada")
    weights = runs / "b" / "artifact" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ArtifactError):
        promote(runs / "b", runs, by="ada")
    assert serving() == "a"
    assert {path.name for path in (runs / "served").iterdir()} == {
        read_manifest(runs / "a" / "artifact").fingerprint,
        "current.json",
        ".lock",
    }


def test_a_model_that_answers_its_probe_otherwise_is_not_promoted(runs: Path) -> None:
    from core.artifact import MANIFEST, fingerprint_of

    path = runs / "a" / "artifact" / MANIFEST
    content = json.loads(path.read_text())
    content["probe"]["logits"][0] += 1
    content["fingerprint"] = fingerprint_of(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match="answers its probe sound differently"):
        promote(runs / "a", runs, by="ada")
    assert Settings.load().artifact == SHIPPED_ARTIFACT


def test_a_roll_back_to_a_model_that_broke_meanwhile_is_refused(runs: Path) -> None:
    first = promote(runs / "a", runs, by="ada")
    promote(runs / "b", runs, by="ada")
    (runs / "served" / first.fingerprint / "model.safetensors").unlink()
    with pytest.raises(ArtifactError):
        roll_back(runs)
    assert serving() == "b"


@pytest.mark.parametrize("moment", ["copytree", "rename", "write_text"])
def test_a_promotion_that_breaks_off_leaves_the_old_model_serving(
    runs: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    promote(runs / "a", runs, by="ada")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    place = {"copytree": "shutil.copytree", "rename": "pathlib.Path.rename", "write_text": "core.served.write_text"}
    with monkeypatch.context() as patch:
        patch.setattr(place[moment], full)
        with pytest.raises(RunError, match="No space left"):
            promote(runs / "b", runs, by="ada")
    assert serving() == "a"
    promote(runs / "b", runs, by="ada")
    assert serving() == "b"


@pytest.mark.parametrize("content", ["", "[]", '{"promotions": [{}]}', '{"promotions": 3}'])
def test_a_damaged_pointer_is_told_and_never_guessed(runs: Path, content: str) -> None:
    (runs / "served").mkdir()
    (runs / SERVED_POINTER).write_text(content)
    with pytest.raises(SettingsError, match="to say which model serves"):
        Settings.load()
    with pytest.raises(RunError, match="to say which model serves"):
        served(runs)
