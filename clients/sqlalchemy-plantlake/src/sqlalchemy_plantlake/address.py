"""Translates an SQLAlchemy URL into the address and options of the ADBC driver."""

from __future__ import annotations

from pathlib import Path

from adbc_driver_flightsql import DatabaseOptions
from sqlalchemy.engine.url import URL
from sqlalchemy.exc import ArgumentError

DEFAULT_PORT = 50051
YES, NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
OPTIONS = ("api_key", "timeout", "tls", "tls_ca", "tls_skip_verify")


def driver_arguments(url: URL) -> tuple[str, dict[str, str]]:
    """Returns the address, such as `grpc+tls://history.example:50051`, and the options of the driver.

    Raises `ArgumentError` if an option is unknown or has an invalid value.
    """
    query = {name: value if isinstance(value, str) else value[-1] for name, value in url.query.items()}
    for name in query:
        if name not in OPTIONS and not name.startswith("adbc."):
            raise ArgumentError(f'unknown option "{name}" in the URL; use one of {", ".join(OPTIONS)}, or an option of the ADBC driver')
    if url.database:
        raise ArgumentError(f'unknown database "{url.database}" in the URL; a server of plantlake has one database, end the address with /')
    options = {name: value for name, value in query.items() if name.startswith("adbc.")}
    if "api_key" in query:
        if url.username or url.password:
            raise ArgumentError("the URL has an api_key and a user; use one of them")
        options[DatabaseOptions.AUTHORIZATION_HEADER.value] = f"Bearer {query['api_key']}"
    elif url.username:
        options["username"] = url.username
        options["password"] = str(url.password or "")
    has_tls = switch(query, "tls", True)
    if "tls_ca" in query:
        options[DatabaseOptions.TLS_ROOT_CERTS.value] = read_certificates(query["tls_ca"])
    if switch(query, "tls_skip_verify", False):
        options[DatabaseOptions.TLS_SKIP_VERIFY.value] = "true"
    if "timeout" in query:
        seconds = positive_number(query["timeout"])
        for name in (DatabaseOptions.TIMEOUT_QUERY, DatabaseOptions.TIMEOUT_FETCH):
            options[name.value] = str(seconds)
    host = url.host or "127.0.0.1"
    host = f"[{host}]" if ":" in host else host
    return f"{'grpc+tls' if has_tls else 'grpc'}://{host}:{url.port or DEFAULT_PORT}", options


def switch(query: dict[str, str], name: str, default: bool) -> bool:
    text = query.get(name, "true" if default else "false").lower()
    if text not in YES + NO:
        raise ArgumentError(f'invalid value "{text}" of {name}; use true or false')
    return text in YES


def positive_number(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise ArgumentError(f'invalid timeout "{text}"; use seconds, such as 30')
    return seconds


def read_certificates(path: str) -> str:
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f'cannot read tls_ca "{path}": {error}; name a file in PEM format') from error
