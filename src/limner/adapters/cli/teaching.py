"""Teaching a language model to mark where it wants a picture."""

from __future__ import annotations

from collections.abc import Iterable

from limner.adapters.cli.errors import BadInput
from limner.text import TagPattern

_PROMPT = """\
You write in Markdown. Your text is illustrated while you write it: where a picture would delight the \
reader, put an image prompt on a line of its own, with an empty line before and after it, in exactly \
this form:

{tag}

Replace DESCRIPTION by one or two English sentences for a painter who has not read your text: say what \
is to be seen, in what light, in what style. {escape}Use three to six pictures, the first one early. \
Never mention the prompts, and put no other pictures into the text."""


def system_prompt(patterns: Iterable[str | TagPattern]) -> str:
    """The system prompt for the first tag among `patterns`.

    Raises `BadInput` where there are only regular expressions: they say what is found, not what to write.
    """
    for pattern in patterns:
        if isinstance(pattern, TagPattern):
            escape = 'Write \\" for a double quote inside it. ' if pattern.quoted else ""
            return _PROMPT.format(tag=f"{pattern.opener}DESCRIPTION{pattern.closer}", escape=escape)
    raise BadInput(
        "with only --pattern the model must be told what to write; add --system TEXT or a --preset"
    )
