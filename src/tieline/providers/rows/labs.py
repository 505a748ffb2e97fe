"""Those who make models and serve them.

None takes its address from OPENAI_BASE_URL, ANTHROPIC_BASE_URL and the like: those point applications at *us*, and a
gateway started from the same shell would call itself.
"""

from __future__ import annotations

from tieline.dialects.base import Quirks
from tieline.providers.row import DataPolicy, Provider
from tieline.providers.rows.unread import LOOKED, NOT_FOUND, no_one_answer, not_at_hand

ROWS: tuple[Provider, ...] = (
    Provider(
        name="openai",
        title="OpenAI",
        endpoints={
            "openai_chat": "https://api.openai.com/v1",
            "openai_responses": "https://api.openai.com/v1",
        },
        env=("OPENAI_API_KEY",),
        # Completions is for the models made for it: https://platform.openai.com/docs/api-reference/completions
        quirks=Quirks(
            max_tokens_field="max_completion_tokens",
            one_limit=True,
            developer_role=True,
            tool_id_pattern=r"^.{1,40}$",
            completions=r"-instruct|^(davinci|babbage)-",
        ),
        edge="cloudflare",
        policy=DataPolicy(
            retention_days=30,
            trains=False,
            source="https://developers.openai.com/api/docs/guides/your-data",
            date="2026-11-21",
        ),
        docs="https://platform.openai.com/docs/api-reference",
    ),
    Provider(
        name="anthropic",
        title="Anthropic",
        endpoints={"anthropic_messages": "https://api.anthropic.com"},
        env=("ANTHROPIC_API_KEY",),
        auth="x-api-key",
        quirks=Quirks(tool_id_pattern=r"^[a-zA-Z0-9_-]+$"),
        edge="cloudflare",
        policy=DataPolicy(
            trains=False,
            source="https://platform.claude.com/docs/build-with-claude/api-and-data-retention",
            date="2026-11-21",
        ),
        docs="https://platform.claude.com/docs/en/api/overview",
    ),
    Provider(
        name="google",
        title="Google AI Studio",
        endpoints={"gemini": "https://generativelanguage.googleapis.com"},
        env=("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GENERATIVE_AI_API_KEY"),
        auth="x-goog-api-key",
        edge="gcp",
        policy=no_one_answer(
            "https://ai.google.dev/gemini-api/terms",
            "paid use is not trained on, free use is: the key does not tell which it is",
        ),
        docs="https://ai.google.dev/api",
    ),
    Provider(
        name="deepseek",
        title="DeepSeek",
        endpoints={
            "openai_chat": "https://api.deepseek.com/v1",
            "anthropic_messages": "https://api.deepseek.com/anthropic",
        },
        env=("DEEPSEEK_API_KEY",),
        quirks=Quirks(one_limit=True, json_schema=False, replay_reasoning=True),
        policy=DataPolicy(
            date=LOOKED,
            note="the privacy policy itself was not at hand; others report that API content may be trained on and that an opt-out exists",
        ),
        docs="https://api-docs.deepseek.com",
    ),
    Provider(
        name="qwen",
        title="Qwen (DashScope international)",
        endpoints={"openai_chat": "https://dashscope-intl.aliyuncs.com/compatible-mode/v1"},
        env=("DASHSCOPE_API_KEY", "QWEN_API_KEY"),
        edge="alibaba",
        policy=no_one_answer(
            "https://www.alibabacloud.com/help/en/model-studio/regions",
            "stored in Singapore, computed anywhere outside mainland China",
            "2026-03-25",
        ),
        catalog="alibaba",
        docs="https://www.alibabacloud.com/help/en/model-studio/",
    ),
    Provider(
        name="qwen-cn",
        title="Qwen (DashScope mainland China)",
        endpoints={"openai_chat": "https://dashscope.aliyuncs.com/compatible-mode/v1"},
        # DASHSCOPE_API_KEY is either region's; taken for the international one, so that a key is not tried in both.
        env=("DASHSCOPE_CN_API_KEY",),
        edge="alibaba-cn",
        policy=DataPolicy(
            jurisdictions=("CN",),
            source="https://www.alibabacloud.com/help/en/model-studio/regions",
            date="2026-11-22",
            page_date="2026-03-25",
            note="the page speaks of place only",
        ),
        catalog="alibaba-cn",
        docs="https://help.aliyun.com/zh/model-studio/",
    ),
    Provider(
        name="mistral",
        title="Mistral AI",
        endpoints={"openai_chat": "https://api.mistral.ai/v1"},
        env=("MISTRAL_API_KEY",),
        quirks=Quirks(
            one_limit=True,
            required_word="any",
            seed_field="random_seed",
            tool_id_pattern=r"^[a-zA-Z0-9]{9}$",
            rejects=("logit_bias", "logprobs", "top_logprobs", "user"),
        ),
        policy=no_one_answer(
            "https://docs.mistral.ai/inference/regional-inference",
            "the address chosen here is the global one: `api.eu.mistral.ai` and `api.us.mistral.ai` keep inference in one place; zero retention is granted on request",
        ),
        docs="https://docs.mistral.ai/api",
    ),
    Provider(
        name="cohere",
        title="Cohere",
        endpoints={"cohere": "https://api.cohere.com"},
        env=("COHERE_API_KEY", "CO_API_KEY"),
        policy=DataPolicy(
            retention_days=30,
            trains=True,
            source="https://cohere.com/data-usage-policy",
            date="2026-11-22",
            page_date="2025-12-05",
            note="training can be switched off in the account's data controls; what is flagged as misuse is kept longer",
        ),
        docs="https://docs.cohere.com/reference/chat",
    ),
    Provider(
        name="ai21",
        title="AI21 Labs",
        endpoints={"openai_chat": "https://api.ai21.com/studio/v1"},
        env=("AI21_API_KEY",),
        quirks=Quirks(json_schema=False),
        policy=NOT_FOUND,
        docs="https://docs.ai21.com/reference/jamba-1-6-api-ref",
    ),
    Provider(
        name="xai",
        title="xAI",
        endpoints={"openai_chat": "https://api.x.ai/v1", "openai_responses": "https://api.x.ai/v1"},
        env=("XAI_API_KEY",),
        edge="cloudflare",
        policy=DataPolicy(
            retention_days=30, trains=False, source="https://docs.x.ai/docs/faq/security", date="2026-11-21"
        ),
        docs="https://docs.x.ai/docs/api-reference",
    ),
    Provider(
        name="perplexity",
        title="Perplexity",
        endpoints={"openai_chat": "https://api.perplexity.ai"},
        env=("PERPLEXITY_API_KEY", "PPLX_API_KEY"),
        quirks=Quirks(tools=False, json_object=False),
        edge="cloudflare",
        policy=DataPolicy(
            retention_days=0,
            trains=False,
            source="https://docs.perplexity.ai/docs/resources/privacy-security",
            date="2026-11-22",
        ),
        docs="https://docs.perplexity.ai/api-reference/chat-completions-post",
    ),
    Provider(
        name="moonshot",
        title="Moonshot AI (international)",
        endpoints={
            "openai_chat": "https://api.moonshot.ai/v1",
            "anthropic_messages": "https://api.moonshot.ai/anthropic",
        },
        env=("MOONSHOT_API_KEY",),
        quirks=Quirks(one_limit=True, replay_reasoning=True),
        policy=no_one_answer(
            "https://platform.kimi.ai/docs/agreement/modeluse",
            "the terms were read; the privacy policy that they refer to for data was not at hand",
            "2026-05-27",
        ),
        catalog="moonshotai",
        docs="https://platform.moonshot.ai/docs",
    ),
    Provider(
        name="moonshot-cn",
        title="Moonshot AI (mainland China)",
        endpoints={
            "openai_chat": "https://api.moonshot.cn/v1",
            "anthropic_messages": "https://api.moonshot.cn/anthropic",
        },
        env=("MOONSHOT_CN_API_KEY",),
        quirks=Quirks(one_limit=True, replay_reasoning=True),
        policy=not_at_hand(
            "looked for the mainland platform's agreements: only those of the international one were at hand, another company's"
        ),
        catalog="moonshotai-cn",
        docs="https://platform.moonshot.cn/docs",
    ),
    Provider(
        name="zai",
        title="Z.ai (Zhipu international)",
        endpoints={
            "openai_chat": "https://api.z.ai/api/paas/v4",
            "anthropic_messages": "https://api.z.ai/api/anthropic",
        },
        env=("ZAI_API_KEY", "Z_AI_API_KEY"),
        quirks=Quirks(one_limit=True, json_schema=False, replay_reasoning=True, tool_choice_required=False),
        policy=NOT_FOUND,
        docs="https://docs.z.ai/api-reference",
    ),
    Provider(
        name="zhipu",
        title="Zhipu AI (mainland China)",
        endpoints={
            "openai_chat": "https://open.bigmodel.cn/api/paas/v4",
            "anthropic_messages": "https://open.bigmodel.cn/api/anthropic",
        },
        env=("ZHIPUAI_API_KEY", "ZHIPU_API_KEY"),
        quirks=Quirks(one_limit=True, json_schema=False, replay_reasoning=True, tool_choice_required=False),
        policy=no_one_answer(
            "https://docs.bigmodel.cn/cn/guide/platform/securityaudit",
            "prompts and answers are screened; the page speaks neither of keeping nor of training, and the privacy policy was not at hand",
        ),
        catalog="zhipuai",
        docs="https://docs.bigmodel.cn",
    ),
    Provider(
        name="minimax",
        title="MiniMax (international)",
        endpoints={
            "anthropic_messages": "https://api.minimax.io/anthropic",
            "openai_chat": "https://api.minimax.io/v1",
        },
        env=("MINIMAX_API_KEY",),
        policy=no_one_answer(
            "https://www.minimax.io/terms-of-service-v2.html",
            "general terms; what holds for the API is in product terms that were not at hand",
            "2026-04-15",
        ),
        docs="https://platform.minimax.io/docs",
    ),
    Provider(
        name="minimax-cn",
        title="MiniMax (mainland China)",
        endpoints={
            "anthropic_messages": "https://api.minimaxi.com/anthropic",
            "openai_chat": "https://api.minimaxi.com/v1",
        },
        env=("MINIMAX_CN_API_KEY",),
        policy=not_at_hand(
            "looked for the mainland platform's privacy policy and terms: only its API reference was at hand"
        ),
        docs="https://platform.minimaxi.com/document",
    ),
    Provider(
        name="meta",
        title="Meta Llama API",
        endpoints={"openai_chat": "https://api.llama.com/compat/v1"},
        env=("LLAMA_API_KEY",),
        quirks=Quirks(max_tokens_field="max_completion_tokens"),
        policy=NOT_FOUND,
        catalog="llama",
        docs="https://llama.developer.meta.com/docs",
    ),
    Provider(
        name="inception",
        title="Inception Labs",
        endpoints={"openai_chat": "https://api.inceptionlabs.ai/v1"},
        env=("INCEPTION_API_KEY",),
        policy=not_at_hand(
            "looked for a privacy policy, terms and a data page of the vendor: only what others write about its models was at hand"
        ),
        docs="https://docs.inceptionlabs.ai",
    ),
    Provider(
        name="upstage",
        title="Upstage",
        endpoints={"openai_chat": "https://api.upstage.ai/v1/solar"},
        env=("UPSTAGE_API_KEY",),
        policy=no_one_answer(
            "https://www.upstage.ai/terms-of-service",
            "an undated version says that API input is not trained on, nor stored unless a service needs it; of the terms of 2025-11-04 the part about data was not at hand",
        ),
        docs="https://console.upstage.ai/docs",
    ),
    Provider(
        name="stepfun",
        title="StepFun",
        endpoints={"openai_chat": "https://api.stepfun.com/v1"},
        env=("STEPFUN_API_KEY",),
        policy=not_at_hand(
            "looked for the platform's privacy policy and terms: only its guides were at hand"
        ),
        docs="https://platform.stepfun.com/docs",
    ),
    Provider(
        name="xiaomi",
        title="Xiaomi MiMo",
        endpoints={"openai_chat": "https://api.xiaomimimo.com/v1"},
        env=("XIAOMI_API_KEY", "MIMO_API_KEY"),
        quirks=Quirks(replay_reasoning=True),
        policy=not_at_hand(
            "looked for the platform's privacy policy and terms: only its guides were at hand; others found the group's general policy and nothing about the API"
        ),
        docs="https://platform.xiaomimimo.com",
    ),
    Provider(
        name="sarvam",
        title="Sarvam AI",
        endpoints={"openai_chat": "https://api.sarvam.ai/v1"},
        env=("SARVAM_API_KEY",),
        policy=NOT_FOUND,
        docs="https://docs.sarvam.ai",
    ),
    Provider(
        name="amazon-nova",
        title="Amazon Nova API",
        endpoints={"openai_chat": "https://api.nova.amazon.com/v1"},
        env=("NOVA_API_KEY",),
        policy=not_at_hand(
            "looked for the terms of nova.amazon.com: only another's copy of their beginning was at hand, which does not say what becomes of prompts; those of AWS are not meant"
        ),
        catalog="nova",
        docs="https://nova.amazon.com/dev/documentation",
    ),
)
