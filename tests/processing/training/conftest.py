"""A small folder data set."""

import pytest

from tests.processing.data.test_datasets import Folder


@pytest.fixture
def folder(tmp_path):
    made = Folder(tmp_path / "made")
    made.json["splits"] = {"train": ["a"]}
    made.open()
    return made
