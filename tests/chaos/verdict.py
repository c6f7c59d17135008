"""What clients claim that have lost their vault, held against what every call gave and when."""

import itertools
from collections import Counter
from collections.abc import Collection
from typing import Any, Final

from tenantvault._methods import READS, REPORT_FAILURE, WATCH
from tests.chaos.callers import Caller, Given
from tests.chaos.harness import Report, spread
from tests.chaos.outages import BROKEN, CONNECTED, HEARD, Outage

_SLACK: Final = 1.0
"""Seconds beyond any bound, for a machine that is loaded."""

_CONNECTION_PAUSES: Final = (0.1, 1.6, 3.0, 0.2)
"""Before a connection is tried again, in seconds: the first pause, its growth, the longest, the jitter's share.

https://github.com/grpc/grpc/blob/master/doc/connection-backoff.md, with the first and the longest of our channels.
"""

_WATCH_PAUSES: Final = (0.1, 2.0, 10.0, 0.9)
"""The same before a watch is begun again: a tenth of the pause at least."""

_RETRIES: Final = 4
"""Of ten tokens a failure costs one; while more than half are left, it is made again."""

_REPORT: Final = "report_failure"
_EXPECTED: Final = frozenset(
    {"", "VAULT_UNAVAILABLE", "DEADLINE_EXCEEDED", "CREDENTIAL_NOT_FOUND", "RESOURCE_NOT_FOUND"}
)


def judge_deadlines(
    report: Report, callers: list[Caller], *, deadline: float, late: float, delays: list[tuple[float, float]]
) -> None:
    """Put in how long calls took. They may be `late`, and by the `delays` of this process meanwhile; all in seconds."""
    every = [given for caller in callers for given in caller.given]
    over = {
        verb: round(max(given.ended - given.began for given in every if given.verb == verb) - deadline, 3)
        for verb in sorted({given.verb for given in every})
    }
    report.figures |= {
        "calls": len(every),
        "clients": len(callers),
        "outcomes": dict(Counter(given.error or ("marked" if given.marked else "given") for given in every)),
        "longest_call_over_its_deadline_s": over,
        "this_process_was_late_by_s": round(max(delay for _, delay in delays), 3),
    }

    def excused(given: Given) -> float:
        return max((delay for due, delay in delays if given.began < due + delay and due < given.ended), default=0.0)

    slow = [given for given in every if given.ended - given.began > deadline + late]
    outlived = [given for given in slow if given.ended - given.began > deadline + late + excused(given)]
    sentence = f"no call of any verb outlived its deadline by more than {late:g} s and what this process was late by"
    report.claim(sentence, not outlived, outlived[:3])


def judge(report: Report, callers: list[Caller], outages: list[Outage]) -> None:
    """Put the claims and the figures of all outages into the report."""
    every = [(caller, given) for caller in callers for given in caller.given]
    strange = Counter(given.error for _, given in every if given.error not in _EXPECTED)
    report.claim("every error says that the vault cannot be reached, or what was taken away", not strange, strange)
    bold = [given for caller, given in every if given.marked and not caller.kind.cache.max_stale]
    report.claim("only who wants it is given what is marked as stale", not bold, bold[:3])
    for kind in dict.fromkeys(outage.kind for outage in outages):
        of_kind = [outage for outage in outages if outage.kind == kind]
        figures = report.figures[kind] = {"outages": len(of_kind)}
        _judge_staleness(report, figures, callers, of_kind)
        _judge_storm(report, figures, callers, of_kind)
        _judge_recovery(report, figures, callers, of_kind)
        if kind == "refuses":
            _judge_retries(report, figures, callers, of_kind)


def _judge_staleness(report: Report, figures: dict[str, Any], callers: list[Caller], outages: list[Outage]) -> None:
    unmarked, marked, late, late_marked = [], [], [], []
    for outage, caller in itertools.product(outages, callers):
        cache = caller.kind.cache
        # Whose connection broke knows at once that it hears nothing.
        lease = 0.0 if outage.kind in BROKEN else cache.lease
        for given in caller.given:
            if given.org not in outage.orgs or not given.old or given.began <= outage.taken:
                continue
            if given.marked:
                marked.append(given.ended - outage.silent)
                if given.ended > max(outage.taken, outage.silent + cache.max_stale) + _SLACK:
                    late_marked.append(given)
            else:
                unmarked.append(given.began - outage.silent)
                if given.began > max(outage.taken, outage.silent + lease) + _SLACK:
                    late.append(given)
    kind = outages[0].kind
    figures["old_unmarked"] = {"calls": len(unmarked), "oldest_s": round(max(unmarked, default=0.0), 2)}
    figures["old_marked"] = {"calls": len(marked), "oldest_s": round(max(marked, default=0.0), 2)}
    report.claim(f"{kind}: nothing old was given as current after the lease", not late, late[:3])
    report.claim(f"{kind}: nothing old was given, marked, after max_stale", not late_marked, late_marked[:3])
    if kind in HEARD or kind == "strands":
        return
    heard = [
        given
        for outage, caller in itertools.product(outages, callers)
        for given in caller.given
        if is_good(given, outage.orgs) and outage.silent < given.began and given.ended < outage.back
    ]
    report.claim(f"{kind}: no client heard the vault meanwhile", not heard, heard[:3])


def _judge_storm(report: Report, figures: dict[str, Any], callers: list[Caller], outages: list[Outage]) -> None:
    connections: dict[str, list[int]] = {caller.name: [] for caller in callers}
    watches: dict[str, list[int]] = {caller.name: [] for caller in callers}
    many, often = [], []
    for outage, caller in itertools.product(outages, callers):
        did, lasted = outage.counts[caller.name], outage.over - outage.began
        connections[caller.name].append(did.connections)
        watches[caller.name].append(did.watches)
        tries = 0 if outage.kind in CONNECTED else _most(lasted, *_CONNECTION_PAUSES)
        bound = caller.kind.connections * (1 + did.cuts + tries)
        if did.connections > bound:
            many.append(f"{caller.name}: {did.connections} of {bound} in {lasted:.1f} s")
        bound = 1 + _most(lasted, *_WATCH_PAUSES)
        if did.watches > bound:
            often.append(f"{caller.name}: {did.watches} of {bound} in {lasted:.1f} s")
    began = sum(each for watches_of in watches.values() for each in watches_of)
    arrived = sum(outage.arrived[WATCH] for outage in outages)
    if arrived > began:
        often.append(f"{arrived} arrived, where {began} were begun")
    kind = outages[0].kind
    figures |= {"connections": connections, "watches": watches}
    report.claim(f"{kind}: no client connected more often than its backoff lets it", not many, many)
    report.claim(f"{kind}: no client watched more often than its backoff lets it", not often, often)


def _judge_recovery(report: Report, figures: dict[str, Any], callers: list[Caller], outages: list[Outage]) -> None:
    reads, memory, late = [], [], []
    for outage, caller in itertools.product(outages, callers):
        good = (given for given in caller.given if is_good(given, outage.orgs) and given.ended > outage.back)
        read = min((given.ended for given in good), default=float("inf")) - outage.back
        again = outage.remembered.get(caller.name, float("inf"))
        reads.append(read * 1000)
        memory.append(again * 1000)
        _, _, longest, jitter = _CONNECTION_PAUSES
        if read > longest * (1 + jitter) + _SLACK:
            late.append(f"{caller.name} reads after {read:.1f} s")
        # Who has several connections waits for a lease until the others can know no less than the watch's.
        settles = caller.kind.cache.lease if caller.kind.connections > 1 else 0.0
        if again > _WATCH_PAUSES[2] + settles + _SLACK:
            late.append(f"{caller.name} remembers after {again:.1f} s")
    figures |= {"reads_again_ms": spread(reads), "remembers_again_ms": spread(memory)}
    report.claim(f"{outages[0].kind}: every client was itself again within its longest pause", not late, late)


def _judge_retries(report: Report, figures: dict[str, Any], callers: list[Caller], outages: list[Outage]) -> None:
    asked: Counter[str] = Counter()
    budget = 0
    for outage, caller in itertools.product(outages, callers):
        during = [given for given in caller.given if given.ended > outage.began and given.began < outage.back]
        reported = sum(given.verb == _REPORT for given in during)
        asked["reports"] += reported
        asked["reads"] += len(during) - reported
        budget += (len(during) - reported) * caller.kind.connections + _RETRIES
    arrived = sum((outage.arrived for outage in outages), Counter[str]())
    reads = sum(arrived[method] for method in READS)
    figures |= {
        "asked": dict(asked),
        "arrived": {"reports": arrived[REPORT_FAILURE], "reads": reads, "watches": arrived[WATCH]},
    }
    report.claim("what arrived stays within the budget of retries", reads <= budget, f"{reads} of {budget}")
    repeated = arrived[REPORT_FAILURE] - asked["reports"]
    report.claim("what is no read was never made again", repeated <= 0, repeated)


def is_good(given: Given, orgs: Collection[str]) -> bool:
    """Whether a read gave what is true now of one of these orgs. A report is of an org of its own."""
    return given.verb != _REPORT and given.org in orgs and not (given.error or given.old or given.marked)


def _most(seconds: float, first: float, growth: float, longest: float, jitter: float) -> int:
    """How often something may be tried again in so many seconds, when every pause is as short as it may be."""
    pauses = (min(first * growth**number, longest) * (1 - jitter) for number in itertools.count())
    return sum(1 for _ in itertools.takewhile(lambda passed: passed <= seconds, itertools.accumulate(pauses)))
