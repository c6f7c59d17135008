"""What must be so when a load has ended, whatever was killed meanwhile."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from tenantvault.audit import VAULT_CHAIN, Broken, check_signature, prove
from tests.chaos.harness import Ground, Report, Vault, eventually
from tests.chaos.load import Load
from tests.chaos.peers import NAMES, Peer

_READS: Final = ("credential.get", "credential.resolve")
_REPLAYED_WITHIN: Final = 60.0


async def prove_books(report: Report, ground: Ground, vaults: Sequence[Vault], load: Load) -> None:
    """Hold the books of a load against the database, the audit and every vault."""
    books = load.books
    report.claim(
        "no vault served anything that was not current", not books.wrongs, f"{books.wrongs}: {books.wrong[:4]}"
    )
    report.claim("every change came to a definite end", not books.indefinite, books.indefinite[:5])
    lacking: dict[Any, Any] = {}

    async def is_told() -> bool:
        lacking.clear()
        lacking.update(await _untold_reads(ground, load))
        return not lacking

    replayed = await eventually(is_told, within=_REPLAYED_WITHIN)
    report.claim("every plaintext that arrived has its event", replayed, dict(list(lacking.items())[:5]))
    await _prove_changes(report, ground, load)
    await _prove_chains(report, ground, vaults[0], load)
    await _prove_state(report, ground, vaults, load)
    report.figures |= {
        "changes_acknowledged": len(books.acknowledged),
        "changes_refused": dict(books.refused_changes),
        "plaintexts": books.plaintexts.total(),
        "reads": dict(books.reads),
        "reads_refused": dict(books.refused_reads),
        "wrong_answers": books.wrongs,
    }


async def _untold_reads(ground: Ground, load: Load) -> dict[tuple[str, str, int], str]:
    rows = await ground.database.admin(
        "SELECT org_id, provider, version, count(*) AS events FROM audit_events"
        " WHERE action = ANY($1) AND outcome = 'ok' GROUP BY 1, 2, 3",
        list(_READS),
    )
    told = Counter({(row["org_id"], row["provider"], row["version"]): row["events"] for row in rows})
    return {
        place: f"{count} arrived, {told[place]} events"
        for place, count in load.books.plaintexts.items()
        if told[place] < count
    }


async def _prove_changes(report: Report, ground: Ground, load: Load) -> None:
    names = [org.name for org in load.orgs]
    rows = await ground.database.admin(
        "SELECT org_id, action, provider, version, count(*) AS events, count(DISTINCT generation) AS generations"
        "  FROM audit_events WHERE generation > 0 AND org_id = ANY($1) GROUP BY 1, 2, 3, 4",
        names,
    )
    told = Counter({(row["org_id"], row["action"], row["provider"], row["version"]): row["events"] for row in rows})
    acknowledged = Counter((one.org, one.action, one.provider, one.version) for one in load.books.acknowledged)
    lost = acknowledged - told
    report.claim("every acknowledged change has its event", not lost, list(lost.items())[:5])
    gaps = await ground.database.admin(
        "SELECT o.org_id, o.generation, count(e.generation) AS changes, count(DISTINCT e.generation) AS places"
        "  FROM orgs o LEFT JOIN audit_events e ON e.org_id = o.org_id AND e.generation > 0"
        " WHERE o.org_id = ANY($1) GROUP BY 1, 2"
        " HAVING o.generation <> count(e.generation) OR o.generation <> count(DISTINCT e.generation)",
        names,
    )
    report.claim("each org has as many changes as its generation says, each with one event", not gaps, gaps[:3])
    versions = await ground.database.admin(
        "SELECT org_id, provider, version FROM credential_versions WHERE org_id = ANY($1)", names
    )
    kept = {(row["org_id"], row["provider"], row["version"]) for row in versions}
    puts = {(one.org, one.provider, one.version) for one in load.books.acknowledged if one.action == "credential.put"}
    report.claim("every acknowledged version is stored", puts <= kept, sorted(puts - kept)[:5])


async def _prove_chains(report: Report, ground: Ground, vault: Vault, load: Load) -> None:
    peer = Peer(vault.channel)
    public_key = (await peer.key_status()).audit_public_key
    broken, events = [], 0
    for name in (*(org.name for org in load.orgs), VAULT_CHAIN):
        verdict = await peer.verify_audit(name)
        if verdict.problem:
            broken.append(f"{name}: {verdict.problem}")
        links, head = await peer.export_audit(name)
        try:
            events += prove(links, head, lambda _, signature, message: check_signature(public_key, signature, message))
        except Broken as error:
            broken.append(f"{name}, away from the vault: {error}")
    report.claim("every chain is proved, by the vault and without it", not broken, broken[:5])
    report.figures["events_proved"] = events
    violations = await ground.database.admin(
        "SELECT org_id, outcome, provider, version FROM audit_events WHERE action = 'integrity.violation'"
    )
    report.claim("no row was taken for forged", not violations, f"{len(violations)}: {violations[:3]}")


async def _prove_state(report: Report, ground: Ground, vaults: Sequence[Vault], load: Load) -> None:
    """That every vault, and the database, have what the writers know."""
    rows = await ground.database.admin(
        "SELECT c.org_id, c.provider, c.version, c.latest_version, c.is_active, o.state"
        "  FROM org_credentials c JOIN orgs o USING (org_id) WHERE c.org_id = ANY($1)",
        [org.name for org in load.orgs],
    )
    stored = {
        (row["org_id"], row["provider"]): (row["version"], row["latest_version"], row["is_active"], row["state"])
        for row in rows
    }
    known = {
        (org.name, NAMES[provider]): (
            integration.version,
            integration.latest,
            integration.is_active,
            "frozen" if org.is_frozen else "active",
        )
        for org in load.orgs
        for provider, integration in org.integrations.items()
    }
    differ = {place: (known[place], stored.get(place)) for place in known if stored.get(place) != known[place]}
    report.claim("the database has what was acknowledged last", not differ, list(differ.items())[:5])
    before = load.books.wrongs
    for vault in vaults:
        for org in load.orgs:
            await load.read_all(vault, org)
    report.claim("every vault gives what was acknowledged last", load.books.wrongs == before, load.books.wrong[:4])

    async def has_ended() -> bool:
        return not (await Peer(vaults[0].channel).key_status()).org_rotations_under_way

    report.claim("every rotation of an org's key has ended", await eventually(has_ended))
    problems = {vault.name: found for vault in vaults if (found := await Peer(vault.channel).diagnose())}
    report.claim("every self-check passes", not problems, problems)
    failures = [failure for vault in vaults for failure in vault.failures()]
    report.claim("no handler failed", not failures, failures[:3])
