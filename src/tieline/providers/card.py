"""What the catalog knows of a model at a provider."""

from __future__ import annotations

from msgspec import Struct, field

from tieline.types.money import Pico


class PriceTier(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Prices in pico-dollars per token; None: not stated (then the plain input or output price applies, but for generated images
    and for cached audio where audio has a price)."""

    input: Pico
    output: Pico
    cache_read: Pico | None = None
    cache_read_audio: Pico | None = None
    cache_write_5m: Pico | None = None
    cache_write_1h: Pico | None = None
    input_audio: Pico | None = None
    output_audio: Pico | None = None
    output_image: Pico | None = None
    input_image: Pico | None = None
    above_input_tokens: int = 0
    """The tier holds for requests with more input tokens than this, for the whole request (WIRE_FACTS 31)."""


class OffPeak(Struct, frozen=True, array_like=True):
    """A span of the day at another price, in the zone of the price that it belongs to."""

    start: int
    """Minute of the day, the first inside."""
    end: int
    """Minute of the day, the first outside; not after ``start``: on the next day."""
    percent: int
    days: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)
    """On which days it begins, 0 = Monday."""


class Price(Struct, frozen=True, kw_only=True, omit_defaults=True):
    tiers: tuple[PriceTier, ...]
    """Ascending by ``above_input_tokens``; the first starts at 0."""
    per_request: Pico = 0
    web_search: Pico | None = None
    """For each; None: not known, or not by the call."""
    file_search: Pico | None = None
    batch_percent: int | None = None
    priority_percent: int | None = None
    flex_percent: int | None = None
    fast_percent: int | None = None
    us_percent: int | None = None
    """Of tokens that were only processed in the United States."""
    off_peak: tuple[OffPeak, ...] = ()
    """Outside them the tiers hold as they are; where two overlap, the dearer."""
    zone_minutes: int = 0
    """East of UTC, for ``off_peak``. No price list's zone has summer time."""
    source: str = ""
    date: str = ""


class ModelCard(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """None is unknown throughout; unknown is allowed where a capability is asked, refused under a ceiling or policy."""

    id: str
    """The upstream's id at this provider."""
    provider: str
    name: str
    """The model whatever the host: the same weights have the same name everywhere (`llama-3.3-70b-instruct`)."""
    title: str = ""
    family: str | None = None
    context: int | None = None
    """Tokens, input and output together unless ``max_input`` says otherwise."""
    max_input: int | None = None
    max_output: int | None = None
    input_modalities: tuple[str, ...] | None = None
    """text, image, pdf, audio, video"""
    output_modalities: tuple[str, ...] | None = None
    tools: bool | None = None
    structured_output: bool | None = None
    reasoning: bool | None = None
    temperature: bool | None = None
    prefill: bool | None = None
    adaptive_thinking: bool | None = None
    embedding: bool | None = False
    """Whether it makes embeddings and nothing else."""
    status: str = "active"
    """active | beta | deprecated | gone"""
    released: str | None = None
    price: Price | None = None
    quality: dict[str, float] = field(default_factory=dict)
    """Category -> 0..100, with ``average``; empty: unknown."""
    quality_source: str | None = None
    source: str = ""
    date: str = ""
