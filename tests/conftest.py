"""Fixtures that every kind of test shares."""

from __future__ import annotations

import gc
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from filelock import FileLock
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from core.config import AugmentConfig
from tests.postgresql import Cluster, cluster, programs

if TYPE_CHECKING:
    from core.training.runs import RunFolder

ROOT = Path(__file__).resolve().parents[1]

# Test files that stay in one process, because what they share is dear. Any other file goes by itself.
TOGETHER = {
    "tests/contract/test_backends.py": "modal",
    "tests/contract/test_modal.py": "modal",
}


class Together(LoadScopeScheduling):
    """Hands out files, or the groups above, in the order that they were collected in.

    A scheduler of ours, since with pytest 9.2 ``xdist_group`` is without effect (pytest-dev/pytest-xdist#1386).
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return TOGETHER.get(file, file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Together:
    config.option.loadscopereorder = False
    return Together(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest first, but browsers last: playwright keeps an event loop running in its thread, in which
    nothing else may start one.
    """
    kinds = ("contract", "ui", "unit", "browser")
    items.sort(key=lambda item: kinds.index(item.path.relative_to(ROOT / "tests").parts[0]))


def pytest_collection_finish() -> None:
    """What was imported by now stays: statsmodels collects garbage at every call, half a second each through torch."""
    gc.collect()
    gc.freeze()


def made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first process to need it makes for all of this test run."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / name
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            make(folder)
    return folder


@pytest.fixture(scope="session")
def esc10_dir() -> Path:
    """ESC-10 in ESC-50's layout: ``ESC50_DIR``, else beside the repository. In CI missing data is a failure."""
    given = os.environ.get("ESC50_DIR")
    folder = Path(given) if given else ROOT.parent / "shared" / "data" / "esc10"
    if not (folder / "meta" / "esc50.csv").is_file():
        reason = f"needs the real clips: no meta/esc50.csv in {folder}; set ESC50_DIR to a dataset in ESC-50's layout"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    """A real PostgreSQL, from Debian's packages (``apt-get install postgresql``). In CI its absence is a failure."""
    found = programs()
    if found is None:
        reason = "needs PostgreSQL: apt-get install postgresql"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with cluster(found) as running:
        yield running


@pytest.fixture
def postgresql_url(postgresql: Cluster) -> str:
    """An empty schema."""
    name = f"test_{uuid.uuid4().hex}"
    engine = sa.create_engine(postgresql.url())
    with engine.begin() as connection:
        connection.execute(sa.text(f"CREATE SCHEMA {name}"))
    engine.dispose()
    return postgresql.url(name)


# Twenty seconds on one core: a small network, crops of a second, next to no augmentation.
FIFTY_SETTINGS = (
    "model.stem_channels=16",
    "model.stage_channels=[16,32,64]",
    "augment.crop_s=1",
    "augment.crop_spread=1",
    "augment.stretch=1",
    *(f"augment.{name}=0" for name in AugmentConfig.model_fields if name.endswith("_p")),
    "learning_rate=0.01",
    "batch_size=16",
    "validate_every_epochs=5",
)


@pytest.fixture(scope="session")
def fifty_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty synthesized classes in ESC-50's layout: 500 clips of 2 s in five folds."""
    from core import cli

    def make(folder: Path) -> None:
        assert cli.main(["synthesize", "--to", str(folder)]) == 0

    return made_once(tmp_path_factory, "fifty", make)


@pytest.fixture(scope="session")
def fifty_run(fifty_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The first fold of these held out, trained as a user does."""
    import torch

    from core import cli
    from core.training.runs import RunFolder

    def make(folder: Path) -> None:
        torch.set_num_threads(1)
        asked = ["train", "--data", str(fifty_dir), "--fold", "1", "--epochs", "10", "--out", str(folder.parent)]
        settings = [part for setting in FIFTY_SETTINGS for part in ("--set", setting)]
        assert cli.main([*asked, "--run-id", folder.name, *settings]) == 0

    return RunFolder(made_once(tmp_path_factory, "fifty_run", make))


@pytest.fixture(scope="session")
def modal_server() -> Iterator[Any]:
    """A stand-in for Modal's servers with Earshot deployed on it."""
    from tests.modal_standin import stand_in

    with stand_in() as server:
        yield server


@pytest.fixture
def on_modal(modal_server: Any) -> Iterator[Any]:
    """The same, and this process has a token for it."""
    from tests.modal_standin import environment

    with environment(modal_server.env):
        yield modal_server
