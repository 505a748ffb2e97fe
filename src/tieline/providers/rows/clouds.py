"""General clouds with models among their services."""

from __future__ import annotations

from tieline.dialects.base import Quirks
from tieline.providers.row import DataPolicy, Provider
from tieline.providers.rows.unread import NOT_FOUND, no_one_answer, not_at_hand

_VERTEX = "/v1/projects/{project}/locations/{location}/publishers"
_VERTEX_BETAS = (
    "compact",
    "computer-use",
    "context-1m",
    "context-management",
    "interleaved-thinking",
    "per-turn-control",
    "thinking-binding-controls",
    "thinking-display-updates",
)
"""Vertex answers 400 to any other (WIRE_FACTS 26): `effort`, `tool-search-tool`, `web-search`, `files-api`,
`structured-outputs`, … (reports at github.com/anthropics/claude-agent-sdk-typescript/issues/307 and
github.com/BerriAI/litellm/pull/23715, 2026). `quirks.betas` changes it."""
_GOOGLE_POLICY = DataPolicy(
    trains=False,
    source="https://docs.cloud.google.com/gemini-enterprise-agent-platform/resources/zero-data-retention",
    date="2026-11-21",
)
_AZURE_POLICY = DataPolicy(
    trains=False,
    source="https://learn.microsoft.com/en-us/legal/cognitive-services/openai/data-privacy",
    date="2026-11-22",
    page_date="2025-10-01",
    note="processed in the resource's geography, but by `Global` deployments anywhere; what abuse monitoring flags may be stored",
)
_AZURE_ENV = ("AZURE_OPENAI_API_KEY", "AZURE_API_KEY")
_AZURE_RESOURCE = "AZURE_OPENAI_RESOURCE AZURE_RESOURCE_NAME"

ROWS: tuple[Provider, ...] = (
    Provider(
        name="bedrock",
        title="Amazon Bedrock",
        endpoints={"bedrock_converse": "https://bedrock-runtime.{region}.amazonaws.com"},
        env=("AWS_BEARER_TOKEN_BEDROCK",),
        auth="sigv4",
        params_env={"region": "AWS_REGION AWS_DEFAULT_REGION"},
        quirks=Quirks(tool_id_pattern=r"^[a-zA-Z0-9_-]{1,64}$"),
        edge="aws:{region}",
        policy=DataPolicy(
            trains=False,
            source="https://docs.aws.amazon.com/bedrock/latest/userguide/data-protection.html",
            date="2026-11-22",
            note="retention is a setting of the account and differs by model (docs.aws.amazon.com/bedrock/latest/userguide/data-retention.html)",
        ),
        catalog="amazon-bedrock",
        docs="https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html",
    ),
    Provider(
        name="vertex",
        title="Google Vertex AI (Gemini)",
        endpoints={"gemini": "https://{location}-aiplatform.googleapis.com"},
        auth="google_oauth",
        params_env={
            "location": "GOOGLE_VERTEX_LOCATION GOOGLE_CLOUD_LOCATION",
            "project": "GOOGLE_VERTEX_PROJECT GOOGLE_CLOUD_PROJECT",
        },
        params={"location": "global"},
        quirks=Quirks(path=_VERTEX + "/google/models/{model}:{method}", embed_config=True),
        edge="gcp",
        policy=_GOOGLE_POLICY,
        catalog="google-vertex",
        docs="https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference",
    ),
    Provider(
        name="vertex-anthropic",
        title="Google Vertex AI (Claude)",
        endpoints={"anthropic_messages": "https://{location}-aiplatform.googleapis.com"},
        auth="google_oauth",
        params_env={
            "location": "GOOGLE_VERTEX_LOCATION CLOUD_ML_REGION GOOGLE_CLOUD_LOCATION",
            "project": "GOOGLE_VERTEX_PROJECT ANTHROPIC_VERTEX_PROJECT_ID GOOGLE_CLOUD_PROJECT",
        },
        params={"location": "global"},
        quirks=Quirks(
            path=_VERTEX + "/anthropic/models/{model}:{method}",
            tool_id_pattern=r"^[a-zA-Z0-9_-]+$",
            body_version="vertex-2023-10-16",
            betas=_VERTEX_BETAS,
        ),
        edge="gcp",
        policy=_GOOGLE_POLICY,
        catalog="google-vertex-anthropic",
        docs="https://platform.claude.com/docs/en/build-with-claude/claude-on-vertex-ai",
    ),
    Provider(
        name="azure",
        title="Azure OpenAI (v1 API)",
        endpoints={
            "openai_chat": "https://{resource}.openai.azure.com/openai/v1",
            "openai_responses": "https://{resource}.openai.azure.com/openai/v1",
        },
        env=_AZURE_ENV,
        auth="api-key",
        base_url_env="AZURE_OPENAI_ENDPOINT",
        params_env={"resource": _AZURE_RESOURCE},
        quirks=Quirks(
            max_tokens_field="max_completion_tokens",
            one_limit=True,
            developer_role=True,
            tool_id_pattern=r"^.{1,40}$",
        ),
        account_models=True,
        edge="azure",
        policy=_AZURE_POLICY,
        docs="https://learn.microsoft.com/en-us/azure/ai-foundry/openai/api-version-lifecycle",
    ),
    Provider(
        name="azure-deployments",
        title="Azure OpenAI (deployment URLs)",
        endpoints={"openai_chat": "https://{resource}.openai.azure.com/openai"},
        env=_AZURE_ENV,
        auth="api-key",
        base_url_env="AZURE_OPENAI_ENDPOINT",
        params_env={"resource": _AZURE_RESOURCE, "version": "AZURE_OPENAI_API_VERSION OPENAI_API_VERSION"},
        params={"version": "2024-10-21"},
        # No `one_limit`: versions and deployments from before the newer name refuse it (github.com/BerriAI/litellm/issues/8855).
        quirks=Quirks(
            max_tokens_field="max_completion_tokens",
            developer_role=True,
            tool_id_pattern=r"^.{1,40}$",
            path="/deployments/{model}/chat/completions?api-version={version}",
        ),
        account_models=True,
        edge="azure",
        policy=_AZURE_POLICY,
        catalog="azure",
        docs="https://learn.microsoft.com/en-us/azure/ai-foundry/openai/reference",
    ),
    Provider(
        name="databricks",
        title="Databricks Foundation Model APIs",
        endpoints={"openai_chat": "https://{host}/serving-endpoints"},
        env=("DATABRICKS_TOKEN",),
        params_env={"host": "DATABRICKS_HOST"},
        policy=NOT_FOUND,
        docs="https://docs.databricks.com/aws/en/machine-learning/foundation-model-apis/",
    ),
    Provider(
        name="cloudflare",
        title="Cloudflare Workers AI",
        endpoints={"openai_chat": "https://api.cloudflare.com/client/v4/accounts/{account}/ai/v1"},
        env=("CLOUDFLARE_API_TOKEN", "CLOUDFLARE_API_KEY"),
        params_env={"account": "CLOUDFLARE_ACCOUNT_ID"},
        edge="cloudflare",
        policy=DataPolicy(
            trains=False,
            source="https://developers.cloudflare.com/workers-ai/platform/data-usage/",
            date="2026-11-21",
        ),
        catalog="cloudflare-workers-ai",
        docs="https://developers.cloudflare.com/workers-ai/configuration/open-ai-compatibility/",
    ),
    Provider(
        name="github",
        title="GitHub Models",
        endpoints={"openai_chat": "https://models.github.ai/inference"},
        # Not GITHUB_TOKEN, which is set in every workflow for other reasons: name it as api_key to use it.
        env=("GITHUB_MODELS_TOKEN", "GITHUB_MODELS_API_KEY"),
        edge="azure",
        policy=NOT_FOUND,
        catalog="github-models",
        docs="https://docs.github.com/en/rest/models/inference",
    ),
    Provider(
        name="scaleway",
        title="Scaleway Generative APIs",
        endpoints={"openai_chat": "https://api.scaleway.ai/v1"},
        env=("SCALEWAY_API_KEY", "SCW_SECRET_KEY"),
        policy=DataPolicy(
            jurisdictions=("FR",),
            retention_days=14,
            trains=False,
            source="https://www.scaleway.com/en/docs/generative-apis/reference-content/data-privacy/",
            date="2026-11-21",
        ),
        docs="https://www.scaleway.com/en/docs/generative-apis/",
    ),
    Provider(
        name="ovhcloud",
        title="OVHcloud AI Endpoints",
        endpoints={"openai_chat": "https://oai.endpoints.kepler.ai.cloud.ovh.net/v1"},
        env=("OVHCLOUD_API_KEY", "OVH_AI_ENDPOINTS_ACCESS_TOKEN"),
        policy=NOT_FOUND,
        docs="https://help.ovhcloud.com/csm/en-public-cloud-ai-endpoints-getting-started",
    ),
    Provider(
        name="ionos",
        title="IONOS AI Model Hub",
        endpoints={"openai_chat": "https://openai.inference.de-txl.ionos.com/v1"},
        env=("IONOS_API_TOKEN", "IONOS_API_KEY"),
        policy=DataPolicy(
            jurisdictions=("DE",),
            trains=False,
            source="https://docs.ionos.com/cloud/ai/ai-model-hub/governance-and-compliance/eu-ai-act",
            date="2026-11-22",
        ),
        docs="https://docs.ionos.com/cloud/ai/ai-model-hub",
    ),
    Provider(
        name="stackit",
        title="STACKIT AI Model Serving",
        endpoints={"openai_chat": "https://api.openai-compat.model-serving.eu01.onstackit.cloud/v1"},
        env=("STACKIT_API_KEY",),
        policy=DataPolicy(
            retention_days=0,
            source="https://stackit.de/de/agb/leistungsscheine/stackit-model-serving",
            date="2026-11-22",
            note="nothing is collected but what is needed for billing",
        ),
        docs="https://docs.stackit.cloud/products/data-and-ai/ai-model-serving/",
    ),
    Provider(
        name="nebius",
        title="Nebius Token Factory",
        endpoints={"openai_chat": "https://api.tokenfactory.nebius.com/v1"},
        env=("NEBIUS_API_KEY",),
        policy=no_one_answer(
            "https://docs.studio.nebius.com/legal/legal-quick-guide",
            "prompts and outputs may be stored and used for speculative decoding unless the account turns zero data retention on",
        ),
        docs="https://docs.tokenfactory.nebius.com",
    ),
    Provider(
        name="digitalocean",
        title="DigitalOcean Gradient",
        endpoints={"openai_chat": "https://inference.do-ai.run/v1"},
        env=("DIGITALOCEAN_INFERENCE_KEY", "GRADIENT_MODEL_ACCESS_KEY"),
        policy=no_one_answer(
            "https://docs.digitalocean.com/products/inference/details/data-privacy/",
            "its own models: nothing stored, nothing trained on; models of others: their maker's terms",
            "2026-04-27",
        ),
        docs="https://docs.digitalocean.com/products/gradient-ai-platform/",
    ),
    Provider(
        name="vultr",
        title="Vultr Serverless Inference",
        endpoints={"openai_chat": "https://api.vultrinference.com/v1"},
        env=("VULTR_INFERENCE_API_KEY",),
        policy=NOT_FOUND,
        docs="https://docs.vultr.com/products/serverless-inference",
    ),
    Provider(
        name="volcengine",
        title="Volcengine Ark",
        endpoints={"openai_chat": "https://ark.cn-beijing.volces.com/api/v3"},
        env=("ARK_API_KEY", "VOLCENGINE_API_KEY"),
        policy=no_one_answer(
            "https://www.volcengine.com/docs/82379/1985878",
            "answers are screened unless a contract says otherwise; the terms that the page names, which rule keeping and training, were not at hand",
        ),
        docs="https://www.volcengine.com/docs/82379",
    ),
    Provider(
        name="qianfan",
        title="Baidu Qianfan",
        endpoints={"openai_chat": "https://qianfan.baidubce.com/v2"},
        env=("QIANFAN_API_KEY",),
        policy=not_at_hand(
            "looked for the platform's terms and a data page: only guides, and the statement of another product (Comate), were at hand"
        ),
        docs="https://cloud.baidu.com/doc/qianfan/index.html",
    ),
)
