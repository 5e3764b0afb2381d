"""canaille, an identity provider, on loopback and on a file of SQLite.

What it does with tokens, and its pages, are its own; this file configures it, and adds two users and two
clients. README.md lists the variables.
"""
import os
import sys
from pathlib import Path

# Authlib refuses URLs without TLS otherwise.
os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "true"

from canaille import create_app  # noqa: E402
from canaille.app import models  # noqa: E402
from sqlalchemy import event  # noqa: E402
from sqlalchemy.engine import Engine  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent.parent / "wsgi"))
from wsgi_peer import Observer, listen, number, serve  # noqa: E402


@event.listens_for(Engine, "connect")
def without_fsync(connection, _):
    # Faster, and a killed process loses nothing: only a machine could.
    connection.execute("PRAGMA synchronous=OFF")


def configuration(url):
    return {
        "SECRET_KEY": "for tests only",
        "SERVER_NAME": url.removeprefix("http://"),
        "PREFERRED_URL_SCHEME": "http",
        "CANAILLE": {
            "DATABASE": "sql",
            "FORCE_HTTPS": False,
            "ENABLE_INTRUDER_LOCKOUT": False,
            "LOGGING": {
                "version": 1,
                "handlers": {"default": {"class": "logging.StreamHandler"}},
                "root": {"level": "ERROR", "handlers": ["default"]},
            },
        },
        "CANAILLE_SQL": {
            "DATABASE_URI": f"sqlite:///{os.environ['DB']}",
            # Fast: the passwords here are no secrets.
            "PASSWORD_SCHEMES": "plaintext",
        },
        "CANAILLE_OIDC": {
            "REQUIRE_NONCE": False,
            # No domain is trusted, so that users are asked for their consent.
            "TRUSTED_DOMAINS": [],
            # Access tokens are JWTs of these claims and of whole seconds. Without a claim that is never
            # the same, the second token of a user within a second is the first, and an answer 500.
            "USERINFO_MAPPING": {"WEBSITE": "https://example.com/{{ range(1000000000000) | random }}"},
        },
        # Of Authlib, by grant. Here a refresh token expires with its access token.
        "OAUTH2_TOKEN_EXPIRES_IN": dict.fromkeys(
            ("authorization_code", "password", "refresh_token"), number("AT_TTL", 60)),
    }


def populate(backend):
    if backend.query(models.User):
        return
    for name in ("alice", "bob"):
        user = models.User(
            user_name=name, formatted_name=name, family_name=name, emails=[f"{name}@example.com"], password="ok")
        backend.save(user)
    for client, grant in (("basic", "password"), ("code", "authorization_code")):
        known = models.Client(
            client_id=client,
            client_secret=f"{client}-secret",
            client_name=client,
            redirect_uris=["http://127.0.0.1/callback"],
            grant_types=[grant, "refresh_token"],
            response_types=["code"],
            scope=["openid", "profile"],
            token_endpoint_auth_method="client_secret_basic",
        )
        backend.save(known)
        known.audience = [known]
        backend.save(known)


def main():
    server, url = listen()
    app = create_app(configuration(url))
    with app.app_context(), app.backend.session():
        populate(app.backend)

    def set_secret(client, secret):
        with app.app_context(), app.backend.session():
            known = app.backend.get(models.Client, client_id=client)
            known.client_secret = secret
            app.backend.save(known)

    serve(server, url, Observer(app, "/oauth/token", set_secret))


if __name__ == "__main__":
    main()
