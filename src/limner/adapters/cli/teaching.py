"""Teaching a language model to mark where it wants a picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from limner.adapters.cli.errors import BadInput
from limner.text import TagPattern

Writing = Literal["story", "reply"]
"""What the model writes: one long text with many pictures, or a short reply in a conversation."""

_PROMPT = """\
You write in Markdown. Your text is illustrated while you write it: where a picture would delight the \
reader, put an image prompt on a line of its own, with an empty line before and after it, in exactly \
this form:

{tag}

Replace DESCRIPTION by one or two English sentences for a painter who has not read your text: say what \
is to be seen, in what light, in what style. {escape}{amount} \
Never mention the prompts, and put no other pictures into the text."""

_AMOUNTS: Mapping[Writing, str] = {
    "story": "Use three to six pictures, the first one early.",
    # A chat program asks for some hundred tokens: what it cuts off inside of a tag is no prompt.
    "reply": (
        "Use one picture in a reply, at most two, and only where the scene changes. "
        "Finish each prompt before your reply ends."
    ),
}


def system_prompt(patterns: Iterable[str | TagPattern], writing: Writing) -> str:
    """The system prompt for the first tag among `patterns`. `writing` says how many pictures are asked for.

    Raises `BadInput` where there are only regular expressions: they say what is found, not what to write.
    """
    for pattern in patterns:
        if isinstance(pattern, TagPattern):
            return _PROMPT.format(
                tag=f"{pattern.opener}DESCRIPTION{pattern.closer}",
                escape='Write \\" for a double quote inside it. ' if pattern.quoted else "",
                amount=_AMOUNTS[writing],
            )
    raise BadInput(
        "with only --pattern the model must be told what to write; add --system TEXT or a --preset"
    )
