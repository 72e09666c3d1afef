"""A chat server with pictures, offline: `uvicorn --app-dir examples fastapi_chat:app`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from fastapi import BackgroundTasks, FastAPI, Request
from fastapi.responses import HTMLResponse

from limner import Limner
from limner.adapters.image_folder import FolderImageStore

limner = Limner(images=FolderImageStore("limner-data/images", base_url="/limner/images"))
PAGE = """<!doctype html><meta charset="utf-8"><title>Chat</title><main></main><form><input autofocus></form>
<script type="module" src="/limner/limner-message.js"></script><script type="module">
document.querySelector("form").onsubmit = async event => {
  event.preventDefault();
  const reply = await fetch("/say", {method: "POST", body: document.querySelector("input").value});
  const element = document.createElement("limner-message");
  for (const [name, value] of Object.entries(await reply.json())) element.setAttribute(name, value);
  document.querySelector("main").append(element);
};</script>"""


async def model(question: str) -> AsyncIterator[str]:  # stands for yours; its client's chunks will do
    for piece in ("You said: ", question, '\n\n<!--img-prompt="a lighthouse at night"-->\n\n', "It is late."):
        yield piece


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with limner:
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/limner", limner.asgi())  # what the element on the page asks: the text as it streams, the images


@app.get("/")
async def page() -> HTMLResponse:
    return HTMLResponse(PAGE)


async def answer(message_id: str, question: str) -> None:
    async for _ in limner.illustrate(message_id, model(question)):
        pass


@app.post("/say")
async def say(request: Request, tasks: BackgroundTasks) -> dict[str, str]:
    message_id, question = uuid4().hex, (await request.body()).decode()
    tasks.add_task(answer, message_id, question)
    return {"message": message_id, "token": limner.message_token(message_id)}
