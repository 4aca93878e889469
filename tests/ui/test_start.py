"""What the server does before anyone visits."""

import asyncio
from pathlib import Path

import pytest
from streamlit.web.server.app_discovery import discover_asgi_app

from app.start import told_the_token
from core.config import ROOT


def started() -> None:
    async def life() -> None:
        async with told_the_token(None):
            pass

    asyncio.run(life())


def test_the_server_prints_the_admin_token_at_its_first_start_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("EARSHOT_ADMIN_TOKEN", raising=False)
    monkeypatch.setenv("EARSHOT_RUNS_DIR", str(tmp_path))
    started()
    assert (tmp_path / ".admin-token").read_text().strip() in capsys.readouterr().out
    started()
    assert capsys.readouterr().out == ""


def test_a_folder_that_cannot_keep_the_token_does_not_keep_the_server_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EARSHOT_ADMIN_TOKEN", raising=False)
    (tmp_path / "file").touch()
    monkeypatch.setenv("EARSHOT_RUNS_DIR", str(tmp_path / "file"))
    started()


def test_streamlit_finds_the_server_in_the_entry_point() -> None:
    found = discover_asgi_app(ROOT / "app" / "main.py")
    assert (found.is_asgi_app, found.app_name) == (True, "app")
