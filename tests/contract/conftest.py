"""One server for all tests that leave it as it was: each start imports torch."""

from collections.abc import Iterator

import pytest

from core.config import SHIPPED_ARTIFACT
from tests.api_server import ApiServer, api_server

MAX_BYTES = 1_500_000
SLOW_S = 5.0  # what a caller may take to begin: long for these tests, not for the busiest machine


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """The API over the shipped artifact, as its own process."""
    folder = tmp_path_factory.mktemp("api")
    with api_server(
        folder, SHIPPED_ARTIFACT, max_bytes=MAX_BYTES, api_read_timeout_s=SLOW_S, api_timeout_s=300
    ) as running:
        yield running
