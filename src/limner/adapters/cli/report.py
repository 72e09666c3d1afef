"""What became of a run: some lines for a person, one JSON object for a program, a code for the shell."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from limner.adapters.cli.errors import ExitCode, Fault, hint_for, with_hint
from limner.adapters.cli.lines import counted
from limner.adapters.cli.outputs import STDOUT, Outputs
from limner.adapters.cli.run import Outcome
from limner.adapters.sniffing import one_line
from limner.states.outcome import FailedPrompt
from limner.text import DEFAULT_PATTERNS, TagPattern, describe

_LONGEST_LIST = 5
_LONGEST_REASON = 480
_NOT_STORED = "image_not_stored"


@dataclass(frozen=True, slots=True)
class Report:
    """A run that came to its end.

    `already_illustrated` counts prompts that had their image before; `patterns` are what was looked for.
    """

    outcome: Outcome
    outputs: Outputs
    already_illustrated: int
    patterns: tuple[str | TagPattern, ...] = DEFAULT_PATTERNS

    @property
    def exit_code(self) -> ExitCode:
        """See `limner.adapters.cli.errors.EXIT_CODES_HELP`."""
        result = self.outcome.result
        if len(result.placed) == len(self.outcome.prompts) and self.outcome.broken_off is None:
            return ExitCode.OK
        if result.failed and not result.placed and not result.unplaced:
            stored_none = all(failed.problem.kind == _NOT_STORED for failed in result.failed)
            return ExitCode.STORAGE if stored_none else ExitCode.BACKEND
        return ExitCode.INCOMPLETE

    @property
    def has_text_to_write(self) -> bool:
        """Whether there is anything that was not there before: an image, or a streamed reply."""
        return self.outputs.streamed or self.exit_code in (ExitCode.OK, ExitCode.INCOMPLETE)

    @property
    def files(self) -> list[Path]:
        """The files that were written: the text, the page, the images in the order of their prompts."""
        outputs = self.outputs
        written = [
            file for file in (outputs.text, outputs.page) if file is not None and self.has_text_to_write
        ]
        made = [prompt.image_url for prompt in self.outcome.prompts.values() if prompt.image_url is not None]
        return written + list(dict.fromkeys(outputs.image_file(url) for url in made))

    def summary(self) -> str:
        """One line on what was made."""
        found = len(self.outcome.prompts)
        if not found and self.already_illustrated:
            has = f"{counted(self.already_illustrated, 'prompt')}, all illustrated already"
        elif not found:
            has = f"no image prompt found (looked for {self._looked_for()})"
        else:
            has = f"{len(self.outcome.result.placed)} of {counted(found, 'image')} placed"
        if not self.has_text_to_write:
            return f"{has}; no text was written"
        where = "standard output" if self.outputs.text is None else str(self.outputs.text)
        images = f", images in {self.outputs.images}" if self.outcome.result.placed else ""
        page = f", page {self.outputs.page}" if self.outputs.page is not None else ""
        return f"{has}: {where}{images}{page} ({self.outcome.seconds:.1f} s)"

    def complaints(self) -> list[str]:
        """Lines on what is missing, and why."""
        outcome = self.outcome
        lines: list[str] = []
        if outcome.broken_off is not None:
            lines.append(f"the reply broke off: {outcome.broken_off}; what had arrived was kept")
        lines += _grouped(outcome.result.failed)
        for unplaced in outcome.result.unplaced[:_LONGEST_LIST]:
            lines.append(f"not placed: {self.outputs.image_file(unplaced.image_url)}: {unplaced.reason}")
        if outcome.result.cancelled:
            lines.append(f"given up: {counted(len(outcome.result.cancelled), 'prompt')}")
        return [one_line(line, 800) for line in lines]

    def as_json(self) -> str:
        """One JSON object, described in docs/cli.md."""
        outcome, outputs = self.outcome, self.outputs
        result = outcome.result
        return _json(
            {
                "state": self.state,
                "exit_code": int(self.exit_code),
                "seconds": round(outcome.seconds, 3),
                "prompts": len(outcome.prompts),
                "already_illustrated": self.already_illustrated,
                "output": STDOUT if outputs.text is None else str(outputs.text),
                "files": [str(file) for file in self.files],
                "placed": [
                    {
                        "prompt": self._prompt(placed.prompt_id),
                        "url": placed.image_url,
                        "file": str(outputs.image_file(placed.image_url)),
                    }
                    for placed in result.placed
                ],
                "unplaced": [
                    {
                        "prompt": self._prompt(unplaced.prompt_id),
                        "url": unplaced.image_url,
                        "file": str(outputs.image_file(unplaced.image_url)),
                        "reason": unplaced.reason,
                    }
                    for unplaced in result.unplaced
                ],
                "failed": [
                    {"prompt": failed.prompt, "kind": failed.problem.kind, "reason": failed.problem.message}
                    for failed in result.failed
                ],
                "cancelled": [self._prompt(prompt_id) for prompt_id in result.cancelled],
                "error": self._error(),
            }
        )

    @property
    def state(self) -> str:
        """The session's state; `failed` also where it was cancelled because nothing could be made."""
        made_nothing = self.exit_code in (ExitCode.BACKEND, ExitCode.STORAGE)
        return "failed" if made_nothing else self.outcome.result.state

    def _error(self) -> dict[str, str] | None:
        """Why the run ended early: the reply's error, else the first failure where no image was made."""
        broken_off = self.outcome.broken_off
        if broken_off is not None:
            return {"kind": broken_off.kind, "message": str(broken_off)}
        if self.exit_code not in (ExitCode.BACKEND, ExitCode.STORAGE):
            return None
        problem = self.outcome.result.failed[0].problem
        words = one_line(problem.message or problem.kind, _LONGEST_REASON)
        return {"kind": problem.kind, "message": with_hint(words, hint_for(problem.kind))}

    def _looked_for(self) -> str:
        shown = [
            f"{pattern.opener}…{pattern.closer}"
            if isinstance(pattern, TagPattern)
            else f"the pattern {pattern}"
            for pattern in self.patterns[:_LONGEST_LIST]
        ]
        more = ["…"] if len(self.patterns) > _LONGEST_LIST else []
        return ", ".join([one_line(each, 80) for each in shown] + more)

    def _prompt(self, prompt_id: str) -> str:
        known = self.outcome.prompts.get(prompt_id)
        return "" if known is None else known.prompt


def fault_as_json(fault: Fault) -> str:
    """The JSON object of a run that did not come to an end."""
    return _json(
        {
            "state": "failed",
            "exit_code": int(fault.exit_code),
            "error": {"kind": fault.kind, "message": fault.message},
        }
    )


def _json(content: Mapping[str, object]) -> str:
    # ASCII, since a prompt may hold lone surrogates, which no encoding can write.
    return json.dumps(content, ensure_ascii=True)


def _grouped(failed: Sequence[FailedPrompt]) -> list[str]:
    """One line for each reason, since a thousand prompts usually fail for one; each hint is said once."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for each in failed:
        reason = one_line(each.problem.message or each.problem.kind, _LONGEST_REASON)
        by_reason.setdefault((reason, hint_for(each.problem.kind)), []).append(describe(each.prompt))
    lines: list[str] = []
    hints: set[str] = set()
    for (reason, hint), prompts in list(by_reason.items())[:_LONGEST_LIST]:
        which = f"“{one_line(prompts[0], 60)}”" + (f" and {len(prompts) - 1} more" if prompts[1:] else "")
        lines.append(with_hint(f"no image for {which}: {reason}", "" if hint in hints else hint))
        hints.add(hint)
    if len(by_reason) > _LONGEST_LIST:
        lines.append(f"… and {counted(len(by_reason) - _LONGEST_LIST, 'other reason')} (--json lists all)")
    return lines
