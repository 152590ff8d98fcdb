"""An nginx in front of apps, or of a Flyte, for tests."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import get_nginx
import pytest

from local_flyte.apps import free_port

from .served import started

LOCATION = """location / {
            proxy_pass %s://server;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_buffering off;
        }"""
CONFIGURATION = """
daemon off;
worker_processes 1;
{user}
pid {directory}/nginx.pid;
error_log stderr error;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    upstream server {{ server 127.0.0.1:{upstream} max_fails=0; keepalive 1; }}
    server {{
        listen 127.0.0.1:{port} {tls};
        {location}
    }}
}}
"""


@contextmanager
def in_front_of(
    folder: Path, upstream: int, certificate: Path | None = None, location: str | None = None
) -> Iterator[int]:
    """Forward requests to a port, over persistent connections; yield the port to call.

    With a certificate (and its key), it has TLS, offers HTTP/2, and forwards to servers with TLS.
    Another ``location`` is a block of nginx's configuration.
    """
    if not (binary := get_nginx.find()):
        pytest.skip("there is no nginx (Debian: apt-get install nginx-light; or set NGINX)")
    port, configuration = free_port(), folder / "nginx.conf"
    keys = f"ssl_certificate {certificate}; ssl_certificate_key {certificate}"
    text = CONFIGURATION.format(
        user="user root;" if os.geteuid() == 0 else "",
        directory=folder,
        upstream=upstream,
        port=port,
        tls=f"ssl http2; {keys}" if certificate else "",
        location=location or LOCATION % ("https" if certificate else "http"),
    )
    configuration.write_text(text)
    url = f"{'https' if certificate else 'http'}://127.0.0.1:{port}"
    command = f"{binary} -p {folder} -e stderr -c {configuration}"
    with started(command, folder, url, {}, folder / "nginx.log"):
        yield port
