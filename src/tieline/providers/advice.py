"""What to do about a refusal whose words do not say: they are kept, who refused what is put before them, the fix behind.

Clouds refuse for reasons that lie in the setup (identity, region, deployment), in words that name neither. Only called
when an attempt has failed.
"""

from __future__ import annotations

import re

from msgspec.structs import replace

from tieline.providers.aws_sources import (
    AwsContainer,
    AwsFileKeys,
    AwsKeys,
    AwsMachine,
    AwsProcess,
    AwsRole,
    AwsSource,
    AwsSso,
    AwsWebIdentity,
)
from tieline.providers.credentials import (
    AuthorizedUser,
    EntraApp,
    ManagedIdentity,
    MetadataIdentity,
    ServiceAccount,
    WorkloadIdentity,
)
from tieline.providers.errors import MAX_MESSAGE
from tieline.providers.row import Credential, Provider
from tieline.types.errors import Failure, FailureClass

_SEALED = re.compile(
    r"invalid.{0,20}signature.{0,20}thinking|encrypted content .{0,80}could not be (?:verified|decrypted)"
    r"|thought[ _]?signature.{0,40}(?:invalid|not valid|corrupt)|(?:invalid|corrupt\w*) thought[ _]?signature",
    re.IGNORECASE,
)
"""Anthropic, OpenAI and Gemini about thinking that they did not make, or not so."""
_UNSEALED = "This thinking was made by another model, account or service, or changed on the way: leave it out of the conversation."
_ABOUT_PLACE = frozenset({FailureClass.MODEL_GONE, FailureClass.REGION_BLOCKED})


def advised(failure: Failure, provider: Provider, model: str, credential: Credential) -> Failure:
    """The same failure with provider, credential and fix in its message; as it was where there is nothing to add.

    Of connections that fail only those whose host name is not found should come here: a cloud's names hold its places.
    """
    if failure.kind is FailureClass.CALLER_FAULT and _SEALED.search(failure.message):
        said = _ended(failure.message[: MAX_MESSAGE - len(_UNSEALED) - 2])
        return replace(failure, message=f"{said} {_UNSEALED}")
    cloud = _cloud(provider)
    if cloud is None:
        return failure
    if failure.kind is FailureClass.CREDENTIAL:
        who, fix = f"{provider.name} ({credential.label})", _for_credential(failure, provider, credential)
    elif failure.kind in _ABOUT_PLACE:
        who, fix = provider.name, _PLACES[cloud](failure, provider, model)
    elif failure.kind is FailureClass.CONNECT:
        who, fix = provider.name, _NAMES[cloud].format(**_place_names(provider))
    else:
        return failure
    room = MAX_MESSAGE - len(who) - len(fix) - 4
    return replace(failure, message=f"{who}: {_ended(failure.message[: max(0, room)])} {fix}")


def _cloud(provider: Provider) -> str | None:
    base = provider.name.partition("@")[0]
    if base.startswith("azure") or provider.auth == "entra":
        return "azure"
    return {"sigv4": "aws", "google_oauth": "google"}.get(provider.auth)


def _ended(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else text + "."


def _for_credential(failure: Failure, provider: Provider, credential: Credential) -> str:
    secret, said = credential.secret, failure.message.casefold()
    if isinstance(secret, AwsKeys | AwsSource):
        return _for_aws(secret, said, provider)
    if failure.status == 403:
        return _MAY_NOT.get(type(secret), f"Allow {credential.label} to use this model.")
    if isinstance(secret, ServiceAccount):
        return f"Make a new key of the service account {secret.client_email} and put it where {credential.label} points."
    if isinstance(secret, AuthorizedUser):
        return "Sign in again with `gcloud auth application-default login`."
    if isinstance(secret, MetadataIdentity):
        return "Give this machine a service account with the cloud-platform scope."
    if isinstance(secret, EntraApp):
        return (
            f"Check tenant, client id and secret of {credential.label}; a client secret that has expired is renewed in "
            "Entra ID under App registrations."
        )
    if isinstance(secret, WorkloadIdentity):
        return (
            "Check AZURE_TENANT_ID and AZURE_CLIENT_ID, and that the federated credential of the identity names this service "
            "account."
        )
    if isinstance(secret, ManagedIdentity):
        return "Assign a managed identity; of several, name one in AZURE_CLIENT_ID."
    return f"Set a valid key in {credential.label}."


_MAY_NOT: dict[type, str] = {
    ServiceAccount: "Grant the service account the role Vertex AI User (roles/aiplatform.user) in this project.",
    AuthorizedUser: "Grant yourself the role Vertex AI User (roles/aiplatform.user) in this project.",
    MetadataIdentity: "Grant this machine's service account the role Vertex AI User (roles/aiplatform.user).",
    EntraApp: "Grant the application the role Cognitive Services OpenAI User on this resource.",
    WorkloadIdentity: "Grant the identity the role Cognitive Services OpenAI User on this resource.",
    ManagedIdentity: "Grant the managed identity the role Cognitive Services OpenAI User on this resource.",
}


def _for_aws(keys: AwsKeys | AwsSource, said: str, provider: Provider) -> str:
    region = provider.params.get("region", "us-east-1")
    if "valid region" in said:
        return (
            f"It was signed for {region}, its address is in another region: set AWS_REGION, or name the provider "
            "`bedrock@REGION`."
        )
    if (
        isinstance(keys, AwsSource)
        and "access to the model" not in said
        and "not authorized to perform: bedrock" not in said
    ):
        return _FIXES.get(type(keys), "Check where its keys come from.").format(
            profile=getattr(keys, "profile", "")
        )
    if "token" in said and "expired" in said:
        return "Sign in again (`aws sso login`, `aws sts assume-role`) and set the three AWS_ variables anew."
    if "signature expired" in said or "not yet current" in said:
        return "Set this machine's clock."
    if "signature" in said:
        return "Check that AWS_SECRET_ACCESS_KEY belongs to AWS_ACCESS_KEY_ID."
    if "access to the model" in said or "not authorized" in said or "accessdenied" in said:
        return (
            "Allow bedrock:InvokeModel and bedrock:InvokeModelWithResponseStream, and ask for access to the model in "
            f"{region}."
        )
    session = ", AWS_SESSION_TOKEN" if isinstance(keys, AwsKeys) and keys.session_token else ""
    return f"Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY{session}; temporary keys need AWS_SESSION_TOKEN."


_FIXES: dict[type, str] = {
    AwsFileKeys: "Renew the keys of the profile `{profile}`: they are read again within minutes.",
    AwsSso: "Run `aws sso login --profile {profile}`.",
    AwsProcess: "Run the command of the profile `{profile}` by hand to see what it says.",
    AwsRole: "Allow these keys sts:AssumeRole on the role, and let its trust policy name them.",
    AwsWebIdentity: "Check AWS_ROLE_ARN, and that the role's trust policy names this identity provider and subject.",
    AwsContainer: "Check the task role (ECS) or the pod identity association (EKS).",
    AwsMachine: "Give this instance a role, and let containers on it reach its metadata (hop limit 2).",
}


def _bedrock_place(failure: Failure, provider: Provider, model: str) -> str:
    region = provider.params.get("region", "us-east-1")
    if "on-demand throughput" in failure.message:
        area = "us" if region.startswith(("us-", "ca-")) else region.partition("-")[0].replace("ap", "apac")
        return f"Ask for an inference profile: `{area}.{model}` or `global.{model}`."
    return (
        f"`{model}` may not be offered in {region}: try another region (`bedrock@REGION/…`) or an inference profile that "
        f"{region} may call (`us.`, `eu.`, `apac.`, `global.` before the id)."
    )


def _vertex_place(failure: Failure, provider: Provider, model: str) -> str:
    place = provider.params.get("location", "global")
    project = provider.params.get("project", "")
    return (
        f"`{model}` may not be offered in {place} or not enabled for the project `{project}`: try `{provider.name.partition('@')[0]}"
        "@LOCATION`, and look it up in Model Garden."
    )


def _azure_place(failure: Failure, provider: Provider, model: str) -> str:
    if "api version" in failure.message.casefold():
        return (
            "Set AZURE_OPENAI_API_VERSION to one that this resource has, or use the provider `azure` (v1 API), which needs "
            "none."
        )
    return (
        f"`{model}` must be the name of a deployment of this resource, and its address (AZURE_OPENAI_ENDPOINT or base_url) "
        f"right. Deployments are listed under providers.{provider.name}.models as `deployment: model`."
    )


def _place_names(provider: Provider) -> dict[str, str]:
    place = {"region": "us-east-1", "location": "global", "resource": "its resource", **provider.params}
    return place | {"base": provider.name.partition("@")[0]}


_NAMES = {
    "aws": "`{region}` may be no region of AWS, or one without Bedrock: set AWS_REGION, or name the provider `bedrock@REGION`.",
    "google": "`{location}` may be no location of Vertex AI: set GOOGLE_CLOUD_LOCATION, or name the provider `{base}@LOCATION`.",
    "azure": "There may be no resource of this name: set AZURE_OPENAI_ENDPOINT, or name the provider `{base}@RESOURCE`.",
}
_PLACES = {"aws": _bedrock_place, "google": _vertex_place, "azure": _azure_place}
