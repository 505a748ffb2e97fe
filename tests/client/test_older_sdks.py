"""The SDKs from before httpx2 (openai 2, anthropic 0.x), which the agent frameworks ask for: bound to the pipeline all the same."""

from __future__ import annotations

import json
import subprocess
import sysconfig
from pathlib import Path

from tests.agents.environments import PYTHON
from tests.agents.test_agents import absent
from tests.programs import ROOT, environment
from tieline.simulator import SimulatorServer

SCRIPT = """
import asyncio, json, sys
from pathlib import Path
url, folder, ours = sys.argv[1:]
sys.path.append(ours)  # what Tieline needs; the SDKs are this environment's

import anthropic, openai, httpx
from langchain_openai import ChatOpenAI
from tests.client.conftest import MODELS
from tests.served import configuration
from tieline import AsyncTieline, Tieline

HELLO = [{"role": "user", "content": "Hello"}]
seen = {"versions": [openai.__version__, anthropic.__version__]}


def raised(call):
    try:
        call()
    except Exception as error:
        return [type(error).__name__, getattr(error, "status_code", None)]


def gpt(client):
    whole = client.chat.completions.create(model="demo", messages=HELLO).choices[0].message.content
    chunks = client.chat.completions.create(model="demo", messages=HELLO, stream=True)
    next(iter(client.chat.completions.create(model="slow", messages=HELLO, stream=True)))
    hasty = client.with_options(timeout=0.3)
    return [
        whole == "".join(one.choices[0].delta.content or "" for one in chunks if one.choices),
        raised(lambda: client.chat.completions.create(model="nonsense", messages=HELLO)),
        raised(lambda: client.chat.completions.create(model="down", messages=HELLO)),
        raised(lambda: hasty.chat.completions.create(model="late", messages=HELLO)),
    ]


def claude(client):
    whole = client.messages.create(model="demo", max_tokens=20, messages=HELLO).content[0].text
    with client.messages.stream(model="demo", max_tokens=20, messages=HELLO) as stream:
        return whole == "".join(stream.text_stream)


async def on_a_loop(made):
    async with made.async_openai() as gpt, made.async_anthropic() as claude:
        whole = (await gpt.chat.completions.create(model="demo", messages=HELLO)).choices[0].message.content
        stream = await gpt.chat.completions.create(model="demo", messages=HELLO, stream=True)
        pieces = [one.choices[0].delta.content or "" async for one in stream if one.choices]
        message = await claude.messages.create(model="demo", max_tokens=20, messages=HELLO)
        return [whole == "".join(pieces), bool(message.content[0].text)]


async def own_loop():
    async with AsyncTieline(config, environ={}) as line:
        return await on_a_loop(line)


config = configuration(url, Path(folder), MODELS)
with Tieline(config, environ={}) as line:
    seen["openai"] = gpt(line.openai())
    seen["anthropic"] = claude(line.anthropic())
    seen["bridge"] = asyncio.run(on_a_loop(line))
    http = line.openai()._client
    model = ChatOpenAI(model="demo", api_key="none", base_url="http://tieline.in-process/v1", http_client=http)
    seen["langchain"] = bool(model.invoke("Hello").content)
seen["loop"] = asyncio.run(own_loop())
print(json.dumps(seen))
"""


def test_older_sdks(simulator: SimulatorServer, tmp_path: Path) -> None:
    interpreter = PYTHON.find() or absent(f"older SDKs, as there is no {PYTHON.home}")
    done = subprocess.run(
        [str(interpreter), "-c", SCRIPT, simulator.url, str(tmp_path), sysconfig.get_path("purelib")],
        env=environment(PYTHONPATH=f"{ROOT / 'src'}:{ROOT}", PYTHONWARNINGS="default"),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout)
    gpt, claude = seen.pop("versions")
    assert (gpt[:2], claude[:2]) == ("2.", "0."), "the frameworks moved on; so may this"
    assert seen == {
        "openai": [True, ["NotFoundError", 404], ["InternalServerError", 502], ["APITimeoutError", None]],
        "anthropic": True,
        "bridge": [True, True],
        "langchain": True,
        "loop": [True, True],
    }
