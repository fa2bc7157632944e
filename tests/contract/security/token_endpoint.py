"""A token endpoint for OAUTHBEARER, as an identity provider has one."""

from __future__ import annotations

import base64
import json
import ssl
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from tests.contract.security.secure_kafka import PLAIN_USER

if TYPE_CHECKING:
    from tests.contract.security.secure_kafka import Certificates

OIDC_SECRET = "oidc-secret"


class TokenEndpoint(ThreadingHTTPServer):
    """Gives out tokens for the right secret, over TLS; nobody signs them."""

    def __init__(self, certificates: Certificates) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                identity = base64.b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode()
                right = identity == f"{PLAIN_USER}:{OIDC_SECRET}"
                error = {"error": "invalid_client", "error_description": "unknown client or wrong secret"}
                answer = json.dumps({"access_token": token(PLAIN_USER)} if right else error).encode()
                self.send_response(200 if right else 401)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *arguments: object) -> None:
                """It keeps quiet."""

        super().__init__(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates["localhost.crt"], certificates["localhost.key"])
        self.socket = context.wrap_socket(self.socket, server_side=True)


def token(subject: str) -> str:
    now = int(time.time())
    parts = {"alg": "none", "typ": "JWT"}, {"sub": subject, "iat": now, "exp": now + 3_600}
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."
