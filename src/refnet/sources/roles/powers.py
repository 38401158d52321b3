"""Powers of the roles in the statements of pg_dumpall: what lets a role act as others, read everything, or run code."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator

from refnet.sources.permitted import Power, shown
from refnet.sources.roles.global_statements import Statement, StatementKind

#: Attributes with which a role acts as others, reads all rows, or reads all changes.
ATTRIBUTES = ("SUPERUSER", "CREATEROLE", "REPLICATION", "BYPASSRLS")
#: Settings that load libraries, or that only a superuser may change, in PostgreSQL 14 to 18. Digests on printed pages depend on
#: this list: it is never changed. What a newer server limits besides is asked for by name.
_LIMITED = frozenset(
    """
    allow_in_place_tablespaces allow_system_table_mods backtrace_functions commit_delay composite_type_mismatch compute_query_id
    deadlock_timeout debug_discard_caches dynamic_library_path event_triggers extension_control_path extension_destdir
    ignore_checksum_failure jit_debugging_support jit_dump_bitcode jit_profiling_support lc_messages lo_compat_privileges
    local_preload_libraries log_connections log_disconnections log_duration log_error_verbosity log_executor_stats
    log_lock_failures log_lock_waits log_min_duration_sample log_min_duration_statement log_min_error_statement log_min_messages
    log_parameter_max_length log_parser_stats log_planner_stats log_replication_commands log_statement log_statement_sample_rate
    log_statement_stats log_temp_files log_transaction_sample_rate max_stack_depth output_plugin_libraries
    session_preload_libraries session_replication_role temp_file_limit track_activities track_cost_delay_timing track_counts
    track_functions track_io_timing track_wal_io_timing update_process_title wal_compression wal_consistency_checking
    wal_init_zero wal_recycle zero_damaged_pages
    """.split()  # noqa: SIM905  # a list of one name a line is longer than the rest of the file
)


def _power(one: Statement, limited: Collection[str]) -> Iterator[Power]:
    """Yield the powers that the statement gives, memberships left out."""
    if one.kind is StatementKind.ATTRIBUTES:
        yield from (Power(one.subject, word) for word in one.tokens if word in ATTRIBUTES)
    elif one.kind is StatementKind.PARAMETER and one.subject:
        how = " by ALTER SYSTEM" if {"ALL", "ALTER"} & {*one.tokens} else ""
        also = " and grant that" if "OPTION" in one.tokens else ""
        yield Power(one.subject, f"may change {shown(one.names[0])}{how}{also}")
    elif one.kind is StatementKind.SETTING and _is_limited(one.names[1], limited):
        value = " ".join(one.tokens[one.tokens.index("TO") + 1 :])
        yield Power(one.subject, f"sets {shown(one.names[1])} to {json.dumps(value)[1:-1]}")


def _is_limited(setting: str, limited: Collection[str]) -> bool:
    """Whether only a superuser may set it. A setting of a language (`plperl.…`) may be code."""
    name = setting.lower()
    return name in _LIMITED or name in limited or (name.startswith("pl") and "." in name)


def false_options(statement: Statement) -> tuple[str, ...]:
    """INHERIT and SET, where a membership has them FALSE."""
    tokens = statement.tokens
    return tuple(
        option
        for option in ("INHERIT", "SET")
        if option in tokens and tokens[tokens.index(option) + 1] == "FALSE"
    )


def _membership(one: Statement) -> Power:
    admin = " with ADMIN OPTION" if "ADMIN" in one.tokens else ""
    off = "".join(f" without {option}" for option in false_options(one))
    return Power(one.subject, f"member of {shown(one.names[0])}{admin}{off}")


def all_powers(statements: Iterable[Statement]) -> tuple[Power, ...]:
    """Every power of every role in `statements`, sorted: what a page lists, the same for each server.

    A membership counts if its role is a predefined one, or has powers itself.
    """
    listed = tuple(statements)
    found = {power for one in listed for power in _power(one, ())}
    members = defaultdict[str, list[Statement]](list)
    for one in listed:
        if one.kind is StatementKind.MEMBERSHIP:
            members[one.names[0]].append(one)
    powerful = [*{power.role for power in found} | {role for role in members if role.startswith("pg_")}]
    seen = {*powerful}
    while powerful:
        for one in members[powerful.pop()]:
            found.add(_membership(one))
            if one.subject not in seen:
                seen.add(one.subject)
                powerful.append(one.subject)
    return tuple(sorted(found))


def needed_powers(
    statements: Iterable[Statement], create: Collection[str], limited: Collection[str]
) -> tuple[Power, ...]:
    """Powers that a restore which creates the roles `create` gives, sorted, also those that roles which exist get by a membership.

    Memberships in roles that exist already count, and in those with powers. limited: the settings that only a superuser may
    change on the server, beside those that are known.
    """
    listed = tuple(statements)
    found, powerful = set[Power](), {power.role for power in all_powers(listed)}
    for one in listed:
        if one.kind is StatementKind.MEMBERSHIP:
            role, concerned = one.names[0], one.subject in create or one.names[0] in create
            found |= {_membership(one)} if concerned and (role in powerful or role not in create) else set()
        elif one.subject in create:
            found.update(_power(one, limited))
    return tuple(sorted(found))


def without_passwords(statements: Iterable[Statement], roles: Collection[str]) -> tuple[Statement, ...]:
    """`statements` that give `roles` no password: who forges a backup knows those in it."""
    return tuple(
        one.without("PASSWORD", 2) if one.kind is StatementKind.ATTRIBUTES and one.subject in roles else one
        for one in statements
    )


def without(
    statements: Iterable[Statement], powers: Collection[Power], limited: Collection[str]
) -> tuple[Statement, ...]:
    """`statements` that give none of `powers`; the rest of each statement stays."""
    found = list[Statement]()
    for one in statements:
        if one.kind is StatementKind.MEMBERSHIP:
            if _membership(one) not in powers:
                found.append(one)
        elif one.kind is StatementKind.ATTRIBUTES:
            taken = {power.what for power in _power(one, limited)} & {
                p.what for p in powers if p.role == one.subject
            }
            tokens = tuple(f"NO{word}" if word in taken else word for word in one.tokens)
            found.append(Statement(one.kind, one.subject, tokens))
        elif not {*_power(one, limited)} & {*powers}:
            found.append(one)
    return tuple(found)


def granting_statements(
    statements: Iterable[Statement], powers: Collection[Power], limited: Collection[str]
) -> tuple[Statement, ...]:
    """Statements that give `powers` to roles that exist, and change nothing else."""
    found = list[Statement]()
    for one in statements:
        if one.kind is StatementKind.MEMBERSHIP:
            found += [one] if _membership(one) in powers else []
            continue
        given = [power for power in _power(one, limited) if power in powers]
        if given and one.kind is StatementKind.ATTRIBUTES:
            words = tuple(power.what for power in given)
            found.append(Statement(one.kind, one.subject, (*one.tokens[:4], *words)))
        elif given:
            found.append(one)
    return tuple(found)


def granting(
    statements: Iterable[Statement], powers: Collection[Power], limited: Collection[str]
) -> tuple[str, ...]:
    """The SQL that gives `powers`, a statement each."""
    return tuple(one.sql for one in granting_statements(statements, powers, limited))
