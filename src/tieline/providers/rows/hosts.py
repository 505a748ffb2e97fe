"""Those who serve open models of others on hardware of their own."""

from __future__ import annotations

from tieline.dialects.base import Quirks
from tieline.providers.row import DataPolicy, Provider
from tieline.providers.rows.unread import NOT_FOUND, no_one_answer, not_at_hand

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
        policy=DataPolicy(
            trains=False,
            source="https://docs.together.ai/docs/zero-data-retention",
            date="2026-11-22",
            note="this page says that prompts are stored unless the organization turns it off, docs.together.ai/docs/privacy-and-security that they are not",
        ),
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
        policy=DataPolicy(
            retention_days=0,
            source="https://support.cerebras.net/articles/1811589793-does-cerebras-retain-my-data",
            date="2026-11-22",
            page_date="2025-07-11",
        ),
        docs="https://inference-docs.cerebras.ai/api-reference/chat-completions",
    ),
    Provider(
        name="sambanova",
        title="SambaNova Cloud",
        endpoints={"openai_chat": "https://api.sambanova.ai/v1"},
        env=("SAMBANOVA_API_KEY",),
        policy=NOT_FOUND,
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
        policy=no_one_answer(
            "https://forums.developer.nvidia.com/t/clarification-on-trial-api-use/334275",
            "staff point to the API trial terms, which were not at hand; a customer quotes them: content is not stored or used after a session, with exceptions",
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
        policy=no_one_answer(
            "https://docs.deepinfra.com/account/data-privacy",
            "nothing stored and nothing trained on, but for models of Google and Anthropic, which go to their makers",
        ),
        docs="https://docs.deepinfra.com",
    ),
    Provider(
        name="hyperbolic",
        title="Hyperbolic",
        endpoints={"openai_chat": "https://api.hyperbolic.xyz/v1"},
        env=("HYPERBOLIC_API_KEY",),
        policy=NOT_FOUND,
        docs="https://docs.hyperbolic.xyz/docs/rest-api",
    ),
    Provider(
        name="novita",
        title="Novita AI",
        endpoints={"openai_chat": "https://api.novita.ai/openai/v1"},
        env=("NOVITA_API_KEY",),
        policy=no_one_answer(
            "https://novita.ai/legal/privacy-policy",
            "excludes what is processed for API customers and refers to agreements with them",
            "2024-05-20",
        ),
        catalog="novita-ai",
        docs="https://novita.ai/docs/api-reference/model-apis-llm-create-chat-completion",
    ),
    Provider(
        name="siliconflow",
        title="SiliconFlow (international)",
        endpoints={"openai_chat": "https://api.siliconflow.com/v1"},
        env=("SILICONFLOW_API_KEY",),
        policy=NOT_FOUND,
        docs="https://docs.siliconflow.com/en/api-reference/chat-completions/chat-completions",
    ),
    Provider(
        name="siliconflow-cn",
        title="SiliconFlow (mainland China)",
        endpoints={"openai_chat": "https://api.siliconflow.cn/v1"},
        env=("SILICONFLOW_CN_API_KEY",),
        policy=no_one_answer(
            "https://docs.siliconflow.cn/en/legals/privacy-policy",
            "the part at hand speaks of accounts, not of API prompts",
            "2025-02-07",
        ),
        docs="https://docs.siliconflow.cn/cn/api-reference/chat-completions/chat-completions",
    ),
    Provider(
        name="baseten",
        title="Baseten Model APIs",
        endpoints={"openai_chat": "https://inference.baseten.co/v1"},
        env=("BASETEN_API_KEY",),
        policy=DataPolicy(
            retention_days=0, source="https://docs.baseten.co/observability/security", date="2026-11-22"
        ),
        docs="https://docs.baseten.co/inference/model-apis/overview",
    ),
    Provider(
        name="chutes",
        title="Chutes",
        endpoints={"openai_chat": "https://llm.chutes.ai/v1"},
        env=("CHUTES_API_KEY",),
        policy=NOT_FOUND,
        docs="https://chutes.ai/docs",
    ),
    Provider(
        name="friendli",
        title="FriendliAI",
        endpoints={"openai_chat": "https://api.friendli.ai/serverless/v1"},
        env=("FRIENDLI_TOKEN",),
        policy=NOT_FOUND,
        docs="https://friendli.ai/docs/openapi/serverless/chat-completions",
    ),
    Provider(
        name="wandb",
        title="W&B Inference",
        endpoints={"openai_chat": "https://api.inference.wandb.ai/v1"},
        # Not WANDB_API_KEY, which is set for experiment tracking: name it as api_key to use it.
        env=("WANDB_INFERENCE_API_KEY",),
        policy=NOT_FOUND,
        docs="https://docs.wandb.ai/inference",
    ),
    Provider(
        name="venice",
        title="Venice AI",
        endpoints={"openai_chat": "https://api.venice.ai/api/v1"},
        env=("VENICE_API_KEY",),
        policy=no_one_answer(
            "https://docs.venice.ai/overview/privacy",
            "Venice stores nothing; models that it marks as anonymized go to other providers under their terms",
        ),
        docs="https://docs.venice.ai/api-reference/api-spec",
    ),
    Provider(
        name="io-net",
        title="io.net Intelligence",
        endpoints={"openai_chat": "https://api.intelligence.io.solutions/api/v1"},
        env=("IOINTELLIGENCE_API_KEY",),
        policy=not_at_hand(
            "looked for a privacy policy, terms and a data page: only the API's guides were at hand"
        ),
        docs="https://docs.io.net/reference",
    ),
    Provider(
        name="nearai",
        title="NEAR AI Cloud",
        endpoints={"openai_chat": "https://cloud-api.near.ai/v1"},
        env=("NEARAI_API_KEY",),
        policy=no_one_answer(
            "https://docs.near.ai/cloud/private-inference/",
            "its own models run where the operator cannot read them; the page speaks neither of retention nor of training",
        ),
        docs="https://docs.near.ai",
    ),
    Provider(
        name="inference-net",
        title="Inference.net",
        endpoints={"openai_chat": "https://api.inference.net/v1"},
        env=("INFERENCE_API_KEY",),
        policy=DataPolicy(
            trains=False,
            source="https://docs.inference.net/reference/security-and-data-retention",
            date="2026-11-22",
            note="by default; retention depends on the path and the project's settings",
        ),
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
        policy=NOT_FOUND,
        docs="https://docs.gmicloud.ai",
    ),
    Provider(
        name="berget",
        title="Berget AI",
        endpoints={"openai_chat": "https://api.berget.ai/v1"},
        env=("BERGET_API_KEY",),
        policy=NOT_FOUND,
        docs="https://api.berget.ai/docs",
    ),
    Provider(
        name="evroc",
        title="evroc Think",
        endpoints={"openai_chat": "https://models.think.evroc.com/v1"},
        env=("EVROC_API_KEY",),
        policy=no_one_answer(
            "https://evroc.com/legal/privacy-notice", "excludes what is processed for customers", "2026-06-05"
        ),
        docs="https://docs.evroc.com",
    ),
    Provider(
        name="regolo",
        title="Regolo AI",
        endpoints={"openai_chat": "https://api.regolo.ai/v1"},
        env=("REGOLO_API_KEY",),
        policy=DataPolicy(
            jurisdictions=("EU",),
            retention_days=0,
            source="https://regolo.ai/how-to-implement-gdpr-compliant-ai-inference-a-pragmatic-framework/",
            date="2026-11-22",
        ),
        catalog="regolo-ai",
        docs="https://docs.regolo.ai",
    ),
    Provider(
        name="ollama-cloud",
        title="Ollama Cloud",
        endpoints={"openai_chat": "https://ollama.com/v1"},
        env=("OLLAMA_API_KEY",),
        quirks=Quirks(one_limit=True, reasoning_field="reasoning"),
        policy=DataPolicy(
            retention_days=0, trains=False, source="https://docs.ollama.com/faq", date="2026-11-22"
        ),
        docs="https://docs.ollama.com/cloud",
    ),
    Provider(
        name="modelscope",
        title="ModelScope",
        endpoints={"openai_chat": "https://api-inference.modelscope.cn/v1"},
        env=("MODELSCOPE_API_KEY",),
        policy=not_at_hand(
            "looked for the service's terms and a data page: only guides of others were at hand; it is free and meant for trying models"
        ),
        docs="https://www.modelscope.cn/docs/model-service/API-Inference/intro",
    ),
    Provider(
        name="morph",
        title="Morph",
        endpoints={"openai_chat": "https://api.morphllm.com/v1"},
        env=("MORPH_API_KEY",),
        policy=no_one_answer(
            "https://morphllm.com/privacy",
            "zero retention is an option, so not the rule; the part at hand does not say how long the rest is kept, nor what is trained on",
            "2025-07-18",
        ),
        docs="https://docs.morphllm.com",
    ),
)
