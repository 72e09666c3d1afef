"""Local stand-ins for the servers that the adapters talk to. They speak real HTTP on 127.0.0.1."""
