"""The web app of `Limner.asgi`: images, progress and clicks over HTTP. Needs the extra `limner[server]`."""

from importlib.util import find_spec

from limner.errors import InvalidSetting

if find_spec("starlette") is None:
    raise InvalidSetting("the web app needs Starlette: pip install '/path/to/limner[server]'")
