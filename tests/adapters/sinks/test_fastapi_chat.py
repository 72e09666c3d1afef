"""The example of a FastAPI server, run in this process: real FastAPI, real painter, no browser."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from limner.text import find_images

EXAMPLE = Path(__file__).parents[3] / "examples" / "fastapi_chat.py"


def test_it_has_fewer_than_forty_lines():
    assert sum(bool(line.strip()) for line in EXAMPLE.read_text().splitlines()) < 40


def test_a_reply_is_illustrated_and_its_image_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location("fastapi_chat", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    with TestClient(example.app) as client:
        [element] = re.findall(r'src="([^"]+)"', client.get("/").text)
        assert "customElements.define" in client.get(element).text
        said = client.post("/say", content="Ahoy").json()
        assert set(said) == {"message", "token"}
        assert client.portal is not None
        result = client.portal.call(example.limner.finished, said["message"])
        assert [image.image_url for image in result.placed] == [
            image.src for image in find_images(client.get("/limner/text", params=said).json()["text"])
        ]
        assert client.get(result.placed[0].image_url).headers["content-type"].startswith("image/")
