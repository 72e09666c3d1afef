"""What holds a generator of your own to the port's promises: a suite that every adapter of Limner's passes.

    class TestMyGenerator(GeneratorContract):
        @pytest.fixture
        def case(self) -> GeneratorCase:
            return GeneratorCase(working=lambda: MyGenerator(), …)

`GeneratorContract` has the tests, `GeneratorCase` says how your generator is brought into each situation.
`make_request` and `ProgressRecorder` are for tests beside these. pytest is no dependency of Limner's: this
package alone imports it, and is imported by no other.
"""

try:
    import pytest
except ModuleNotFoundError as error:
    if error.name != "pytest":
        raise
    raise ModuleNotFoundError(
        "limner.testing is a suite for pytest, which is not installed: pip install pytest", name="pytest"
    ) from error

# Before the import, so that what a failed assertion compared is shown for these too.
pytest.register_assert_rewrite("limner.testing.contract")

from limner.testing.cases import ERROR_KINDS, GeneratorCase, ResumableWork, SlowWork  # noqa: E402
from limner.testing.contract import GeneratorContract  # noqa: E402
from limner.testing.recording import ProgressRecorder, make_request  # noqa: E402

__all__ = [
    "ERROR_KINDS",
    "GeneratorCase",
    "GeneratorContract",
    "ProgressRecorder",
    "ResumableWork",
    "SlowWork",
    "make_request",
]
