"""The pages in a real browser.

Run them with `make test-browser`, or as `pytest tests/browser`; they are no part of `make test`, since they
need Chromium. It is looked for as `chromium`, `chromium-browser`, `google-chrome`, or where LIMNER_CHROMIUM
says. Without one the run fails at once: a test of a page that no browser has shown has shown nothing.

Two kinds of tests are here. Those of the element (`test_element_*.py`) have a server that says exactly what
the test tells it to say, see `scripted_server.py`: the order of events, failures and lost connections are the
test's to choose, and nothing waits for time to pass. The journeys (`test_journey_*.py`) have the real app.

A test waits for what a reader would see, with Playwright's `expect`; it never sleeps. With
LIMNER_SCREENSHOTS=FOLDER `test_element_access.py` leaves its pictures there, to be looked at.
"""
