"""What the documents claim about the repository, held against it."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from core import __version__
from core.cli import app
from core.config import ROOT, Settings

README = (ROOT / "README.md").read_text(encoding="utf-8")
NOT_IN_THE_TREE = {".ci", ".streamlit", ".gitignore", ".gitattributes"}
LISTED_IN_A_LINE = {"app/services", "core/training", "core/diagnostics", "core/figures", "core/serving"}


def tracked() -> list[str]:
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout: the list of tracked files is not to be had")
    return listing.stdout.split("\n")[:-1]


def tree() -> dict[str, str]:
    """Path → what the README says of it."""
    block = next(part for part in README.split("```") if part.lstrip().startswith("app/"))
    found, folder, last = {}, "", ""
    for line in block.strip("\n").splitlines():
        if line.startswith(" " * 8):  # the line before goes on
            found[last] += " " + line.strip()
            continue
        name, _, says = line.strip().partition(" ")
        last = name if not line.startswith(" ") else folder + name
        if not line.startswith(" "):
            folder = name if name.endswith("/") else ""
            found[name] = says.strip()
        else:
            found[folder + name] = says.strip()
    return found


def test_every_path_of_the_readmes_tree_exists() -> None:
    for path in tree():
        assert (ROOT / path).exists(), path


def test_every_picture_and_file_the_readme_links_to_is_tracked() -> None:
    links = {link for link in re.findall(r"\]\(([^)\s]+)\)", README) if not link.startswith(("http:", "https:", "#"))}
    assert "app/static/screenshot.png" in links
    assert links <= set(tracked())


def test_every_top_level_entry_and_every_module_is_in_the_tree() -> None:
    listed = tree()
    for path in tracked():
        top = path.split("/")[0]
        assert top in listed or top + "/" in listed or top in NOT_IN_THE_TREE, path
        folder, _, name = path.rpartition("/")
        if folder in {"app", "pages", "core"} and name.endswith(".py") and name != "__init__.py":
            assert path in listed, path
        if folder in LISTED_IN_A_LINE and not name.startswith("__"):
            assert name in listed[folder + "/"], path


def test_every_make_target_the_readme_names_exists_and_the_other_way_round() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)", README)) == targets


def test_the_settings_table_is_the_settings_class(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = dict(re.findall(r"^\| `EARSHOT_([A-Z_]+)` \| `([^`]+)` \|", README, flags=re.MULTILINE))
    assert {name.lower() for name in rows} == set(Settings.model_fields)
    for name in rows:
        monkeypatch.delenv(f"EARSHOT_{name}", raising=False)
    monkeypatch.setattr("core.config.promoted_artifact", lambda runs_dir: None)
    defaults = Settings.load()
    for name, shown in rows.items():
        value = getattr(defaults, name.lower())
        said = (
            value.relative_to(ROOT).as_posix()
            if isinstance(value, Path)
            else f"{value:g}"
            if isinstance(value, float)
            else str(value)
        )
        assert shown == said, name


def test_every_setting_is_in_the_example_of_secrets() -> None:
    example = (ROOT / ".streamlit" / "secrets.toml.example").read_text(encoding="utf-8")
    assert {name.lower() for name in re.findall(r"# EARSHOT_([A-Z_]+) =", example)} == set(Settings.model_fields)


def test_every_command_the_readme_shows_exists_and_the_other_way_round() -> None:
    verbs = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    assert set(re.findall(r"python -m core ([a-z]+)", README)) == verbs


def test_requirements_are_pinned_exactly() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            requirement = line.partition("#")[0].strip()
            if requirement and not requirement.startswith("-r "):
                assert re.fullmatch(r"[A-Za-z0-9_-]+(\[[a-z]+\])?==[0-9][0-9.]*", requirement), line


def test_the_version_is_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == __version__


def test_files_speak_of_the_product_and_not_of_a_machine() -> None:
    machine = re.compile(r"/(?:work|home|root|tmp|Users)/[a-z]")
    for path in tracked():
        if path.endswith(
            (".py", ".md", ".toml", ".txt", ".yml", ".json", ".csv", ".example", ".svg", "Makefile", "run")
        ):
            text = (ROOT / path).read_text(encoding="utf-8")
            assert not machine.search(text), path


def test_nothing_tracked_is_larger_than_a_repository_should_hold() -> None:
    sizes = {path: (ROOT / path).stat().st_size for path in tracked() if (ROOT / path).is_file()}
    assert max(sizes.values()) < 8 << 20
    assert sum(sizes.values()) < 60 << 20


def test_the_shipped_model_is_credited() -> None:
    credits_text = (ROOT / "core" / "assets" / "CREDITS.md").read_text(encoding="utf-8")
    assert "10.1145/2733373.2806390" in credits_text
    attribution = (ROOT / "core" / "assets" / "attribution.csv").read_text(encoding="utf-8")
    assert attribution.count(".ogg,") >= 400
