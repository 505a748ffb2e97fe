"""Servers that the user runs. Switched on by their address in the environment, or by an entry under ``providers``."""

from __future__ import annotations

from tieline.dialects.base import Quirks
from tieline.providers.row import DataPolicy, Provider

_LOCAL = DataPolicy(jurisdictions=("local",), retention_days=0, trains=False)
"""The user's own machine: true by construction, so there is no source. An address elsewhere makes it unknown."""

ROWS: tuple[Provider, ...] = (
    Provider(
        name="ollama",
        title="Ollama",
        endpoints={"openai_chat": "http://127.0.0.1:11434/v1"},
        auth="none",
        base_url_env="OLLAMA_HOST",
        quirks=Quirks(one_limit=True, reasoning_field="reasoning", completions="."),
        policy=_LOCAL,
        docs="https://docs.ollama.com/api/openai-compatibility",
    ),
    Provider(
        name="vllm",
        title="vLLM",
        endpoints={"openai_chat": "http://127.0.0.1:8000/v1"},
        env=("VLLM_API_KEY",),
        auth="none",
        base_url_env="VLLM_BASE_URL",
        quirks=Quirks(completions="."),
        policy=_LOCAL,
        docs="https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html",
    ),
    Provider(
        name="sglang",
        title="SGLang",
        endpoints={"openai_chat": "http://127.0.0.1:30000/v1"},
        env=("SGLANG_API_KEY",),
        auth="none",
        base_url_env="SGLANG_BASE_URL",
        quirks=Quirks(completions="."),
        policy=_LOCAL,
        docs="https://docs.sglang.ai/basic_usage/openai_api_completions.html",
    ),
    Provider(
        name="llamacpp",
        title="llama.cpp server",
        endpoints={"openai_chat": "http://127.0.0.1:8080/v1"},
        env=("LLAMACPP_API_KEY",),
        auth="none",
        base_url_env="LLAMACPP_BASE_URL",
        quirks=Quirks(completions="."),
        policy=_LOCAL,
        docs="https://github.com/ggml-org/llama.cpp/tree/master/tools/server",
    ),
    Provider(
        name="lmstudio",
        title="LM Studio",
        endpoints={"openai_chat": "http://127.0.0.1:1234/v1"},
        env=("LMSTUDIO_API_KEY",),
        auth="none",
        base_url_env="LMSTUDIO_BASE_URL",
        quirks=Quirks(completions="."),
        policy=_LOCAL,
        docs="https://lmstudio.ai/docs/app/api/endpoints/openai",
    ),
    Provider(
        name="tgi",
        title="Hugging Face Text Generation Inference",
        endpoints={"openai_chat": "http://127.0.0.1:3000/v1"},
        env=("TGI_API_KEY",),
        auth="none",
        base_url_env="TGI_BASE_URL",
        quirks=Quirks(parallel_tool_calls=False, completions="."),
        policy=_LOCAL,
        docs="https://huggingface.co/docs/text-generation-inference/messages_api",
    ),
    Provider(
        name="localai",
        title="LocalAI",
        endpoints={"openai_chat": "http://127.0.0.1:8080/v1"},
        env=("LOCALAI_API_KEY",),
        auth="none",
        base_url_env="LOCALAI_BASE_URL",
        quirks=Quirks(completions="."),
        policy=_LOCAL,
        docs="https://localai.io/features/text-generation/",
    ),
    Provider(
        name="nim",
        title="NVIDIA NIM (self-hosted)",
        endpoints={"openai_chat": "http://127.0.0.1:8000/v1"},
        env=("NIM_API_KEY",),
        auth="none",
        base_url_env="NIM_BASE_URL",
        quirks=Quirks(completions="."),
        policy=_LOCAL,
        docs="https://docs.nvidia.com/nim/large-language-models/latest/api-reference.html",
    ),
)
