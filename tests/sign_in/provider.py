"""An identity provider for the tests: OpenID Connect with PKCE, JWT access tokens and refresh.

It signs in anybody who types a subject. A test changes its attributes.
"""

import base64
import hashlib
import secrets
import time
from collections import deque
from typing import Any
from urllib.parse import parse_qsl, urlencode

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

PROXY: dict[str, Any] = {
    "client_id": "my-flyte-app",
    "client_secret": secrets.token_hex(8),
    "redirect_uris": [],
}
"""The client that oauth2-proxy is."""
FORM = '<form method="post"><input name="sub"><button>Sign in</button></form>'
Grant = dict[str, str]


def new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


class Provider:
    """An ASGI application. ``issuer`` must be its address."""

    issuer: str
    lifetime = 600
    """Seconds until a token expires."""
    email_verified = True
    remembers_users = False
    """If set, users who have signed in need no form, until they open `/logout`."""
    audiences_by_resource: tuple[str, ...] | None = None
    """If set, it honours `resource` (RFC 8707): that is the audience, beside these."""
    has_oauth_metadata = False
    """If set, the provider also serves the metadata of RFC 8414."""

    def __init__(self) -> None:
        self.key, self.other_key = new_key(), new_key()
        self.clients: dict[str, dict[str, Any]] = {PROXY["client_id"]: PROXY}
        self.grants: dict[str, Grant] = {}
        """By code or refresh token, each of which can be used once."""
        self.authorizations = deque[Grant](maxlen=100)
        """Parameters of authorization requests."""
        routes = [
            Route("/.well-known/{name}", self._discover),
            Route("/jwks", self._keys),
            Route("/authorize", self._authorize, methods=["GET", "POST"]),
            Route("/token", self._token, methods=["POST"]),
            Route("/logout", self._log_out),
            Route("/register", self._register, methods=["POST"]),
        ]
        self.app = Starlette(routes=routes)

    def token(self, sub: str, key: rsa.RSAPrivateKey | None = None, **claims: Any) -> str:
        """Return an access token, or another token with other claims or another key."""
        now = int(time.time())
        payload: dict[str, Any] = {"iss": self.issuer, "sub": sub, "aud": "flyte"}
        payload |= {"email": f"{sub}@example.com", "email_verified": self.email_verified}
        payload |= {"jti": secrets.token_hex(8), "iat": now, "exp": now + self.lifetime} | claims
        return jwt.encode(payload, key or self.key, "RS256", {"kid": "1"})

    async def _discover(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name != "openid-configuration" and not self.has_oauth_metadata:
            return Response(status_code=404)
        ends = {"authorization": "authorize", "token": "token", "registration": "register"}
        return JSONResponse(
            {f"{name}_endpoint": f"{self.issuer}/{path}" for name, path in ends.items()}
            | {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/jwks"}
            | {"scopes_supported": ["openid", "profile", "email", "offline_access"]}
            | {"response_types_supported": ["code"], "code_challenge_methods_supported": ["S256"]}
            | {"id_token_signing_alg_values_supported": ["RS256"]}
            | {"subject_types_supported": ["public"]}
            | {"authorization_response_iss_parameter_supported": True}
        )

    async def _keys(self, _: Request) -> Response:
        key = RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return JSONResponse({"keys": [key | {"kid": "1", "alg": "RS256", "use": "sig"}]})

    async def _register(self, request: Request) -> Response:
        client = await request.json() | {"client_id": secrets.token_hex(8)}
        if client.get("token_endpoint_auth_method") != "none":
            client["client_secret"] = secrets.token_hex(8)
        self.clients[client["client_id"]] = client
        return JSONResponse(client, 201)

    async def _authorize(self, request: Request) -> Response:
        query = dict(request.query_params)
        client = self.clients.get(query["client_id"], {})
        if query["redirect_uri"] not in client.get("redirect_uris", ()):
            return Response("unknown client or redirect_uri", 400)
        if query.get("code_challenge_method") != "S256":
            return Response("PKCE is required", 400)
        sub = request.cookies.get("remembered")
        if request.method == "GET":
            self.authorizations.append(query)
            if not sub:
                return HTMLResponse(FORM)
        sub, code = sub or str((await request.form())["sub"]), secrets.token_hex(16)
        self.grants[code] = query | {"sub": sub}
        answer = {"code": code, "state": query["state"], "iss": self.issuer}
        response = RedirectResponse(f"{query['redirect_uri']}?{urlencode(answer)}", 303)
        if self.remembers_users:
            response.set_cookie("remembered", sub)
        return response

    async def _log_out(self, _: Request) -> Response:
        response = Response("signed out")
        response.delete_cookie("remembered")
        return response

    async def _token(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode()))
        scheme, _, basic = request.headers.get("authorization", "").partition(" ")
        if scheme == "Basic":
            pair = base64.b64decode(basic).decode().partition(":")
            form |= {"client_id": pair[0], "client_secret": pair[2]}
        client = self.clients.get(form.get("client_id", ""), {"client_secret": ""})
        if client.get("client_secret") != form.get("client_secret"):
            return JSONResponse({"error": "invalid_client"}, 401)
        if form["grant_type"] == "client_credentials":
            sub, audience = f"account-{form['client_id']}", client.get("audience", "flyte")
            return JSONResponse({"access_token": self.token(sub, aud=audience)})
        grant = self.grants.pop(form.get("code") or form["refresh_token"], None)
        if not grant or grant["client_id"] != form["client_id"]:
            return JSONResponse({"error": "invalid_grant"}, 400)
        if "code" in form:
            digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
            challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
            proof = {"code_challenge": challenge, "redirect_uri": form["redirect_uri"]}
            if not proof.items() <= grant.items():
                return JSONResponse({"error": "invalid_grant"}, 400)
        return self._issue(grant, form)

    def _issue(self, grant: Grant, form: Grant) -> Response:
        audience = ["flyte"]
        if "resource" in form and self.audiences_by_resource is not None:
            audience = [form["resource"], *self.audiences_by_resource]
        answer: dict[str, Any] = {"token_type": "Bearer", "expires_in": self.lifetime}
        answer["access_token"] = self.token(grant["sub"], aud=audience)
        scopes = grant.get("scope", "").split()
        if "offline_access" in scopes:
            self.grants[refresh := secrets.token_hex(16)] = grant
            answer["refresh_token"] = refresh
        if "openid" in scopes and "code" in form:  # at a refresh, it is optional
            answer["id_token"] = self.token(
                grant["sub"], aud=grant["client_id"], nonce=grant.get("nonce")
            )
        return JSONResponse(answer, headers={"cache-control": "no-store"})
