"""A proxy in front of an OpenAI-compatible chat server that illustrates the replies.

`app` puts it together and says what passes and what is looked at; `wishes` is what a client may ask for. On
the way in `requests` and `history` take earlier pictures out; on the way out `streamed` and `whole` follow a
reply, `illustration` has its pictures made, and `pictures` writes them.
"""
