"""What a request may cost, and what each candidate would."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from tieline.config.schema import Routing
from tieline.providers.card import ModelCard
from tieline.providers.deployment import Deployment
from tieline.route.equivalence import UpperBound
from tieline.route.steps import Needs
from tieline.types.money import Pico, format_usd, parse_usd

USUAL_INPUT = 1000
USUAL_OUTPUT = 1000
"""Tokens by which prices are compared where the request states none."""
_PER_MYRIAD = 10_000


class Ceiling:
    """Of one request. Prices are computed once for each deployment, and only where a ceiling asks for them."""

    __slots__ = (
        "_bound",
        "_comparable",
        "_extras",
        "_input",
        "_max_cost",
        "_n",
        "_output",
        "_ratio",
        "_tier",
        "_unstated",
        "_worst",
        "spent",
    )

    def __init__(
        self, needs: Needs, routing: Routing, bound: UpperBound, asked: Sequence[Deployment]
    ) -> None:
        self._bound = bound
        self._input = needs.input_tokens
        self._output = needs.max_output_tokens
        self._n = max(needs.n, 1)
        self._tier = needs.service_tier
        self._extras = needs.extras
        given = _parse(routing.max_cost_usd) if routing.max_cost_usd is not None else None
        self._max_cost = min((one for one in (given, needs.max_cost) if one is not None), default=None)
        self._ratio = needs.max_price_ratio if needs.max_price_ratio is not None else routing.max_price_ratio
        self._comparable: dict[str, Pico | None] = {}
        self._worst: dict[str, Pico | None] = {}
        self.spent: Pico = 0
        """By earlier attempts of this request."""
        self._unstated = False
        if self._tier is not None or self._extras is not None:
            # The catalog states few prices of tiers. Where none is known of the model asked for, standard prices stand
            # in for it when prices are compared, or nobody could ever take over.
            self._unstated = all(self._usual(one) is None for one in asked)

    def price(self, deployment: Deployment) -> Pico | None:
        """For this request's tokens as plain text. None: unknown."""
        if deployment.id not in self._comparable:
            self._comparable[deployment.id] = self._usual(deployment)
        return self._comparable[deployment.id]

    def _usual(self, deployment: Deployment) -> Pico | None:
        price = deployment.card.price if deployment.card else None
        output = self._output if self._output is not None else USUAL_OUTPUT
        usual = self._bound(price, self._input, output * self._n, self._tier, self._extras, True)
        if usual is None and self._unstated:
            usual = self._bound(price, self._input, output * self._n, None, None, True)
        return usual

    def worst(self, deployment: Deployment) -> Pico | None:
        """The most that one attempt can cost. None: unknown, because the price or the longest answer is."""
        if deployment.id not in self._worst:
            self._worst[deployment.id] = self._most(deployment.card)
        return self._worst[deployment.id]

    def _most(self, card: ModelCard | None) -> Pico | None:
        if card is None or card.price is None:
            return None
        output = self._output if self._output is not None else card.max_output
        if output is None:
            return None
        return self._bound(card.price, self._input, output * self._n, self._tier, self._extras, False)

    def cost_reason(self, deployment: Deployment, *, reserved: Pico = 0) -> str | None:
        if self._max_cost is None:
            return None
        worst = self.worst(deployment)
        if worst is None:
            return "what it may cost is unknown, and a ceiling is set"
        left = self._max_cost - self.spent - reserved
        if worst > left:
            longest = (
                "" if self._output is not None else " with its longest answer (max_tokens would shorten it)"
            )
            return f"it may cost {format_usd(worst)} USD{longest}, the ceiling leaves {format_usd(max(left, 0))} USD"
        return None

    def ratio_reason(self, deployment: Deployment, reference: Pico | None) -> str | None:
        price = self.price(deployment)
        if price is None or reference is None:
            whose = "its price" if price is None else "the price of the model asked for"
            return f"{whose} is unknown, so max_price_ratio cannot be held"
        if price * _PER_MYRIAD > reference * round(self._ratio * _PER_MYRIAD):
            return f"it costs {format_usd(price)} USD against {format_usd(reference)} USD, above max_price_ratio {self._ratio:g}"
        return None

    def settle(self, deployment: Deployment, cost: Pico | None) -> None:
        """An attempt is over; an unknown cost counts as its upper bound."""
        if cost is None:
            cost = self.worst(deployment) or 0
        self.spent += cost


@lru_cache(maxsize=256)
def _parse(text: str) -> Pico:
    return parse_usd(text)
