"""Tests with the real libraries of the chats that Limner tells: discord.py and Chainlit.

Not part of the suite, since those bring more than a hundred packages: `make test-chats`.
"""
