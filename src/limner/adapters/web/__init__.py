"""The web app of `Limner.asgi`: images, progress and clicks over HTTP. Needs the extra `limner[server]`."""
