"""Credentials of providers: given here, kept encrypted, in use at once, never shown."""

from __future__ import annotations

from asyncio import to_thread
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from litestar import Request, delete, get, patch, post
from litestar.params import Body, Parameter

from tieline.server.control.admin_shapes import (
    Conflict,
    CredentialPatch,
    CredentialView,
    NewCredential,
    Rotated,
)
from tieline.store.sealed import Stored, Vault

if TYPE_CHECKING:
    from tieline.gateway import Gateway

AnyRequest = Request[Any, Any, Any]
CredentialId = Annotated[str, Parameter(max_length=200)]


def routes(gateway: Gateway) -> list[Any]:
    def vault(request: AnyRequest) -> Vault:
        if gateway.vault is None:
            raise Conflict(
                "store.database is `none`: credentials cannot be kept.",
                hint="Set them in the environment, or set store.database.",
            )
        return gateway.vault.by(request.scope["tieline_actor"])  # type: ignore[typeddict-item]

    async def follow() -> None:
        if gateway.watch is not None:
            await gateway.watch.look()

    @get("/credentials")
    async def list_credentials(
        request: AnyRequest,
        provider: Annotated[str | None, Parameter(max_length=200)] = None,
    ) -> list[CredentialView]:
        """Those in the database, without their secrets; keys of the environment are not among them."""
        return [_view(one) for one in await to_thread(vault(request).all, provider)]

    @post("/credentials")
    async def add_credential(request: AnyRequest, data: Annotated[NewCredential, Body()]) -> CredentialView:
        """Adds one, or replaces the one with the same provider and label. In use without a restart."""
        gateway.check_credential(data.provider, data.secret)
        made = await to_thread(vault(request).put, data.provider, data.label, data.secret)
        await follow()
        return _view(made)

    @post("/credentials/rotate", status_code=200)
    async def rotate_credentials(request: AnyRequest) -> Rotated:
        """Encrypts all anew with the first key of TIELINE_SECRET_KEY."""
        count = await to_thread(vault(request).rotate)
        await follow()
        return Rotated(rotated=count)

    @patch("/credentials/{credential:str}")
    async def edit_credential(
        request: AnyRequest, credential: CredentialId, data: Annotated[CredentialPatch, Body()]
    ) -> CredentialView:
        """Takes it out of use, or back."""
        found = await to_thread(vault(request).set_enabled, credential, data.enabled)
        await follow()
        return _view(found)

    @delete("/credentials/{credential:str}")
    async def remove_credential(request: AnyRequest, credential: CredentialId) -> None:
        await to_thread(vault(request).remove, credential)
        await follow()

    return [list_credentials, add_credential, rotate_credentials, edit_credential, remove_credential]


def _view(found: Stored) -> CredentialView:
    return CredentialView(**msgspec.structs.asdict(found))
