"""The user's properties: secrets fetched from where they stand, and what the client would be unclear about refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker.config import environment
from worker.config_providers import resolve
from worker.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

_FILES = {
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.crl.location",
    "ssl.key.location",
    "ssl.keystore.location",
    "https.ca.location",
}
_NO_FILES = {"", "probe"}
"""Values of theirs that are no paths."""
_TOKEN_SOURCES = {"sasl.oauthbearer.method", "sasl.oauthbearer.metadata.authentication.type"}


def resolved(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The user's properties with what their references to secrets stand for.

    Raises:
        ConfigError: a reference leads nowhere, a file cannot be read, or a login could never succeed.
    """
    values = resolve(properties, environment())
    for name in _FILES & values.keys():
        _check_file(name, str(values[name]))
    if _mechanism(values) == "OAUTHBEARER" and not _has_tokens(values):
        raise ConfigError(
            "sasl.mechanism is OAUTHBEARER, but nothing says where tokens come from. Set sasl.oauthbearer.method = "
            "'oidc' and sasl.oauthbearer.token.endpoint.url in kafka.properties."
        )
    return values


def _check_file(name: str, path: str) -> None:
    """The client would say of it no more than that OpenSSL failed."""
    if "-----BEGIN" in path:
        pem = name.replace(".location", ".pem")
        raise ConfigError(f"The property {name!r} is no path but the text of a file: set {pem!r}.")
    try:
        if path not in _NO_FILES and not Path(path).is_dir():
            Path(path).open("rb").close()
    except OSError as error:
        raise ConfigError(f"The property {name!r} is {path}, which cannot be read: {error.strerror}.") from None


def _mechanism(values: Mapping[str, Any]) -> object:
    return values.get("sasl.mechanism", values.get("sasl.mechanisms"))


def _has_tokens(values: Mapping[str, Any]) -> bool:
    unsecured = str(values.get("enable.sasl.oauthbearer.unsecure.jwt", "")).lower() == "true"
    return unsecured or not _TOKEN_SOURCES.isdisjoint(values.keys())
