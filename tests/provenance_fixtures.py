"""A finished chain, and a copy of it that a test may harm."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from provenance_chain import Chain, make_chain


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """A finished chain that no test may change."""
    return make_chain(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def chain(finished: Chain, tmp_path: Path) -> Chain:
    """A copy of it in a folder of its own."""
    shutil.copytree(finished.folder, tmp_path, dirs_exist_ok=True)
    return Chain(tmp_path)
