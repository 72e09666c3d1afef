"""The contract lets through what is right, and each of its tests finds what it is there for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Awaitable
from dataclasses import replace
from inspect import signature
from typing import Any

import anyio
import pytest

from limner.errors import BadRequest, Unavailable
from limner.testing import ERROR_KINDS, GeneratorCase, GeneratorContract, ProgressRecorder, make_request
from limner.workflows.ports import Generator
from tests.testing import painters
from tests.testing.painters import Faultless, Service, case_of

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.anyio

IMAGE = "test_it_is_a_generator_and_returns_an_image_file"
SEVERAL = "test_it_serves_several_calls_one_after_the_other"
ORDER = "test_progress_never_goes_back_and_stays_between_0_and_1"
CLAIMS = "test_it_reports_what_its_capabilities_say_and_nothing_else"
PREVIEWS = "test_every_preview_is_an_image_file"
THREAD = "test_reports_come_from_the_thread_of_the_event_loop"
SLOW = "test_a_slow_answer_is_waited_for"
BEFORE = "test_a_call_that_is_cancelled_before_it_begins_ends_at_once"
WHILE = "test_a_call_that_takes_too_long_can_be_cancelled"
STOPPED = "test_cancelling_stops_the_work_where_it_is_claimed"
AFTER = "test_cancelling_after_the_image_has_come_changes_nothing"
NEXT = "test_after_a_cancelled_call_it_paints_the_next"
REFUSED = "test_a_refusal_is_an_error_of_its_kind_in_one_line"
SECRET = "test_what_is_secret_is_shown_nowhere"
DRIPS = "test_a_body_that_comes_in_drips_is_read_to_its_end"
BROKEN = "test_a_broken_image_is_never_taken_for_one"
PAGE = "test_an_answer_of_another_type_is_an_error_of_the_backend"
KEPT = "test_a_job_that_was_kept_is_taken_up_and_not_begun_again"
LOST = "test_a_job_that_nobody_knows_is_lost"

FAULTS: list[tuple[str, type[Faultless]]] = [
    (IMAGE, painters.ReturnsNothing),
    (IMAGE, painters.ReturnsHalf),
    (SEVERAL, painters.ServesOnce),
    (ORDER, painters.GoesBack),
    (ORDER, painters.CountsInPercent),
    (CLAIMS, painters.ReportsNoProgress),
    (CLAIMS, painters.ReportsNoPreview),
    (CLAIMS, painters.ReportsNoJob),
    (CLAIMS, painters.ReportsMoreThanItClaims),
    (CLAIMS, painters.ReportsAnotherJobEachTime),
    (PREVIEWS, painters.PreviewsText),
    (THREAD, painters.ReportsFromAThread),
    (SLOW, painters.HasNoPatience),
    (BEFORE, painters.SwallowsTheCancellation),
    (BEFORE, painters.TakesACancellationForAFailure),
    (WHILE, painters.SwallowsTheCancellation),
    (WHILE, painters.TakesACancellationForAFailure),
    (WHILE, painters.ReportsWhenAllIsOver),
    (STOPPED, painters.StopsNothing),
    (STOPPED, painters.ClaimsNotToStop),
    (AFTER, painters.ReportsWhenAllIsOver),
    (NEXT, painters.IsBrokenByACancellation),
    (NEXT, painters.TakesACancellationForAFailure),
    (REFUSED, painters.RaisesWhatItLikes),
    (REFUSED, painters.RaisesOneKindForAll),
    (REFUSED, painters.RaisesNoWords),
    (REFUSED, painters.RaisesATraceback),
    (REFUSED, painters.PaintsAllTheSame),
    (SECRET, painters.ShowsTheKey),
    (SECRET, painters.ShowsTheKeyBelow),
    (DRIPS, painters.AsksSomebodyElse),
    (BROKEN, painters.MendsWhatIsBroken),
    (BROKEN, painters.TakesABrokenImageForAnOutage),
    (PAGE, painters.TakesATextForBytes),
    (PAGE, painters.TrustsTheAnswer),
    (KEPT, painters.BeginsAgain),
    (KEPT, painters.StopsWhatIsToBeKept),
    (LOST, painters.BeginsAgain),
    (LOST, painters.BeginsAgainAndCallsItLost),
    (LOST, painters.TakesALostJobForABadRequest),
]


class TestAPainterWithoutAFault(GeneratorContract):
    @pytest.fixture
    def case(self, png: bytes) -> GeneratorCase:
        return case_of(Faultless, png)


class Impatient(GeneratorContract):
    """For what will not come: nothing here takes longer, since nothing here leaves the process."""

    patience_s = 0.05


async def held(test: str, case: GeneratorCase) -> None:
    """Run one test of the contract, as pytest does."""
    function = getattr(Impatient(), test)
    arguments = {"case": case, "progress": ProgressRecorder()}
    if "kind" in signature(function).parameters:
        arguments["kind"] = BadRequest
    await function(**arguments)


@pytest.mark.parametrize(
    ("test", "painter"), FAULTS, ids=[f"{painter.__name__}-{test}" for test, painter in FAULTS]
)
async def test_each_fault_is_found_by_the_test_that_is_named_for_it(test, painter, png):
    with pytest.raises((AssertionError, pytest.fail.Exception)):  # as pytest tells of a failed test
        await held(test, case_of(painter, png))


def test_every_test_of_the_contract_finds_a_fault():
    tests = {name for name in dir(GeneratorContract) if name.startswith("test_")}
    assert {test for test, _ in FAULTS} == tests


@pytest.mark.parametrize(
    "test", sorted({test for test, _ in FAULTS} - {REFUSED, SECRET, DRIPS, BROKEN, PAGE})
)
async def test_what_a_generator_lacks_is_named_at_once_by_each_test(test, png):
    class Bare:
        def __init__(self, service: Service) -> None:
            """As the others are made."""

        async def generate(self, request, report):
            return png

    with pytest.raises(AssertionError) as caught:
        await held(test, case_of(Bare, png))  # type: ignore[arg-type]  # the fault
    assert str(caught.value).startswith(
        "Bare is no generator, it lacks capabilities, a Capabilities(…); async def aclose()"
    )


@pytest.mark.parametrize(
    ("test", "painter", "told"),
    [
        (ORDER, painters.GoesBack, "its progress goes back: ["),
        (ORDER, painters.CountsInPercent, "its progress is not from 0 to 1: ["),
        (CLAIMS, painters.ReportsNoPreview, "its capabilities say preview=True, and it reported 0 previews"),
        (CLAIMS, painters.ReportsNoJob, "its capabilities say resume=True, and it reported 0 ids of jobs"),
        (THREAD, painters.ReportsFromAThread, "it reports from another thread"),
        (
            STOPPED,
            painters.ClaimsNotToStop,
            "its capabilities say cancel=False, and SlowWork has a `stopped`",
        ),
        (REFUSED, painters.RaisesATraceback, "it says more than one line: "),
        (BROKEN, painters.MendsWhatIsBroken, "it returned an image where the service had sent a broken one"),
    ],
)
async def test_a_fault_is_told_in_a_sentence(test, painter, told, png):
    with pytest.raises((AssertionError, pytest.fail.Exception)) as caught:
        await held(test, case_of(painter, png))
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"slow": None}, "GeneratorCase.slow must be a function, which returns a SlowWork: "),
        ({"working": 7}, "GeneratorCase.working must be a function, "),
        ({"drip_fed": b"x"}, "GeneratorCase.drip_fed must be a function, or None; not b'x'"),
    ],
)
def test_a_situation_that_is_none_is_refused_when_the_case_is_made(wrong, told, png):
    with pytest.raises(TypeError) as caught:
        replace(case_of(Faultless, png), **wrong)
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize("begun", [None, anyio.Event])
async def test_an_event_that_no_thread_can_wait_for_is_refused(begun, png):
    work = case_of(Faultless, png).slow()
    with pytest.raises(TypeError, match=r"SlowWork\.begun must be a threading\.Event, which is set once"):
        replace(work, begun=begun and begun())


async def test_slow_work_that_is_none_is_told(png):
    nothing: dict[str, Any] = {"slow": lambda: None}
    case = replace(case_of(Faultless, png), **nothing)
    with pytest.raises(AssertionError, match=r"slow\(\) of the case returned None instead of a SlowWork"):
        await held(SLOW, case)


async def test_a_body_whose_first_piece_is_taken_for_all_of_it_is_found(png):
    half = Service(png[: len(png) // 2], png)
    case = replace(case_of(Faultless, png), drip_fed=lambda: Faultless(half))
    with pytest.raises(AssertionError, match="no image file"):
        await held(DRIPS, case)


@pytest.mark.parametrize(
    ("test", "situation"), [(DRIPS, "drip_fed"), (BROKEN, "broken_image"), (PAGE, "wrong_content_type")]
)
async def test_whoever_connects_cannot_claim_that_nothing_is_sent_amiss(test, situation, png):
    none: dict[str, Any] = {situation: None}
    case = replace(case_of(painters.AsksSomebodyElse, png), **none)
    with pytest.raises(AssertionError, match=r"asks somebody else \(\('127.0.0.1', 9\)\)"):
        await held(test, case)
    await held(test, replace(case_of(Faultless, png), **none))


async def test_whoever_connects_cannot_claim_that_nobody_is_ever_away(png):
    def run(painter: type[Faultless]) -> Awaitable[None]:
        case = replace(case_of(painter, png), refusing=lambda kind: None)
        return Impatient().test_a_refusal_is_an_error_of_its_kind_in_one_line(
            Unavailable, case, ProgressRecorder()
        )

    with pytest.raises(AssertionError, match="asks somebody else"):
        await run(painters.AsksSomebodyElse)
    await run(Faultless)


@pytest.mark.parametrize("kind", [kind for kind in ERROR_KINDS if kind is not Unavailable])
async def test_where_a_kind_is_not_known_the_generator_has_to_paint(kind, png):
    def run(painter: type[Faultless]) -> Awaitable[None]:
        case = replace(case_of(painter, png), refusing=lambda _: None)
        return Impatient().test_a_refusal_is_an_error_of_its_kind_in_one_line(kind, case, ProgressRecorder())

    with pytest.raises(AssertionError, match="no bytes"):
        await run(painters.ReturnsNothing)
    await run(Faultless)


@pytest.mark.parametrize("test", [KEPT, LOST])
async def test_whoever_claims_to_resume_has_to_show_it(test, png):
    class WithoutJobs(Faultless):
        capabilities = replace(Faultless.capabilities, resume=False)

    with pytest.raises(AssertionError, match="claims to resume"):
        await held(test, replace(case_of(Faultless, png), resumable=None))
    await held(test, replace(case_of(WithoutJobs, png), resumable=None))


async def test_whoever_can_resume_has_to_claim_it(png):
    class Modest(Faultless):
        capabilities = replace(Faultless.capabilities, resume=False)

    with pytest.raises(AssertionError, match="does not claim to"):
        await held(KEPT, case_of(Modest, png))


async def test_a_call_that_never_begins_has_failed_after_a_while(png):
    class NeverBegins(Faultless):
        async def generate(self, request, report):
            await anyio.sleep_forever()

    with pytest.raises(AssertionError, match="the call never began"):
        await held(WHILE, case_of(NeverBegins, png))


async def test_an_image_that_never_comes_has_failed_after_a_while(png):
    class NeverEnds(Faultless):
        async def generate(self, request, report):
            await anyio.sleep_forever()

    with pytest.raises(AssertionError, match="did not end within"):
        await held(IMAGE, case_of(NeverEnds, png))


def test_a_contract_without_a_case_says_what_it_needs(pytester):
    pytester.makepyfile(
        """
        from limner.testing import GeneratorContract

        class TestNothing(GeneratorContract):
            pass
        """
    )
    run = pytester.runpytest_inprocess("-k", "is_a_generator and asyncio")
    run.assert_outcomes(errors=1)
    run.stdout.fnmatch_lines(["*TestNothing needs a fixture `case`*"])


def test_without_pytest_the_error_says_what_is_missing():
    code = "import sys; sys.modules['pytest'] = None; import limner; import limner.testing"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith(
        "ModuleNotFoundError: limner.testing is a suite for pytest,"
    )
    assert run.stderr.splitlines()[-1].endswith("not installed: pip install pytest")


async def test_a_recorder_keeps_what_is_reported_in_order():
    progress = ProgressRecorder()
    progress(0.1, b"one")
    progress(job_id="a")
    progress(0.2, job_id="a")
    assert progress.fractions == [0.1, 0.2]
    assert progress.previews == [b"one"]
    assert progress.job_ids == ["a", "a"]
    assert await progress.job_told() == "a"
    assert progress.late == 0
    progress.end()
    progress(0.3)
    assert progress.late == 1


def test_a_request_says_whether_its_job_is_to_be_kept():
    assert not make_request().keeps_job()
    assert make_request(keeps_job=True).keeps_job()
    assert make_request("a cat", 3, "job").job_id == "job"


def test_the_faultless_painter_is_a_generator(png):
    generator: Generator = Faultless(Service(png, png))
    assert isinstance(generator, Generator)
