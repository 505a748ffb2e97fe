"""Those who serve open models of others on hardware of their own."""

from __future__ import annotations

from tieline.dialects.base import Quirks
from tieline.providers.row import DataPolicy, Provider

ROWS: tuple[Provider, ...] = (
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
        policy=DataPolicy(
            retention_days=30, source="https://console.groq.com/docs/your-data", date="2026-11-21"
        ),
        docs="https://console.groq.com/docs/openai",
    ),
    Provider(
        name="together",
        title="Together AI",
        endpoints={"openai_chat": "https://api.together.xyz/v1"},
        env=(
            "TOGETHER_API_KEY",
            "TOGETHERAI_API_KEY",
        ),
        quirks=Quirks(reasoning_field="reasoning", completions="."),
        edge="cloudflare",
        catalog="togetherai",
        docs="https://docs.together.ai/docs/openai-api-compatibility",
    ),
    Provider(
        name="fireworks",
        title="Fireworks AI",
        endpoints={"openai_chat": "https://api.fireworks.ai/inference/v1"},
        env=(
            "FIREWORKS_API_KEY",
            "FIREWORKS_AI_API_KEY",
        ),
        policy=DataPolicy(
            retention_days=0,
            source="https://docs.fireworks.ai/guides/security_compliance/data_handling",
            date="2026-11-21",
        ),
        quirks=Quirks(completions="."),
        catalog="fireworks-ai",
        docs="https://docs.fireworks.ai/api-reference/post-chatcompletions",
    ),
    Provider(
        name="cerebras",
        title="Cerebras",
        endpoints={"openai_chat": "https://api.cerebras.ai/v1"},
        env=("CEREBRAS_API_KEY",),
        quirks=Quirks(
            max_tokens_field="max_completion_tokens",
            reasoning_field="reasoning",
            rejects=("frequency_penalty", "presence_penalty", "logit_bias"),
        ),
        edge="cloudflare",
        docs="https://inference-docs.cerebras.ai/api-reference/chat-completions",
    ),
    Provider(
        name="sambanova",
        title="SambaNova Cloud",
        endpoints={"openai_chat": "https://api.sambanova.ai/v1"},
        env=("SAMBANOVA_API_KEY",),
        docs="https://docs.sambanova.ai/docs/en/api-reference/overview",
    ),
    Provider(
        name="nvidia",
        title="NVIDIA API Catalog",
        endpoints={"openai_chat": "https://integrate.api.nvidia.com/v1"},
        env=(
            "NVIDIA_API_KEY",
            "NVIDIA_NIM_API_KEY",
        ),
        docs="https://docs.api.nvidia.com/nim/reference/llm-apis",
    ),
    Provider(
        name="deepinfra",
        title="DeepInfra",
        endpoints={"openai_chat": "https://api.deepinfra.com/v1/openai"},
        env=(
            "DEEPINFRA_API_KEY",
            "DEEPINFRA_TOKEN",
        ),
        # Nothing is stored but for Google and Anthropic models (docs.deepinfra.com/account/data-privacy): no one answer.
        docs="https://docs.deepinfra.com",
    ),
    Provider(
        name="hyperbolic",
        title="Hyperbolic",
        endpoints={"openai_chat": "https://api.hyperbolic.xyz/v1"},
        env=("HYPERBOLIC_API_KEY",),
        docs="https://docs.hyperbolic.xyz/docs/rest-api",
    ),
    Provider(
        name="novita",
        title="Novita AI",
        endpoints={"openai_chat": "https://api.novita.ai/openai/v1"},
        env=("NOVITA_API_KEY",),
        catalog="novita-ai",
        docs="https://novita.ai/docs/api-reference/model-apis-llm-create-chat-completion",
    ),
    Provider(
        name="siliconflow",
        title="SiliconFlow (international)",
        endpoints={"openai_chat": "https://api.siliconflow.com/v1"},
        env=("SILICONFLOW_API_KEY",),
        docs="https://docs.siliconflow.com/en/api-reference/chat-completions/chat-completions",
    ),
    Provider(
        name="siliconflow-cn",
        title="SiliconFlow (mainland China)",
        endpoints={"openai_chat": "https://api.siliconflow.cn/v1"},
        env=("SILICONFLOW_CN_API_KEY",),
        docs="https://docs.siliconflow.cn/cn/api-reference/chat-completions/chat-completions",
    ),
    Provider(
        name="baseten",
        title="Baseten Model APIs",
        endpoints={"openai_chat": "https://inference.baseten.co/v1"},
        env=("BASETEN_API_KEY",),
        docs="https://docs.baseten.co/inference/model-apis/overview",
    ),
    Provider(
        name="chutes",
        title="Chutes",
        endpoints={"openai_chat": "https://llm.chutes.ai/v1"},
        env=("CHUTES_API_KEY",),
        docs="https://chutes.ai/docs",
    ),
    Provider(
        name="friendli",
        title="FriendliAI",
        endpoints={"openai_chat": "https://api.friendli.ai/serverless/v1"},
        env=("FRIENDLI_TOKEN",),
        docs="https://friendli.ai/docs/openapi/serverless/chat-completions",
    ),
    Provider(
        name="wandb",
        title="W&B Inference",
        endpoints={"openai_chat": "https://api.inference.wandb.ai/v1"},
        # Not WANDB_API_KEY, which is set for experiment tracking: name it as api_key to use it.
        env=("WANDB_INFERENCE_API_KEY",),
        docs="https://docs.wandb.ai/inference",
    ),
    Provider(
        name="venice",
        title="Venice AI",
        endpoints={"openai_chat": "https://api.venice.ai/api/v1"},
        env=("VENICE_API_KEY",),
        docs="https://docs.venice.ai/api-reference/api-spec",
    ),
    Provider(
        name="io-net",
        title="io.net Intelligence",
        endpoints={"openai_chat": "https://api.intelligence.io.solutions/api/v1"},
        env=("IOINTELLIGENCE_API_KEY",),
        docs="https://docs.io.net/reference",
    ),
    Provider(
        name="nearai",
        title="NEAR AI Cloud",
        endpoints={"openai_chat": "https://cloud-api.near.ai/v1"},
        env=("NEARAI_API_KEY",),
        docs="https://docs.near.ai",
    ),
    Provider(
        name="inference-net",
        title="Inference.net",
        endpoints={"openai_chat": "https://api.inference.net/v1"},
        env=("INFERENCE_API_KEY",),
        catalog="inference",
        docs="https://docs.inference.net",
    ),
    Provider(
        name="gmicloud",
        title="GMI Cloud",
        endpoints={"openai_chat": "https://api.gmi-serving.com/v1"},
        env=(
            "GMICLOUD_API_KEY",
            "GMI_API_KEY",
        ),
        docs="https://docs.gmicloud.ai",
    ),
    Provider(
        name="berget",
        title="Berget AI",
        endpoints={"openai_chat": "https://api.berget.ai/v1"},
        env=("BERGET_API_KEY",),
        docs="https://api.berget.ai/docs",
    ),
    Provider(
        name="evroc",
        title="evroc Think",
        endpoints={"openai_chat": "https://models.think.evroc.com/v1"},
        env=("EVROC_API_KEY",),
        docs="https://docs.evroc.com",
    ),
    Provider(
        name="regolo",
        title="Regolo AI",
        endpoints={"openai_chat": "https://api.regolo.ai/v1"},
        env=("REGOLO_API_KEY",),
        catalog="regolo-ai",
        docs="https://docs.regolo.ai",
    ),
    Provider(
        name="ollama-cloud",
        title="Ollama Cloud",
        endpoints={"openai_chat": "https://ollama.com/v1"},
        env=("OLLAMA_API_KEY",),
        quirks=Quirks(reasoning_field="reasoning"),
        docs="https://docs.ollama.com/cloud",
    ),
    Provider(
        name="modelscope",
        title="ModelScope",
        endpoints={"openai_chat": "https://api-inference.modelscope.cn/v1"},
        env=("MODELSCOPE_API_KEY",),
        docs="https://www.modelscope.cn/docs/model-service/API-Inference/intro",
    ),
    Provider(
        name="morph",
        title="Morph",
        endpoints={"openai_chat": "https://api.morphllm.com/v1"},
        env=("MORPH_API_KEY",),
        docs="https://docs.morphllm.com",
    ),
)
