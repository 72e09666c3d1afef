"""The command `limner serve`: a proxy before a chat server of OpenAI's kind that illustrates replies."""

from __future__ import annotations

import gc
import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import click

from limner.adapters.cli.errors import EXIT_CODES_HELP, BadInput
from limner.adapters.cli.listening import BACKLOG, is_loopback, leads_here, listener, shown, to_type
from limner.adapters.cli.logs import say_every_warning, verbosity_option
from limner.adapters.cli.outputs import check_images_folder
from limner.adapters.cli.painting_options import PaintingSettings, painting_options
from limner.adapters.cli.parameters import Seconds
from limner.adapters.cli.teaching import system_prompt
from limner.adapters.factory import generator_from
from limner.adapters.http import Relay
from limner.adapters.image_folder import FolderImageStore
from limner.adapters.inspection import PillowInspector
from limner.adapters.journal_memory import MemoryJournal
from limner.adapters.limner import Limner
from limner.adapters.message_memory import MemoryMessageStore
from limner.adapters.openai_api import openai_base_url
from limner.adapters.redaction import shown_address
from limner.errors import InvalidSetting
from limner.text import TagPattern, compile_patterns
from limner.workflows.ports import Generator

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.types import ASGIApp

DEFAULT_PORT = 8808

# What is still going on at Ctrl-C gets this long to end by itself.
_GRACE_S = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(PaintingSettings):
    """The options of the command, as they were given."""

    upstream: str
    host: str
    port: int
    public_url: str | None
    allow_host: tuple[str, ...]
    profile: Literal["markdown-data", "markdown", "html"]
    progress: Literal["none", "reasoning"]
    teach: bool
    data_dir: str
    thumbnail: int
    wait: float
    max_per_message: int | None


@click.command(
    "serve",
    epilog=EXIT_CODES_HELP,
    short_help="Illustrate the replies of any OpenAI-compatible chat server, as a proxy before it.",
)
@click.option(
    "--upstream",
    metavar="URL",
    required=True,
    envvar="LIMNER_UPSTREAM",
    help="The chat server, with or without /v1; without it LIMNER_UPSTREAM.",
)
@click.option(
    "--allow-host",
    multiple=True,
    metavar="NAME",
    help="Another name that clients know this machine by; repeatable.",
)
@click.option("--host", default="127.0.0.1", show_default=True, metavar="HOST", help="Where to listen.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, metavar="PORT"
)
@click.option(
    "--public-url",
    metavar="URL",
    help="What readers know this server by, for the addresses of pictures; else the host they asked for.",
)
@click.option(
    "--profile",
    type=click.Choice(["markdown-data", "markdown", "html"]),
    default="markdown-data",
    show_default=True,
    help="How a picture is written, where the client does not say.",
)
@click.option(
    "--progress",
    type=click.Choice(["none", "reasoning"]),
    default="none",
    show_default=True,
    help="Where progress is told, where the client does not say.",
)
@click.option("--teach", is_flag=True, help="Teach the model to ask for pictures, in the system message.")
@click.option(
    "--data-dir", default="limner-data", show_default=True, metavar="DIR", help="Where the pictures are kept."
)
@click.option(
    "--thumbnail",
    type=click.IntRange(32, 2048),
    default=384,
    show_default=True,
    metavar="PIXELS",
    help="The longer side of the pictures that markdown-data writes.",
)
@click.option(
    "--wait",
    type=Seconds(1, 86400),
    default=300,
    show_default=True,
    metavar="SECONDS",
    help="How long a reply waits for its pictures at most.",
)
@painting_options
@click.option(
    "--max-per-message",
    type=click.IntRange(1, 1000),
    metavar="N",
    help="How many images of one reply are made at once; without it as many as --max-concurrent.",
)
@verbosity_option
def serve_command(**options: object) -> None:
    """Illustrate the replies of an OpenAI-compatible chat server, as a proxy before it.

    In the chat program, put this server's address where the chat server's was:
    http://127.0.0.1:8808/v1 . The text streams as before; the pictures that it asks for are made meanwhile
    and come at its end. Everything else passes through. The key that the chat program sends goes to the
    upstream and nowhere else. Ctrl-C ends it.

    \b
    Examples:
      limner serve --upstream http://127.0.0.1:11434 --teach
      limner serve --upstream https://api.openai.com --generator sdapi=http://127.0.0.1:7860
      limner serve --upstream http://127.0.0.1:5001 --profile html --port 9000
    """
    _serve(Settings(**options))  # type: ignore[arg-type]  # click gives what the options above declare


def _serve(settings: Settings) -> None:
    try:
        import uvicorn
    except ImportError as error:
        raise _extra_missing(error) from error
    say_every_warning()  # a painter that fails would be told of nowhere else
    app = _guarded(_app(settings), settings)
    listening = listener(settings.host, settings.port)
    # What it has to say at its worst is a traceback about a connection that was cut on purpose.
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL + 1)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            lifespan="on",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=_GRACE_S,
        )
    )
    if not is_loopback(settings.host):
        click.echo(
            f"limner: listening on {settings.host}: whoever reaches it over the network may use it", err=True
        )
    # What is here now stays: looking through it for garbage again would hold up every stream for 70 ms.
    gc.collect()
    gc.freeze()
    where = shown(to_type(settings.host), listening.getsockname()[1])
    for name, value in {**_about(settings), "pictures are kept in": settings.data_dir}.items():
        click.echo(f"limner: {name}: {value}", err=True)
    click.echo(f"limner: http://{where}/v1 is ready; Ctrl-C ends it", err=True)
    with suppress(KeyboardInterrupt):  # how it is meant to end
        server.run(sockets=[listening])
    click.echo("limner: ended", err=True)


def _app(settings: Settings) -> Starlette:
    try:
        from limner.adapters.proxy.app import ProxySettings, proxy_app
        from limner.adapters.proxy.pictures import IMAGES_PATH
        from limner.adapters.proxy.wishes import Wishes
    except ImportError as error:
        raise _extra_missing(error) from error
    _refuse_what_cannot_be_meant(settings)
    relay = Relay(openai_base_url(settings.upstream))
    patterns = settings.patterns
    compiled = compile_patterns(patterns, in_code_fences=settings.code_fences)
    can_teach = any(isinstance(pattern, TagPattern) for pattern in patterns)
    if settings.teach and not can_teach:
        raise BadInput("--teach needs a tag to teach; --pattern only says what is found: add a --preset")
    images = Path(settings.data_dir) / "images"
    check_images_folder(images)
    store = MemoryMessageStore()
    proxy = ProxySettings(
        patterns=compiled,
        defaults=Wishes(settings.profile, settings.progress, settings.teach),
        instruction=system_prompt(patterns, "reply") if can_teach else None,
        public_url=settings.public_url,
        about=_about(settings),
    )
    generator = generator_from(settings.generator, **settings.generator_options)
    limner = _limner(settings, generator, patterns, store, FolderImageStore(images, IMAGES_PATH))
    return proxy_app(limner, store, relay, proxy, closing=[generator])


def _about(settings: Settings) -> dict[str, str]:
    """What is in force, for whoever started it and for whoever opens its page."""
    teaching = "taught to the model" if settings.teach else "not taught to the model (--teach does)"
    return {
        "chat server": shown_address(settings.upstream),
        "painter": shown_address(settings.generator),
        "pictures": settings.profile,
        "tags": teaching,
    }


def _refuse_what_cannot_be_meant(settings: Settings) -> None:
    """Raise `BadInput` for a proxy that would ask itself, and for an address that no reader can follow."""
    if settings.public_url and not _is_web_address(settings.public_url):
        raise BadInput(f"--public-url {settings.public_url!r} is no http or https address")
    if not _is_web_address(settings.upstream):
        return  # told of by whoever reads it
    if leads_here(settings.upstream, settings.host, settings.port):
        raise BadInput(
            f"--upstream {shown_address(settings.upstream)} is this proxy itself; "
            "name the chat server, or choose another --port"
        )


def _is_web_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _guarded(app: Starlette, settings: Settings) -> ASGIApp:
    """The app, but for nobody who comes by another site's page."""
    from limner.adapters.proxy.guard import Guard

    public = urlsplit(settings.public_url).hostname if settings.public_url else None
    hosts = [settings.host, *settings.allow_host, *([public] if public else [])]
    return Guard(app, hosts, is_open=not is_loopback(settings.host))


def _limner(
    settings: Settings,
    generator: Generator,
    patterns: tuple[str | TagPattern, ...],
    store: MemoryMessageStore,
    images: FolderImageStore,
) -> Limner:
    # In memory: the conversations are the client's. After a restart nobody waits for these pictures any more.
    return Limner(
        generator,
        store=store,
        journal=MemoryJournal(keep=0),
        images=images,
        data_dir=settings.data_dir,
        patterns=patterns,
        in_code_fences=settings.code_fences,
        prompt_overrides=settings.prompt_override,
        inspector=PillowInspector(
            thumbnail_px=settings.thumbnail,
            previews=False,  # in a reply nobody sees them
            strip_metadata=settings.strip_metadata,
        ),
        max_concurrent=settings.max_concurrent,
        max_per_message=settings.max_per_message or settings.max_concurrent,
        min_interval_ms=round(settings.min_interval * 1000),
        image_timeout_ms=round(settings.timeout * 1000),
        max_attempts=settings.attempts,
        drain_timeout_ms=round(settings.wait * 1000),
        on_drain_timeout="insert",
        shutdown_timeout_ms=_GRACE_S * 1000,
    )


def _extra_missing(error: ImportError) -> InvalidSetting:
    package = (error.name or "").partition(".")[0]
    return InvalidSetting(f"limner serve needs {package}: pip install '/path/to/limner[server]'")
