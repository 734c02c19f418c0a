"""The families' smallest members count as backbones in these tests."""

import pytest

from tests.networks import register_tiny


@pytest.fixture(autouse=True)
def _tiny_networks(monkeypatch):
    register_tiny(monkeypatch)
