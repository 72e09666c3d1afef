"""Hosts that are told rather than asked: Open WebUI, Chainlit, Discord.

Each has a `limner.workflows.telling.Sink` here, and none of their libraries is imported: a sink is handed
the objects of the host that it works with. All of these hosts run on asyncio.
"""
