"""Which of two equals serves: the quicker one, in streams and in whole answers alike."""

from __future__ import annotations

from collections import Counter

import pytest
from msgspec.structs import replace

from tieline.config.schema import ModelConfig
from tieline.drills import clock
from tieline.drills.caller import Ask
from tieline.drills.fleet import fleet
from tieline.drills.stage import Stage
from tieline.simulator.schedule import Phase, Schedule


@pytest.mark.parametrize("stream", [True, False])
def test_the_quicker_of_two_equals_serves_most(stream: bool) -> None:
    async def run() -> list[str | None]:
        def made(url: str):  # type: ignore[no-untyped-def]
            both = ModelConfig(deployments=["alpha/gpt-sim", "beta/gpt-sim"])
            return replace(fleet(url, "alpha/gpt-sim", "beta/gpt-sim"), models={"m": both})

        slow = Phase(at_s=0, for_s=1e6, provider="alpha", add_ms=2_000)
        async with Stage(made, schedule=Schedule(phases=[slow])) as stage:
            served = []
            for _ in range(100):
                heard = await stage.caller.ask(Ask(model="m", stream=stream))
                assert heard.ok
                served.append(stage.records[heard.request_id].provider)
            return served

    served = clock.run(run, 60.0)
    count = Counter(served[20:])
    assert count["beta"] >= 70, count
