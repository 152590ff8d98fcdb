"""An nginx in front of apps, or of a Flyte, for tests."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import get_nginx
import pytest

from local_flyte.apps import free_port
from local_flyte.testing import wait_until

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
    upstream server {{ {servers} keepalive 1; }}
    server {{
        listen 127.0.0.1:{port} {tls};
        location / {{
            proxy_pass {scheme}://server;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_buffering off;
        }}
    }}
}}
"""


class Nginx:
    """An nginx, on a port that was free."""

    def __init__(self, folder: Path, *upstreams: int, certificate: Path | None = None) -> None:
        if not (binary := get_nginx.find()):
            pytest.skip("there is no nginx (Debian: apt-get install nginx-light; or set NGINX)")
        self.port = free_port()
        self._scheme = "https" if certificate else "http"
        self.url = f"{self._scheme}://127.0.0.1:{self.port}"
        keys = f"ssl_certificate {certificate}; ssl_certificate_key {certificate}"
        self._tls = f"ssl http2; {keys}" if certificate else ""
        self._folder, self._configuration = folder, folder / "nginx.conf"
        self._write(*upstreams)
        command = [binary, "-p", str(folder), "-e", "stderr", "-c", str(self._configuration)]
        self.process = subprocess.Popen(command)

    def _write(self, *upstreams: int) -> None:
        text = CONFIGURATION.format(
            user="user root;" if os.geteuid() == 0 else "",
            directory=self._folder,
            servers="".join(f"server 127.0.0.1:{each} max_fails=0; " for each in upstreams),
            port=self.port,
            tls=self._tls,
            scheme=self._scheme,
        )
        self._configuration.write_text(text)

    def lead_to(self, *upstreams: int) -> None:
        """Send new requests to other apps; current ones are not interrupted."""
        self._write(*upstreams)
        self.process.send_signal(signal.SIGHUP)

    def answers(self) -> bool:
        """Tell whether it has started."""
        assert self.process.poll() is None, "nginx did not start"
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except ConnectionRefusedError:
            return False
        return True


@contextmanager
def in_front_of(folder: Path, *upstreams: int, certificate: Path | None = None) -> Iterator[Nginx]:
    """Forward requests to these ports, in turn and over persistent connections.

    With a certificate (and its key), it has TLS, offers HTTP/2, and forwards to servers with TLS.
    """
    nginx = Nginx(folder, *upstreams, certificate=certificate)
    try:
        wait_until(nginx.answers)
        yield nginx
    finally:
        nginx.process.terminate()
        nginx.process.wait(60)
