"""The results as a page of the documentation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from benchmarks.client_matrix.clients import CAPABILITIES
from benchmarks.client_matrix.results import Check, ClientResult, Outcome

HEAD = """\
# Clients

What OpenAI clients can do with Quire, each in the version shown, tried on the demo model over a real connection. This
page is written by `make clients`, which installs the clients (from PyPI and npm, Node.js included; about 1.5 GB below
`build/clients`), serves the demo model, runs the checks of `benchmarks/client_matrix/checks/` and writes down what
became of them. `.ci/run` runs the same checks.

*pass*: all checks of this kind pass. *fail*: one does not. *n/a*: not applicable; the reason stands below. A dash: not
tried with this client.
"""


def page(results: Sequence[ClientResult], machine: str) -> str:
    """The whole page.

    Args:
        results: of all clients.
        machine: what they ran on, in a line.
    """
    return "\n".join([HEAD, *_table(results), "", machine, "", "## What was tried", "", *_details(results)])


def _table(results: Iterable[ClientResult]) -> Iterator[str]:
    yield f"| client | version | {' | '.join(CAPABILITIES.values())} |"
    yield f"|---|---|{'---|' * len(CAPABILITIES)}"
    for result in results:
        cells = [_cell(result, capability) for capability in CAPABILITIES]
        yield f"| {_name(result)} | {result.version} | {' | '.join(cells)} |"


def _cell(result: ClientResult, capability: str) -> str:
    if result.trouble:
        return "fail"
    return str(result.outcome(capability)) if any(check.capability == capability for check in result.checks) else "–"


def _details(results: Iterable[ClientResult]) -> Iterator[str]:
    for result in results:
        yield f"**{_name(result)} {result.version}**\n"
        if result.trouble:
            yield f"- could not be tried: {result.trouble.splitlines()[0]}"
        for capability, heading in CAPABILITIES.items():
            checks = [check for check in result.checks if check.capability == capability]
            if checks:
                yield f"- {heading}: {'; '.join(_together(map(_told, checks)))}"
        yield ""


def _together(told: Iterable[str]) -> Iterator[str]:
    """Each text once, with how often it came."""
    for text, count in Counter(told).items():
        yield text if count == 1 else f"{text} ({count} times)"


def _told(check: Check) -> str:
    match check.outcome:
        case Outcome.PASSED:
            return check.what
        case Outcome.FAILED:
            return f"**{check.what} fails**: {check.reason}"
        case Outcome.SKIPPED:
            return f"n/a, {check.reason}" if check.what == check.capability else f"{check.what}: n/a, {check.reason}"


def _name(result: ClientResult) -> str:
    client = result.client
    return f"`{client.package}` ({client.note})" if client.note else f"`{client.package}`"
