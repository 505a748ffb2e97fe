"""Those who pass requests on to hosts of their choice. What becomes of a prompt depends on that host, so none has a policy."""

from __future__ import annotations

from tieline.dialects.base import Quirks
from tieline.providers.row import Provider
from tieline.providers.rows.unread import PASSES_ON, no_one_answer

ROWS: tuple[Provider, ...] = (
    Provider(
        name="openrouter",
        title="OpenRouter",
        endpoints={
            "openai_chat": "https://openrouter.ai/api/v1",
            "anthropic_messages": "https://openrouter.ai/api",
        },
        env=("OPENROUTER_API_KEY",),
        quirks=Quirks(reasoning_field="reasoning", replay_reasoning=True, cache_marks=True),
        edge="cloudflare",
        policy=PASSES_ON,
        docs="https://openrouter.ai/docs/api-reference/overview",
    ),
    Provider(
        name="vercel",
        title="Vercel AI Gateway",
        endpoints={"openai_chat": "https://ai-gateway.vercel.sh/v1"},
        env=(
            "AI_GATEWAY_API_KEY",
            "VERCEL_AI_GATEWAY_API_KEY",
        ),
        policy=PASSES_ON,
        docs="https://vercel.com/docs/ai-gateway/openai-compat",
    ),
    Provider(
        name="huggingface",
        title="Hugging Face Inference Providers",
        endpoints={"openai_chat": "https://router.huggingface.co/v1"},
        env=(
            "HF_TOKEN",
            "HUGGINGFACE_API_KEY",
        ),
        policy=no_one_answer(
            "https://huggingface.co/docs/inference-providers/security",
            "Hugging Face stores no request and no answer; the provider behind it has terms of its own",
        ),
        docs="https://huggingface.co/docs/inference-providers/index",
    ),
    Provider(
        name="poe",
        title="Poe",
        endpoints={"openai_chat": "https://api.poe.com/v1"},
        env=("POE_API_KEY",),
        policy=PASSES_ON,
        docs="https://creator.poe.com/docs/external-applications/openai-compatible-api",
    ),
    Provider(
        name="requesty",
        title="Requesty",
        endpoints={"openai_chat": "https://router.requesty.ai/v1"},
        env=("REQUESTY_API_KEY",),
        policy=PASSES_ON,
        docs="https://docs.requesty.ai",
    ),
    Provider(
        name="nano-gpt",
        title="NanoGPT",
        endpoints={"openai_chat": "https://nano-gpt.com/api/v1"},
        env=(
            "NANO_GPT_API_KEY",
            "NANOGPT_API_KEY",
        ),
        policy=PASSES_ON,
        docs="https://docs.nano-gpt.com",
    ),
    Provider(
        name="kilo",
        title="Kilo Gateway",
        endpoints={"openai_chat": "https://api.kilo.ai/api/gateway"},
        env=("KILO_API_KEY",),
        policy=PASSES_ON,
        docs="https://kilo.ai/docs/gateway",
    ),
    Provider(
        name="llmgateway",
        title="LLM Gateway",
        endpoints={"openai_chat": "https://api.llmgateway.io/v1"},
        env=(
            "LLMGATEWAY_API_KEY",
            "LLM_GATEWAY_API_KEY",
        ),
        policy=PASSES_ON,
        docs="https://docs.llmgateway.io",
    ),
    Provider(
        name="helicone",
        title="Helicone AI Gateway",
        endpoints={"openai_chat": "https://ai-gateway.helicone.ai/v1"},
        env=("HELICONE_API_KEY",),
        policy=PASSES_ON,
        docs="https://docs.helicone.ai/gateway/overview",
    ),
    Provider(
        name="zenmux",
        title="ZenMux",
        endpoints={"openai_chat": "https://zenmux.ai/api/v1"},
        env=("ZENMUX_API_KEY",),
        policy=PASSES_ON,
        docs="https://docs.zenmux.ai",
    ),
    Provider(
        name="aihubmix",
        title="AIHubMix",
        endpoints={"openai_chat": "https://aihubmix.com/v1"},
        env=("AIHUBMIX_API_KEY",),
        policy=PASSES_ON,
        docs="https://docs.aihubmix.com",
    ),
    Provider(
        name="302ai",
        title="302.AI",
        endpoints={"openai_chat": "https://api.302.ai/v1"},
        env=("302AI_API_KEY",),
        policy=PASSES_ON,
        docs="https://doc.302.ai",
    ),
    Provider(
        name="cortecs",
        title="Cortecs",
        endpoints={"openai_chat": "https://api.cortecs.ai/v1"},
        env=("CORTECS_API_KEY",),
        policy=PASSES_ON,
        docs="https://docs.cortecs.ai",
    ),
    Provider(
        name="synthetic",
        title="Synthetic",
        endpoints={"openai_chat": "https://api.synthetic.new/openai/v1"},
        env=("SYNTHETIC_API_KEY",),
        policy=PASSES_ON,
        docs="https://dev.synthetic.new/docs/api/overview",
    ),
    Provider(
        name="opencode",
        title="OpenCode Zen",
        endpoints={"openai_chat": "https://opencode.ai/zen/v1"},
        env=("OPENCODE_API_KEY",),
        edge="cloudflare",
        policy=PASSES_ON,
        docs="https://opencode.ai/docs/zen",
    ),
    Provider(
        name="fastrouter",
        title="FastRouter",
        endpoints={"openai_chat": "https://go.fastrouter.ai/api/v1"},
        env=("FASTROUTER_API_KEY",),
        policy=PASSES_ON,
        docs="https://docs.fastrouter.ai",
    ),
)
