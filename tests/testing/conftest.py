"""What the tests of the contract share."""

from __future__ import annotations

import io

import pytest
from PIL import Image


@pytest.fixture(scope="session")
def png() -> bytes:
    """A small, valid image file."""
    file = io.BytesIO()
    Image.new("RGB", (8, 6), (200, 40, 40)).save(file, "PNG")
    return file.getvalue()
