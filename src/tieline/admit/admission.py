"""The door of the pipeline: ``admit`` gives a permit or raises why not; the permit is released at stream close.

Everything is decided from memory in the caller's thread. Keys come from a snapshot that ``refresh`` replaces.
"""

from __future__ import annotations

import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping

from tieline.admit.accounts import Spent
from tieline.admit.budgets import Meter, ceilings
from tieline.admit.facts import Facts
from tieline.admit.keys import PREFIX, digest_of, find
from tieline.admit.limits import Gate
from tieline.admit.pages import is_anybodys, is_elsewhere
from tieline.admit.policy import combine
from tieline.admit.rules import BudgetRule, Limits, Rules, matches
from tieline.admit.snapshot import EMPTY, Key, Project, Snapshot
from tieline.config.schema import PolicyRules
from tieline.ledger.settle import Hold
from tieline.record.rows import run_scope, stored_scope
from tieline.types.errors import DatabaseAway, Forbidden, Unauthenticated
from tieline.types.money import Pico

MAX_RUNS = 20_000
"""Runs with a budget that are kept in memory; the one longest unused goes first."""
MAX_DIGESTS = 10_000


class Principal:
    """A key with its project, ready to be used: what is the same for each of its requests."""

    __slots__ = (
        "allowed",
        "gates",
        "key",
        "meters",
        "models",
        "parts",
        "policy",
        "profiles",
        "project_id",
        "tags",
    )

    def __init__(self, key: Key, project_rules: Rules, gateway_policy: PolicyRules) -> None:
        self.key = key
        self.project_id = key.project_id
        self.models = [names for names in (key.rules.models, project_rules.models) if names is not None]
        self.allowed = tuple(map(tuple, self.models))
        self.profiles = [names for names in (key.rules.profiles, project_rules.profiles) if names is not None]
        self.tags = {**key.rules.tags, **project_rules.tags}
        self.policy = combine(gateway_policy, project_rules.policy, key.rules.policy)
        self.gates: tuple[Gate, ...] = ()
        self.meters: tuple[Meter, ...] = ()
        self.parts: tuple[tuple[str, Meter], ...] = ()
        """Budgets for one model or tag: ``model:NAME`` or ``tag:NAME=VALUE`` with its meter."""


class Permit:
    """One admitted request. ``settle`` and ``release`` may be called any number of times; the first counts."""

    __slots__ = (
        "_admission",
        "_entered",
        "_gates",
        "_hold",
        "_released",
        "_slot",
        "_tokens",
        "allowed",
        "has_hard_budget",
        "has_soft_budget",
        "key_id",
        "meters",
        "policy",
        "project",
        "tags",
    )

    def __init__(
        self,
        admission: Admission,
        principal: Principal | None,
        meters: tuple[Meter, ...],
        facts: Facts,
        tags: dict[str, str],
        policy: PolicyRules,
        entered: float,
        now: float,
    ) -> None:
        self._admission = admission
        self._entered = entered
        self._gates = principal.gates if principal else ()
        self._hold = Hold(meters, now)
        self._released = False
        self._tokens = facts.input_tokens
        self.meters = meters
        self.key_id = principal.key.id if principal else None
        self.project = principal.project_id if principal else None
        self.tags = tags
        self.allowed = principal.allowed if principal else ()
        """The names of models that bind alternatives too (``route.steps.Needs``)."""
        self.policy = policy
        self.has_hard_budget = self.has_soft_budget = False
        """Hard: then a deployment whose price is unknown cannot be used."""
        for meter in meters:
            for budget in meter.budgets:
                if budget.hard:
                    self.has_hard_budget = True
                else:
                    self.has_soft_budget = True

    def __repr__(self) -> str:
        return f"<Permit key={self.key_id} {self._hold!r}{' released' if self._released else ''}>"

    @property
    def held(self) -> Pico:
        return self._hold.held

    def reserve(self, amount: Pico) -> None:
        """Raises what is held to ``amount`` in all. Raises BudgetExceeded and changes nothing when it does not fit."""
        if self.meters:
            self._hold.reserve(amount)

    def settle(self, charged: Pico | None) -> Pico | None:
        """What budgets bear, once: give the record's ``charged`` and put back what this returns.

        None is unknown: then it is what was held, and stays unknown only where nothing was held or there is no budget.
        """
        budgeted = self.has_hard_budget or self.has_soft_budget
        if charged is None and not (budgeted and self._hold.held):
            self._hold.settle(0)
            return None
        return self._hold.settle(charged)

    def count_tokens(self, used: int) -> None:
        """What the request really used, input and output together."""
        extra = used - self._tokens
        self._tokens = used
        if extra and self._gates:
            now = self._admission.clock()
            for gate in self._gates:
                gate.correct(extra, self._entered, now)

    def warnings(self) -> list[str]:
        """A line for each soft budget that is overspent, for a header."""
        now = self._admission.wall()
        return [line for meter in self.meters if meter.budgets for line in meter.warnings(meter.window(now))]

    def release(self) -> None:
        """At the end of the request, whatever happened. Without ``settle`` before, all that was held is free again."""
        if self._released:
            return
        self._released = True
        self._hold.settle(0)
        for gate in self._gates:
            gate.leave()
        self._admission.inflight -= 1


class Admission:
    """``open``: requests without a key are let in although keys exist, or although the address is public.

    ``loopback``: the server is bound to the local machine, where no key is needed as long as none was made.
    ``known``: False until ``refresh`` has told the keys: then only requests are let in that could not need one.
    """

    def __init__(
        self,
        *,
        open: bool = False,
        loopback: bool = True,
        policy: PolicyRules | None = None,
        shared: bool = False,
        known: bool = True,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.open = open
        self.loopback = loopback
        self.clock = clock
        self.wall = wall
        self.inflight = 0
        self.known = known
        self.counted = True
        """False while it is not known what was spent before: then hard budgets let nothing in."""
        self.shared = shared
        """Several processes: hard budgets and limits are spent out of leases (``leases``)."""
        self._policy = policy or PolicyRules()
        self._snapshot = EMPTY
        self._credits: Mapping[str, Pico] = {}
        self._spent: Mapping[str, Spent] = {}
        self._digests: dict[str, bytes] = {}
        """By secret, of those that were found since the keys changed."""
        self._principals: dict[str, Principal] = {}
        self._names: dict[str, str] = {}
        """Of scopes: what people call them."""
        self._gates: dict[str, Gate] = {}
        self._meters: dict[str, Meter] = {}
        self._runs: OrderedDict[str, Meter] = OrderedDict()

    @property
    def revision(self) -> int:
        return self._snapshot.revision

    @property
    def has_keys(self) -> bool:
        return bool(self._snapshot.keys)

    @property
    def has_ceilings(self) -> bool:
        """Whether any key or project has a limit or a hard budget."""
        keys, projects = self._snapshot.keys.values(), self._snapshot.projects.values()
        rules = [*(key.rules for key in keys), *(project.rules for project in projects)]
        return bool(self._credits) or any(
            one.limits != Limits() or any(budget.hard for budget in one.budgets) for one in rules
        )

    def meters(self) -> list[Meter]:
        """Every meter in memory, those of runs included."""
        return [*self._meters.values(), *self._runs.values()]

    def gates(self) -> list[Gate]:
        """Of every key and project that was used."""
        return list(self._gates.values())

    def remember(self, spent: Mapping[str, Spent]) -> None:
        """What was spent before this process began; before ``refresh``. What ``recall`` counted is in it by now."""
        self._spent = spent
        self._meters.clear()
        self._runs.clear()

    def recall(self, snapshot: Snapshot, credits: Mapping[str, Pico]) -> None:
        """Keys as they were when the database was last there: those in them are let in, of others nothing is known."""
        self.refresh(snapshot, credits)
        self.known = self.counted = False

    def passed(self) -> list[tuple[str, str, str]]:
        """Soft budgets that are overspent in their present window: scope, window, and a line that says so."""
        now = self.wall()
        return [
            (meter.scope, budget.window_name, budget.warning(slot))
            for meter in self._meters.values()
            for budget in meter.budgets
            if not budget.hard and budget.spent_at(slot := meter.window(now)) > budget.amount
        ]

    def soft_windows(self) -> dict[tuple[int, int], list[str]]:
        """First slot and first after it of each window that a soft budget is in -> the scopes."""
        now, found = self.wall(), defaultdict[tuple[int, int], list[str]](list)
        for meter in self._meters.values():
            for budget in meter.budgets:
                if not budget.hard:
                    budget.used_at(meter.window(now))
                    found[budget.window_bounds].append(meter.scope)
        return found

    def learn(self, elsewhere: Mapping[tuple[int, int], Mapping[str, Pico]]) -> None:
        """What all others have spent, by ``soft_windows``."""
        for meter in self._meters.values():
            for budget in meter.budgets:
                sums = elsewhere.get(budget.window_bounds)
                if not budget.hard and sums is not None:
                    budget.elsewhere = max(0, sums.get(meter.scope, 0) - budget.foreign)

    def recount(self, spent: Mapping[str, Spent]) -> None:
        """What was spent is known at last. Nothing was let in by a hard budget until now: its meter starts anew."""
        self._spent = spent
        self._meters = {
            scope: meter
            for scope, meter in self._meters.items()
            if not any(budget.hard for budget in meter.budgets)
        }
        self._runs.clear()
        self.counted = True
        self.refresh(self._snapshot, self._credits)

    def refresh(self, snapshot: Snapshot, credits: Mapping[str, Pico] | None = None) -> None:
        """Takes new keys and rules over, at once. Counts, holds and limits of running requests go on."""
        self._snapshot = snapshot
        self.known = True
        self._credits = credits or {}
        self._principals = {}
        self._digests = {}
        self._names = {}
        for project in snapshot.projects.values():
            self._set_budgets(f"project:{project.id}", project.rules.budgets, self._credits.get(project.id))
        for key in snapshot.keys.values():
            self._set_budgets(f"key:{key.id}", key.rules.budgets, None)

    def set_policy(self, policy: PolicyRules) -> None:
        """After a change of the configuration."""
        self._policy = policy
        self._principals = {}

    def admit(self, secret: str | None, facts: Facts) -> Permit:
        """Raises Unauthenticated, Forbidden, LimitExceeded or BudgetExceeded."""
        now, at = self.wall(), self.clock()
        principal = self._who(secret, now)
        tags = facts.tags
        meters: tuple[Meter, ...] = ()
        policy = self._policy
        if principal is not None:
            _check_allowed(principal, facts)
            if principal.tags:
                tags = {**tags, **principal.tags}
            meters = self._meters_for(principal, facts.model, tags)
            policy = principal.policy
            for gate in principal.gates:
                gate.check(facts.input_tokens, at)
        if facts.run and facts.run_budget is not None:
            if not self.known:
                raise _unknown("What this run has spent is not known")
            meters = (*meters, self._run_meter(principal, facts.run, facts.run_budget))
        for meter in meters:
            if meter.budgets:
                if not self.counted and any(budget.hard for budget in meter.budgets):
                    raise _unknown("What has been spent of a budget is not known")
                # One unit: a budget that is used up lets nothing in, also where the first price is unknown.
                _check_room(meter, now)
        if facts.policy is not None:
            policy = combine(policy, facts.policy)
        if principal is not None:
            for gate in principal.gates:
                gate.enter(facts.input_tokens, at)
        self.inflight += 1
        return Permit(self, principal, meters, facts, tags, policy, at, now)

    def identify(self, secret: str | None) -> str | None:
        """The key's id without admitting anything; None where no key is needed. Raises Unauthenticated."""
        principal = self._who(secret, self.wall())
        return principal.key.id if principal else None

    def presented(self, secret: str | None) -> tuple[Key | None, dict[str, str]]:
        """The key itself, and the tags that it puts on requests; also of one whose rules cannot be read. Raises
        Unauthenticated."""
        now = self.wall()
        try:
            principal = self._who(secret, now)
        except Forbidden:
            return self._find(secret or "", now), {}
        return (principal.key, principal.tags) if principal else (None, {})

    def bounds(self, secret: str | None, model: str) -> tuple[tuple[tuple[str, ...], ...], PolicyRules]:
        """What a request for ``model`` would be bound by, ``allowed`` and the data policy, without admitting one. Raises
        Unauthenticated, Forbidden."""
        principal = self._who(secret, self.wall())
        if principal is None:
            return (), self._policy
        _check_allowed(principal, Facts(model=model))
        return principal.allowed, principal.policy

    def allowed(self, secret: str | None) -> tuple[tuple[str, ...], ...]:
        """The lists of names, of the key and of its project, that a model must be in; none: any model. Raises
        Unauthenticated."""
        principal = self._who(secret, self.wall())
        return principal.allowed if principal else ()

    def _who(self, secret: str | None, now: float) -> Principal | None:
        """None: nobody in particular, and that is allowed here."""
        if not self.known and not (self.open and not (secret or "").startswith(PREFIX)):
            return self._recalled(secret, now)
        if secret is None or (self._is_open() and not secret.startswith(PREFIX)):
            # SDKs insist on sending some key; where none is needed, theirs does not matter.
            if self._is_open():
                return None
            raise Unauthenticated(
                "No API key provided.", hint="Send a virtual key; `tieline keys create` makes one."
            )
        key = self._find(secret, now)
        return self._principals.get(key.id) or self._new_principal(key)

    def _recalled(self, secret: str | None, now: float) -> Principal:
        """A key may have been made since: whoever is not among those recalled is asked to come again."""
        try:
            key = self._find(secret or "", now)
        except Unauthenticated:
            raise _unknown("Keys cannot be checked") from None
        return self._principals.get(key.id) or self._new_principal(key)

    def _find(self, secret: str, now: float) -> Key:
        """Digests are kept of secrets that were good: hashing one is little work, but by code that nothing else uses."""
        known = self._digests.get(secret)
        digest = known or digest_of(secret)
        key = find(self._snapshot, digest, now * 1_000)
        if known is None:
            if len(self._digests) >= MAX_DIGESTS:
                self._digests.clear()
            self._digests[secret] = digest
        return key

    def refuses_page(self, origin: str) -> bool:
        """Whether a browser says that another site's page sent a request, which would spend the owner's money without a key."""
        return self._serves_programs() and is_elsewhere(origin)

    def refuses_name(self, host: str) -> bool:
        """Whether it may be a page of another site all the same, for which its browser takes this machine for that site."""
        return self._serves_programs() and is_anybodys(host)

    def _serves_programs(self) -> bool:
        """Of this machine, and nobody else: they need no key."""
        return self.known and not self.open and self._is_open()

    def _is_open(self) -> bool:
        return self.open or (self.loopback and not self._snapshot.keys)

    def _new_principal(self, key: Key) -> Principal:
        project = self._snapshot.projects[key.project_id]
        if key.unreadable or project.unreadable:
            whose = f"key {key.name!r}" if key.unreadable else f"the project of key {key.name!r}"
            raise Forbidden(
                f"The rules of {whose} cannot be read, so that it is refused.",
                hint="The gateway's log says why.",
            )
        principal = Principal(key, project.rules, self._policy)
        principal.gates = (
            self._gate(f"key:{key.id}", f"Key {key.name!r}", key.rules),
            self._gate(f"project:{project.id}", f"Project {project.name!r}", project.rules),
        )
        principal.meters = (self._meter(f"key:{key.id}"), self._meter(f"project:{project.id}"))
        owners = ((f"key:{key.id}", key.rules), (f"project:{project.id}", project.rules))
        principal.parts = tuple(
            (part, self._meter(f"{scope}/{part}"))
            for scope, rules in owners
            for part in _parts_of(rules.budgets)
        )
        self._principals[key.id] = principal
        return principal

    def _meters_for(self, principal: Principal, model: str, tags: dict[str, str]) -> tuple[Meter, ...]:
        if not principal.parts:
            return principal.meters
        parts = {f"model:{model}", *(f"tag:{name}={value}" for name, value in tags.items())}
        return principal.meters + tuple(meter for part, meter in principal.parts if part in parts)

    def _run_meter(self, principal: Principal | None, run: str, budget: Pico) -> Meter:
        scope = stored_scope(run_scope(principal.project_id if principal else None, run))
        meter = self._runs.get(scope)
        if meter is None:
            meter = self._runs[scope] = self._new_meter(scope)
            self._forget_runs()
        self._runs.move_to_end(scope)
        meter.set_budgets([(budget, "lifetime", True, "UTC")])
        return meter

    def _forget_runs(self) -> None:
        for scope in list(self._runs)[: max(0, len(self._runs) - MAX_RUNS)]:
            if not self._runs[scope].held:
                del self._runs[scope]

    def _set_budgets(self, scope: str, rules: list[BudgetRule], credit: Pico | None) -> None:
        """A prepaid balance is a lifetime budget of all that was ever paid in."""
        whole = ceilings(rule for rule in rules if _part_of(rule) is None)
        if credit is not None:
            whole = [*whole, (credit, "lifetime", True, "credit")]
        if whole or scope in self._meters:
            self._meter(scope).set_budgets(whole)
        for part in _parts_of(rules):
            part_rules = [rule for rule in rules if _part_of(rule) == part]
            self._meter(f"{scope}/{part}").set_budgets(ceilings(part_rules))

    def _gate(self, scope: str, name: str, rules: Rules) -> Gate:
        gate = self._gates.get(scope)
        if gate is None:
            gate = self._gates[scope] = Gate(scope, name, rules.limits, shared=self.shared)
        gate.name, gate.limits = name, rules.limits
        return gate

    def _meter(self, scope: str) -> Meter:
        scope = stored_scope(scope)
        meter = self._meters.get(scope)
        if meter is None:
            meter = self._meters[scope] = self._new_meter(scope)
        return meter

    def _new_meter(self, scope: str) -> Meter:
        spent = self._spent.get(scope)
        if spent is None:
            return Meter(scope, wall=self.wall, shared=self.shared, named=self._name_of)
        return Meter(
            scope,
            dict(spent.slots),
            spent.before,
            wall=self.wall,
            foreign=spent.foreign,
            foreign_before=spent.foreign_before,
            shared=self.shared,
            named=self._name_of,
        )

    def _name_of(self, scope: str) -> str:
        """What people call it: ``key 'ci'``, with its id where another key has that name."""
        if scope.startswith("run:"):
            return f"run {scope.split(':', 2)[-1]!r}"
        name = self._names.get(scope)
        if name is None:
            name = self._names[scope] = self._new_name(scope)
        return name

    def _new_name(self, scope: str) -> str:
        owner, _, part = scope.partition("/")
        kind, _, owner_id = owner.partition(":")
        known: Mapping[str, Key | Project] = self._snapshot.keys if kind == "key" else self._snapshot.projects
        found = known.get(owner_id)
        if found is None:
            return scope
        alike = sum(one.name == found.name for one in known.values())
        name = f"{kind} {found.name!r}" if alike == 1 else f"{kind} {found.name!r} ({owner_id})"
        what, _, which = part.partition(":")
        return f"{name} for the {what} {which!r}" if part else name


def _unknown(what: str) -> DatabaseAway:
    return DatabaseAway(
        f"{what}: the database could not be used since this gateway started.",
        hint="Try again, or ask another replica.",
        retry_after_s=5.0,
    )


def _check_allowed(principal: Principal, facts: Facts) -> None:
    for names in principal.models:
        if not matches(names, facts.model):
            raise _forbidden_model(principal, facts.model, "model", names)
        for name in facts.alternatives:
            if not matches(names, name):
                raise _forbidden_model(principal, name, "models", names)
    if facts.profile is not None:
        for names in principal.profiles:
            if not matches(names, facts.profile):
                raise Forbidden(
                    f"Key {principal.key.name!r} may not use the profile {facts.profile!r}.", param="profile"
                )


def _forbidden_model(principal: Principal, name: str, param: str, names: list[str]) -> Forbidden:
    return Forbidden(
        f"Key {principal.key.name!r} may not use the model {name!r}.",
        param=param,
        hint=f"It may use: {', '.join(names[:20]) or 'none'}.",
    )


def _check_room(meter: Meter, now: float) -> None:
    slot = meter.window(now)
    for budget in meter.budgets:
        budget.check(1, slot)


def _parts_of(budgets: list[BudgetRule]) -> list[str]:
    return sorted({part for part in map(_part_of, budgets) if part})


def _part_of(budget: BudgetRule) -> str | None:
    """The end of the scope that a budget for a part counts; None: all of the owner's spend."""
    if budget.model is not None:
        return f"model:{budget.model}"
    if budget.tag is not None:
        return f"tag:{budget.tag}"
    return None
