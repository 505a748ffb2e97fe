"""A hold ends exactly once, and gives back exactly what it did not spend."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline.ledger.markup import Markup
from tieline.ledger.settle import Hold
from tieline.types.errors import BudgetExceeded
from tieline.types.money import parse_usd


class Till:
    def __init__(self, limit: int) -> None:
        self.limit, self.held, self.spent = limit, 0, 0

    def window(self, now: float) -> int:
        return int(now)

    def hold(self, amount: int, window: int) -> None:
        if self.spent + self.held + amount > self.limit:
            raise BudgetExceeded("no")
        self.held += amount

    def settle(self, held: int, spent: int, window: int) -> None:
        self.held -= held
        self.spent += spent


def test_the_rest_is_given_back_once() -> None:
    till = Till(100)
    hold = Hold([till], 0)
    hold.reserve(80)
    hold.reserve(50)
    assert till.held == 80
    hold.top_up(20)
    assert (hold.settle(30), hold.settle(99), hold.settle(None)) == (30, 30, 30)
    assert (till.held, till.spent) == (0, 30)
    assert repr(hold) == "<Hold settled held=100 spent=30>"


def test_all_purses_or_none() -> None:
    rich, poor = Till(100), Till(10)
    hold = Hold([rich, poor], 0)
    with pytest.raises(BudgetExceeded):
        hold.reserve(50)
    assert (rich.held, poor.held, hold.held) == (0, 0, 0)
    hold.reserve(10)
    with pytest.raises(BudgetExceeded):
        hold.top_up(1)
    assert (rich.held, poor.held, hold.held) == (10, 10, 10)


def test_an_unknown_cost_counts_what_was_held() -> None:
    till = Till(100)
    hold = Hold([till], 0)
    hold.reserve(40)
    assert hold.settle(None) == 40
    assert (till.held, till.spent) == (0, 40)


def test_a_settled_hold_cannot_grow() -> None:
    hold = Hold([Till(100)], 0)
    hold.settle(0)
    with pytest.raises(RuntimeError):
        hold.reserve(1)


@given(st.lists(st.tuples(st.sampled_from("rts"), st.none() | st.integers(0, 60)), max_size=30))
def test_any_order_of_calls_keeps_the_books(calls: list[tuple[str, int | None]]) -> None:
    till = Till(100)
    hold = Hold([till], 0)
    for name, amount in calls:
        try:
            if name == "s":
                hold.settle(min(amount, hold.held) if amount is not None else None)
            elif amount is not None:
                (hold.reserve if name == "r" else hold.top_up)(amount)
        except (BudgetExceeded, RuntimeError):
            pass
        assert till.held + till.spent <= 100
        assert till.held == (0 if hold.settled else hold.held)
    assert till.spent == hold.spent


def test_markup_is_exact() -> None:
    markup = Markup.parse("7.5", "0.001")
    assert markup.apply(parse_usd("1")) == parse_usd("1.076")
    assert Markup.parse("50").apply(1) == 2
    assert Markup.parse("49").apply(1) == 1


def test_who_bears_a_failed_attempt() -> None:
    gentle, strict = Markup.parse("100"), Markup.parse("100", charge_failed="cost")
    assert gentle.charge(30, 20, served=True) == 40
    assert strict.charge(30, 20, served=True) == 60
    assert gentle.charge(10, 0, served=False) == 0
    assert strict.charge(10, 0, served=False) == 10
    assert gentle.charge(None, None, served=True) is None
    assert gentle.charge(None, 20, served=True) == 40, "what failed is not passed on, known or not"
    assert gentle.charge(None, None, served=False) == 0
    assert strict.charge(None, 20, served=True) is None
    assert strict.charge(None, None, served=False) is None


@pytest.mark.parametrize("text", ["-1", "x", "NaN", "Infinity", "0.0000001"])
def test_bad_markup_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="markup_percent"):
        Markup.parse(text)
