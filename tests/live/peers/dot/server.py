"""django-oauth-toolkit, an authorization server, on loopback and on a file of SQLite.

What it does with tokens is its own; this file configures it, and adds two users, two clients, a page to
log in, and an API at /me. README.md lists the variables.
"""
import os
import sys
from pathlib import Path

import django
from django.conf import settings

sys.path.insert(0, str(Path(__file__).parent.parent / "wsgi"))
from wsgi_peer import Observer, listen, number, serve  # noqa: E402

LOGIN_PAGE = """<form method="post">{% csrf_token %}{{ form.errors }}{{ form }}
<input type="hidden" name="next" value="{{ next }}"><button>Log in</button></form>"""

APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "oauth2_provider"]

settings.configure(
    SECRET_KEY="for tests only",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    DATABASES={"default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["DB"],
        "OPTIONS": {
            "timeout": 30,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }},
    INSTALLED_APPS=APPS,
    # Tables are made from the models: 40 migrations take 1.5 s.
    MIGRATION_MODULES={app.rpartition(".")[2]: None for app in APPS},
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    TEMPLATES=[{
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {"loaders": [
            ("django.template.loaders.locmem.Loader", {"registration/login.html": LOGIN_PAGE}),
            "django.template.loaders.app_directories.Loader",
        ]},
    }],
    # Fast: the passwords and secrets here are no secrets.
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    LOGIN_URL="/login/",
    # Answers 4xx are what tests ask for.
    LOGGING={"version": 1, "disable_existing_loggers": False, "loggers": {
        "oauth2_provider": {"level": "ERROR"},
        "django.request": {"level": "ERROR"},
    }},
    OAUTH2_PROVIDER={
        "SCOPES": {"read": "read", "write": "write"},
        "DEFAULT_SCOPES": ["read"],
        "ACCESS_TOKEN_EXPIRE_SECONDS": number("AT_TTL", 60),
        "REFRESH_TOKEN_EXPIRE_SECONDS": number("RT_TTL", 3600),
        "REFRESH_TOKEN_GRACE_PERIOD_SECONDS": number("GRACE_S", 0),
        # RFC 9700 section 4.14.2: reuse revokes the tokens of the grant.
        "REFRESH_TOKEN_REUSE_PROTECTION": True,
        "ROTATE_REFRESH_TOKEN": True,
    },
)
django.setup()

from django.contrib.auth import get_user_model  # noqa: E402
from django.contrib.auth.views import LoginView  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import connection  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.urls import include, path  # noqa: E402
from oauth2_provider import urls as oauth_urls  # noqa: E402
from oauth2_provider.decorators import protected_resource  # noqa: E402
from oauth2_provider.models import get_application_model  # noqa: E402

urlpatterns = [
    path("login/", LoginView.as_view()),
    # Answers 200 to a valid access token, and 403 otherwise.
    path("me", protected_resource()(lambda request: HttpResponse())),
    path("", include(oauth_urls.metadata_urlpatterns)),
    path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
]


def populate():
    call_command("migrate", run_syncdb=True, verbosity=0, interactive=False)
    application, user = get_application_model(), get_user_model()
    if user.objects.exists():
        return
    alice, _ = [user.objects.create_user(name, password="ok") for name in ("alice", "bob")]
    # A client has one grant type here, and refresh tokens beside it.
    for client, grant in (("basic", application.GRANT_PASSWORD), ("code", application.GRANT_AUTHORIZATION_CODE)):
        application.objects.create(
            client_id=client,
            client_secret=f"{client}-secret",
            client_type=application.CLIENT_CONFIDENTIAL,
            authorization_grant_type=grant,
            redirect_uris="http://127.0.0.1/callback",
            name=client,
            user=alice,
        )


def set_secret(client, secret):
    known = get_application_model().objects.get(client_id=client)
    known.client_secret = secret
    known.save()
    connection.close()  # of this thread, which ends


def main():
    server, url = listen()
    populate()
    serve(server, url, Observer(get_wsgi_application(), "/o/token/", set_secret))


if __name__ == "__main__":
    main()
