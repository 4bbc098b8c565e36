from __future__ import annotations

from tests.client.conftest import _no_surroundings, url

__all__ = ["_no_surroundings", "url"]
