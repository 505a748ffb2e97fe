"""Names, preferences, equivalence and the validation of routes."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

import pytest

from tieline.config.schema import Config, ModelConfig, PolicyRules, ProviderConfig, Routing, StoreConfig
from tieline.gateway import Gateway
from tieline.route.equivalence import shrink
from tieline.route.routing import override
from tieline.route.steps import GiveUp, Needs, Outcome, Try
from tieline.route.validate import validate_routes
from tieline.types.errors import Failure, FailureClass, InvalidRequest, UnknownModel

DOWN = Outcome(Failure(kind=FailureClass.OVERLOADED, message="x"), 0.1)


def order(router: Any, route: Any, needs: Needs | None = None) -> list[str]:
    """Who is tried when everyone is down, in order."""
    plan = router.plan(route, needs or Needs(), 0.0)
    step, found = plan.start(), []
    while isinstance(step, Try):
        found.append(step.deployment.id)
        step = plan.send(DOWN)
    return found


@pytest.fixture
def world(deployment: Any) -> list[Any]:
    return [
        deployment("openai", "gpt-4.1"),
        deployment("azure", "gpt-4.1"),
        deployment("anthropic", "claude-sonnet-4-5", quality=85),
        deployment("openrouter", "anthropic/claude-sonnet-4.5", name="claude-sonnet-4-5", quality=85),
        deployment("openai", "embed", card={"embedding": True}, quality=None),
    ]


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("openai/gpt-4.1", {"openai/gpt-4.1"}),
        ("gpt-4.1", {"openai/gpt-4.1", "azure/gpt-4.1"}),
        ("GPT-4-1", {"openai/gpt-4.1", "azure/gpt-4.1"}),
        ("anthropic/claude-sonnet-4.5", {"openrouter/anthropic/claude-sonnet-4.5"}),
        ("openrouter/anthropic/claude-sonnet-4.5", {"openrouter/anthropic/claude-sonnet-4.5"}),
        ("claude-sonnet-4-5", {"anthropic/claude-sonnet-4-5", "openrouter/anthropic/claude-sonnet-4.5"}),
        ("fast", {"azure/gpt-4.1"}),
    ],
)
def test_names(name: str, first: set[str], world: Any, router: Any) -> None:
    made = router(world, Config(models={"fast": ModelConfig(deployments=["azure/gpt-4.1"])}))
    assert {one.id for one in made.match(name).tiers[0]} == first


def test_an_unknown_name_gets_the_nearest(world: Any, router: Any) -> None:
    made = router(world)
    with pytest.raises(UnknownModel, match="gpt-5") as caught:
        made.match("gpt-5")
    with pytest.raises(UnknownModel) as caught:
        made.match("claude-sonet-4-5")
    assert "claude-sonnet-4-5" in (caught.value.hint or "")
    with pytest.raises(UnknownModel) as caught:
        made.match("nowhere/zzzzzz")
    assert "anthropic, azure, openai, openrouter" in (caught.value.hint or "")


def test_any_name_at_a_usable_provider(deployment: Any, router: Any) -> None:
    made = router(
        [], deploy=lambda provider, model: deployment(provider, model) if provider == "local" else None
    )
    assert made.match("local/anything").reference.id == "local/anything"
    assert made.match("local/anything").reference is made.names.resolve("local/anything").reference
    with pytest.raises(UnknownModel):
        made.match("other/anything")


def test_openrouters_preferences(deployment: Any, router: Any) -> None:
    made = router([deployment(name, "m") for name in ("a", "b", "c")])

    def tried(**preferences: Any) -> list[str]:
        return [one[0] for one in order(made, made.match("a/m", (), preferences))]

    assert tried(order=["C", "b"]) == ["c", "b", "a"]
    assert tried(order=["c"], allow_fallbacks=False) == ["c"]
    assert sorted(tried(only=["b", "c/turbo"])) == ["b", "c"]
    assert sorted(tried(ignore=["a"])) == ["b", "c"]
    assert tried(data_collection="deny") == []
    assert tried(zdr=True) == []
    assert sorted(tried(max_price={"prompt": 0.001, "completion": "0.002"})) == ["a", "b", "c"]
    assert tried(max_price={"prompt": "0.0009"}) == []
    for wrong in ({"oder": ["a"]}, {"order": "a"}, {"max_price": {"prompt": "much"}}, {"sort": "luck"}):
        with pytest.raises(InvalidRequest):
            made.match("a/m", (), wrong)


@pytest.mark.parametrize(
    ("slug", "meant"),
    [
        ("bedrock", ["bedrock", "bedrock@eu-west-1"]),
        ("Amazon Bedrock", ["bedrock", "bedrock@eu-west-1"]),
        ("bedrock@EU-west-1", ["bedrock@eu-west-1"]),
        ("amazon-bedrock@eu-west-1", ["bedrock@eu-west-1"]),
        ("bedrock@us-east-1", []),
        ("google-vertex/europe", ["vertex@europe-west1"]),
        ("azure", ["azure@my_Res"]),
        ("azure@my_res", ["azure@my_Res"]),
        ("bed", []),
    ],
)
def test_a_host_that_is_preferred_means_its_regions_too(
    deployment: Any, router: Any, slug: str, meant: list[str]
) -> None:
    names = ["bedrock", "bedrock@eu-west-1", "vertex@europe-west1", "azure@my_Res", "z"]
    made = router([deployment(name, "m") for name in names])

    def tried(**preferences: Any) -> list[str]:
        return [one.partition("/")[0] for one in order(made, made.match("z/m", (), preferences))]

    assert sorted(tried(only=[slug])) == sorted(meant)
    assert sorted(tried(order=[slug], allow_fallbacks=False)) == sorted(meant)
    assert sorted(tried(ignore=[slug])) == sorted(set(names).difference(meant))
    assert set(tried(order=[slug])[: len(meant)]) == set(meant)


def test_the_nearest_names_are_looked_for_once(
    world: Any, router: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Milliseconds in which nothing else happens, for each request of a client that is set up wrongly."""
    looked: list[str] = []

    def counted(name: str, *rest: Any, **more: Any) -> list[str]:
        looked.append(name)
        return get_close_matches(name, *rest, **more)

    monkeypatch.setattr("tieline.route.match.get_close_matches", counted)
    made = router(world)
    said = set()
    for _ in range(5):
        with pytest.raises(UnknownModel) as caught:
            made.match("gpt5-minni")
        said.add(caught.value.hint)
    assert len(said) == len(looked) == 1
    with pytest.raises(UnknownModel) as caught:
        made.match("gpt-" * 1_000_000)
    assert len(caught.value.message) < 200
    assert len(looked) == 1


def test_sorting_by_price(deployment: Any, router: Any) -> None:
    made = router(
        [
            deployment("a", "m", price=(9, 9)),
            deployment("b", "m", price=(1, 1)),
            deployment("c", "m", price=None),
        ]
    )
    assert order(made, made.match("m:floor"))[:2] == ["b/m", "a/m"]
    assert order(made, made.match("a/m", (), {"sort": "price"}))[:2] == ["b/m", "a/m"]


def test_a_requests_own_fallbacks(world: Any, router: Any) -> None:
    made = router(world, Config(routing=Routing(fallback="listed")))
    route = made.match("openai/gpt-4.1", ("anthropic/claude-sonnet-4-5", "openai/gpt-4.1"))
    assert order(made, route) == ["openai/gpt-4.1", "anthropic/claude-sonnet-4-5"]


def test_with_only_keys_the_alternatives_are_found(deployment: Any, router: Any) -> None:
    made = router(
        [
            deployment("a", "m", quality={"average": 80, "coding": 70}),
            deployment("b", "m"),
            deployment("c", "coder", quality={"average": 79.5, "coding": 75}, price=(900, 1900)),
            deployment("d", "writer", quality={"average": 90, "coding": 60}),
            deployment("e", "cheap", quality={"average": 85, "coding": 71}, price=(100, 100)),
            deployment("f", "dear", quality={"average": 99, "coding": 99}, price=(5000, 5000)),
            deployment("g", "riddle", quality=None),
            deployment("h", "nearly", quality={"average": 78, "coding": 69}),
        ]
    )
    needs = Needs(intent="coding", input_tokens=100)
    assert order(made, made.match("a/m"), needs) == ["a/m", "b/m", "e/cheap", "c/coder"]
    lesser = Needs(
        intent="coding",
        input_tokens=100,
        routing=override(Routing(), {"fallback": "lesser", "lesser_band": 3}),
    )
    assert order(made, made.match("a/m"), lesser) == ["a/m", "b/m", "e/cheap", "c/coder", "h/nearly"]
    told = made.explain(made.match("a/m"), needs, 0.0).as_dict()["excluded"]
    assert "coding 60.0 against 70.0" in told["d/writer"]
    assert "max_price_ratio" in told["f/dear"]
    assert told["g/riddle"] == "its quality is unknown"


def test_the_users_own_evaluation_is_shrunk_to_the_prior(deployment: Any, router: Any) -> None:
    assert shrink(60.0, 50, 80.0) == 70.0
    assert shrink(60.0, 0, 80.0) == 80.0
    own = {("n", "average"): (20.0, 10)}
    worlds = [deployment("a", "m", quality=80), deployment("b", "n", quality=85)]
    assert order(router(worlds), router(worlds).match("m")) == ["a/m", "b/n"]
    judged = router(worlds, evaluations=lambda name, category: own.get((name, category)))
    assert order(judged, judged.match("m")) == ["a/m"]


def test_embeddings_never_change_their_model(deployment: Any, router: Any) -> None:
    made = router(
        [
            deployment(host, model, card={"embedding": True})
            for host, model in (("a", "e"), ("b", "e"), ("c", "f"))
        ]
    )
    assert sorted(order(made, made.match("e"), Needs(operation="embeddings"))) == ["a/e", "b/e"]


@pytest.mark.parametrize(
    ("feature", "lacking"),
    [
        ("tools", {"tools": False}),
        ("images", {"vision": False}),
        ("reasoning", {"reasoning": False}),
        ("prefill", {"prefill": False}),
    ],
)
def test_capabilities_exclude_and_unknown_counts_as_able(
    feature: str, lacking: Any, deployment: Any, router: Any
) -> None:
    made = router([deployment("a", "m"), deployment("b", "m", **lacking), deployment("c", "n", quality=90)])
    needs = Needs(features=frozenset({feature}))
    assert sorted(order(made, made.match("m"), needs)) == ["a/m", "c/n"]
    # The one that was asked for in its own dialect is believed to know better than the catalog.
    assert order(made, made.match("b/m"), needs)[0] == "b/m"


def test_a_bare_name_does_not_land_on_a_dear_host(deployment: Any, router: Any) -> None:
    made = router([deployment("a", "m"), deployment("b", "m", price=(2000, 4000))])
    assert order(made, made.match("m")) == ["a/m"]
    assert order(made, made.match("b/m")) == ["b/m", "a/m"]


@pytest.mark.parametrize("asked", ["m", "a/m", "b/m"])
def test_hosts_are_compared_by_what_text_costs_there(asked: str) -> None:
    """Not by their dearest kind of token: who states a price for audio or caches is no dearer for it."""

    def host(**more: str) -> ProviderConfig:
        prices: Any = {"m": {"input": "1", "output": "4", **more}}
        return ProviderConfig(base_url="http://127.0.0.1:9/v1", api_key="none", prices=prices)

    providers = {
        "a": host(cache_write="1.25", cache_write_1h="9", input_audio="9"),
        "b": host(),
        "dear": host(input="1.5", output="6"),
    }
    config = Config(providers=providers, discover=False, store=StoreConfig(database="none"))
    told = Gateway(config, environ={}, dry=True).explain(asked, input_tokens=1000, max_output_tokens=100)
    prices = {row["deployment"]: row["price_usd"] for row in told["candidates"] if row["order"]}
    assert prices == {"a/m": "0.0014", "b/m": "0.0014"}
    assert "above max_price_ratio" in told["excluded"]["dear/m"]


def test_a_snapshot_without_a_price_has_alternatives(deployment: Any, router: Any) -> None:
    made = router(
        [
            deployment("a", "m"),
            deployment("b", "m", price=(1100, 2200)),
            deployment("a", "m-2025-08-07", name="m", price=None),
            deployment("b", "m-dear", name="m", price=(2000, 4000)),
            deployment("c", "m-2025-08-07", name="m", price=None),
        ]
    )
    assert sorted(order(made, made.match("a/m-2025-08-07"))) == ["a/m", "a/m-2025-08-07", "b/m"]
    assert order(made, made.match("c/m-2025-08-07")) == ["c/m-2025-08-07"], "nothing to compare with"


def test_overrides_are_checked() -> None:
    base = Routing()
    assert override(base, {"timeouts": {"stall_s": 2}}).timeouts.connect_s == 3.0
    for wrong in (
        {"max_atempts": 3},
        {"max_attempts": 0},
        {"timeouts": {"total_s": -1}},
        {"timeouts": 5},
        {"explore": 2},
    ):
        with pytest.raises(ValueError):
            override(base, wrong)


def test_routes_that_make_no_sense_are_refused_with_place_and_fix(world: Any, router: Any) -> None:
    models = {
        "good": ModelConfig(deployments=["openai/gpt-4.1"], fallbacks=["claude-sonnet-4-5"]),
        "typo": ModelConfig(deployments=["openai/gpt-4.2"]),
        "a": ModelConfig(deployments=["openai/gpt-4.1"], fallbacks=["b"]),
        "b": ModelConfig(deployments=["azure/gpt-4.1"], fallbacks=["a"]),
        "poor": ModelConfig(deployments=["openai/gpt-4.1"], routing={"max_cost_usd": "0.000001"}),
        "odd": ModelConfig(deployments=["openai/gpt-4.1"], routing={"max_attempts": -1}),
        "text": ModelConfig(deployments=["openai/gpt-4.1"], routing={"max_cost_usd": "cheap"}),
        "never": ModelConfig(
            deployments=["openai/gpt-4.1"], fallbacks=["good"], routing={"fallback": "none"}
        ),
        "twice": ModelConfig(deployments=["openai/gpt-4.1", "openai/gpt-4.1"]),
    }
    config = Config(models=models)
    found = {error.place: error for error in validate_routes(config, router(world, config))}
    assert set(found) == {
        "models.typo.deployments[0]",
        "models.a.fallbacks",
        "models.b.fallbacks",
        "models.poor.routing.max_cost_usd",
        "models.odd.routing",
        "models.text.routing",
        "models.never.fallbacks",
        "models.twice.deployments",
    }
    assert all(error.hint for error in found.values())
    assert "openai/gpt-4.1" in str(found["models.typo.deployments[0]"])
    assert "a -> b -> a" in str(found["models.a.fallbacks"])


def test_a_route_that_policy_empties_is_refused(world: Any, router: Any) -> None:
    config = Config(
        models={"x": ModelConfig(deployments=["openai/gpt-4.1"])}, policy=PolicyRules(no_training=True)
    )
    (error,) = validate_routes(config, router(world, config))
    assert "unknown" in str(error)


def test_nobody_left_is_not_a_failure_of_anybody(world: Any, router: Any) -> None:
    made = router(world)
    excluded = {deployment.id: "closed today" for deployment in made.deployments}
    end = made.plan(made.match("gpt-4.1"), Needs(excluded=excluded), 0.0).start()
    assert isinstance(end, GiveUp)
    assert end.failure is None
    assert end.excluded["openai/gpt-4.1"] == "closed today"


def test_what_a_key_may_use_binds_the_alternatives_that_are_found(world: Any, router: Any) -> None:
    made = router(world)
    route = made.match("openai/gpt-4.1")
    free = made.plan(route, Needs(), 0.0)
    free.start()
    found = {
        deployment.id
        for tier in free.pool.alternatives
        for deployment in (lane.deployment for lane in tier.lanes)
    }
    assert found, "there are alternatives to speak of"
    one = min(found)
    for allowed, left in (
        ((("nothing",),), set()),
        (((one,),), {one}),
        (((f"{one[:-1]}*", "x"), (one,)), {one}),
    ):
        pool = made.plan(route, Needs(allowed=allowed), 0.0).pool
        assert pool.named, "what was asked for was looked at when the caller was let in"
        assert {lane.deployment.id for tier in pool.alternatives for lane in tier.lanes} == left
        assert {pool.excluded[name] for name in found - left} == {"the key may not use this model"}
