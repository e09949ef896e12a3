"""HTTPS: the settings of it, checked before anything is loaded, in the form uvicorn takes them."""

from __future__ import annotations

import ssl
from typing import TypedDict

from engine.errors import ConfigError
from server.config import ServerConfig


class TlsOptions(TypedDict, total=False):
    """Arguments of `uvicorn.Config`; empty for plain HTTP."""

    ssl_certfile: str
    ssl_keyfile: str | None
    ssl_keyfile_password: str
    ssl_ca_certs: str | None
    ssl_cert_reqs: int


def tls_options(config: ServerConfig) -> TlsOptions:
    """The options for these settings.

    Raises:
        ConfigError: a file cannot be used.
    """
    if not config.ssl_certfile:
        return {}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    keyfile = config.ssl_keyfile or None
    try:
        # a password is always given, or OpenSSL would ask for one on the terminal
        context.load_cert_chain(config.ssl_certfile, keyfile, config.ssl_keyfile_password)
    except OSError as problem:  # SSLError is one
        raise ConfigError(
            f"ssl_certfile {config.ssl_certfile} with ssl_keyfile {keyfile or '(the same file)'} cannot be used: "
            f"{problem.strerror or problem}. Both must be PEM and belong together; an encrypted key needs "
            "ssl_keyfile_password."
        ) from None
    options = TlsOptions(ssl_certfile=config.ssl_certfile, ssl_keyfile=keyfile)
    if config.ssl_keyfile_password:
        options["ssl_keyfile_password"] = config.ssl_keyfile_password
    if config.ssl_ca_certs:
        try:
            context.load_verify_locations(config.ssl_ca_certs)
        except OSError as problem:
            raise ConfigError(
                f"ssl_ca_certs {config.ssl_ca_certs} cannot be used: {problem.strerror or problem}."
            ) from None
        options |= TlsOptions(ssl_ca_certs=config.ssl_ca_certs, ssl_cert_reqs=ssl.CERT_REQUIRED)
    return options
