"""Every host we know, one row each. Facts about a vendor's wire are in its dialect; about a host, here."""

from __future__ import annotations

from tieline.dialects.base import Quirks
from tieline.providers.row import DataPolicy, Provider

LOCAL = DataPolicy(jurisdictions=("local",), retention_days=0, trains=False)
"""The user's own machine: true by construction, so no source is needed."""

ROWS: tuple[Provider, ...] = (
    Provider(
        name="openai",
        title="OpenAI",
        endpoints={
            "openai_chat": "https://api.openai.com/v1",
            "openai_responses": "https://api.openai.com/v1",
        },
        env=("OPENAI_API_KEY",),
        base_url_env="OPENAI_BASE_URL",
        quirks=Quirks(max_tokens_field="max_completion_tokens", developer_role=True),
        edge="cloudflare",
        docs="https://platform.openai.com/docs/api-reference",
    ),
    Provider(
        name="anthropic",
        title="Anthropic",
        endpoints={"anthropic_messages": "https://api.anthropic.com"},
        env=("ANTHROPIC_API_KEY",),
        auth="x-api-key",
        base_url_env="ANTHROPIC_BASE_URL",
        quirks=Quirks(tool_id_pattern=r"^[a-zA-Z0-9_-]+$"),
        edge="cloudflare",
        docs="https://docs.claude.com/en/api/overview",
    ),
    Provider(
        name="deepseek",
        title="DeepSeek",
        endpoints={
            "openai_chat": "https://api.deepseek.com/v1",
            "anthropic_messages": "https://api.deepseek.com/anthropic",
        },
        env=("DEEPSEEK_API_KEY",),
        quirks=Quirks(json_schema=False, replay_reasoning=True),
        docs="https://api-docs.deepseek.com",
    ),
    Provider(
        name="qwen",
        title="Qwen (DashScope international)",
        endpoints={"openai_chat": "https://dashscope-intl.aliyuncs.com/compatible-mode/v1"},
        env=("DASHSCOPE_API_KEY", "QWEN_API_KEY"),
        edge="alibaba",
        catalog="alibaba",
        docs="https://www.alibabacloud.com/help/en/model-studio/",
    ),
    Provider(
        name="qwen-cn",
        title="Qwen (DashScope mainland China)",
        endpoints={"openai_chat": "https://dashscope.aliyuncs.com/compatible-mode/v1"},
        env=("DASHSCOPE_CN_API_KEY",),
        edge="alibaba",
        catalog="alibaba-cn",
        docs="https://help.aliyun.com/zh/model-studio/",
    ),
    Provider(
        name="mistral",
        title="Mistral AI",
        endpoints={"openai_chat": "https://api.mistral.ai/v1"},
        env=("MISTRAL_API_KEY",),
        quirks=Quirks(
            required_word="any",
            seed_field="random_seed",
            tool_id_pattern=r"^[a-zA-Z0-9]{9}$",
            rejects=("logit_bias", "logprobs", "top_logprobs", "user"),
        ),
        docs="https://docs.mistral.ai/api",
    ),
    Provider(
        name="xai",
        title="xAI",
        endpoints={"openai_chat": "https://api.x.ai/v1", "openai_responses": "https://api.x.ai/v1"},
        env=("XAI_API_KEY",),
        edge="cloudflare",
        docs="https://docs.x.ai/docs/api-reference",
    ),
    Provider(
        name="groq",
        title="Groq",
        endpoints={"openai_chat": "https://api.groq.com/openai/v1"},
        env=("GROQ_API_KEY",),
        quirks=Quirks(
            max_tokens_field="max_completion_tokens",
            reasoning_field="reasoning",
            rejects=("logprobs", "logit_bias", "top_logprobs"),
        ),
        edge="cloudflare",
        docs="https://console.groq.com/docs/openai",
    ),
    Provider(
        name="together",
        title="Together AI",
        endpoints={"openai_chat": "https://api.together.xyz/v1"},
        env=("TOGETHER_API_KEY", "TOGETHERAI_API_KEY"),
        quirks=Quirks(reasoning_field="reasoning"),
        edge="cloudflare",
        catalog="togetherai",
        docs="https://docs.together.ai/docs/openai-api-compatibility",
    ),
    Provider(
        name="openrouter",
        title="OpenRouter",
        endpoints={"openai_chat": "https://openrouter.ai/api/v1"},
        env=("OPENROUTER_API_KEY",),
        quirks=Quirks(reasoning_field="reasoning"),
        edge="cloudflare",
        docs="https://openrouter.ai/docs/api-reference/overview",
    ),
    Provider(
        name="ollama",
        title="Ollama",
        endpoints={"openai_chat": "http://127.0.0.1:11434/v1"},
        auth="none",
        base_url_env="OLLAMA_HOST",
        quirks=Quirks(reasoning_field="reasoning"),
        policy=LOCAL,
        docs="https://docs.ollama.com/api/openai-compatibility",
    ),
    Provider(
        name="vllm",
        title="vLLM",
        endpoints={"openai_chat": "http://127.0.0.1:8000/v1"},
        env=("VLLM_API_KEY",),
        auth="none",
        base_url_env="VLLM_BASE_URL",
        policy=LOCAL,
        docs="https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html",
    ),
    Provider(
        name="llamacpp",
        title="llama.cpp server",
        endpoints={"openai_chat": "http://127.0.0.1:8080/v1"},
        env=("LLAMA_API_KEY",),
        auth="none",
        base_url_env="LLAMACPP_BASE_URL",
        policy=LOCAL,
        docs="https://github.com/ggml-org/llama.cpp/tree/master/tools/server",
    ),
)
