"""A chat server with pictures, offline: `pip install fastapi '/path/to/limner[server]'`, then
`uvicorn --app-dir examples fastapi_chat:app`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from fastapi import BackgroundTasks, FastAPI, Request, Response

from limner import Limner
from limner.adapters.image_folder import FolderImageStore

limner = Limner(images=FolderImageStore("limner-data/images", base_url="/limner/images"))
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Chat</title><style>
body { margin: 1rem; font: 1.1rem system-ui } input { font: inherit } limner-message { margin-bottom: 3rem }
</style><meta name="viewport" content="width=device-width"><form><label>You: <input autofocus></label></form>
<script type="module" src="/limner/limner-message.js"></script><script type="module">
document.forms[0].onsubmit = async (event, form = event.target) => {
  event.preventDefault();
  const said = fetch("/say", {method: "POST", body: form[0].value});
  form.reset();
  const {message: id, token} = await (await said).json();
  form.insertAdjacentHTML("beforebegin", `<limner-message message=${id} token=${token}></limner-message>`);
};</script>"""


def model(question: str) -> list[str]:  # stands for yours; its client's stream will do as it is
    return ["You said: ", question, '\n\n<!--img-prompt="a lighthouse at night"-->\n\n', "It is late."]


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with limner:
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/limner", limner.asgi())  # what the element on the page asks: the text as it streams, the images


@app.get("/")
async def page() -> Response:
    return Response(PAGE, media_type="text/html")


async def answer(message_id: str, question: str) -> None:
    async for _ in limner.illustrate(message_id, model(question)):
        pass


@app.post("/say")
async def say(request: Request, tasks: BackgroundTasks) -> dict[str, str]:
    message_id, question = uuid4().hex, (await request.body()).decode()
    tasks.add_task(answer, message_id, question)
    return {"message": message_id, "token": limner.message_token(message_id)}
