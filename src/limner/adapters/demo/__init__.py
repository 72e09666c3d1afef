"""The page of `limner demo`: a small chat on this machine, with a storyteller of its own.

`storyteller` and `tales` write, `writers` say who does, `conversation` keeps what was said, `chat` is the
work, `app` the pages and requests, `serving` the server. It needs the extra `limner[server]`.
"""
