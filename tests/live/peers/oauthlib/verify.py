"""Verifies signed requests with oauthlib: one JSON object a line on stdin, with method, url and the
Authorization header. Says how many were right, and fails at the first that is not."""

import json
import sys
from urllib.parse import urlsplit

from oauthlib.oauth1.rfc5849 import signature

SECRETS = json.loads(sys.argv[1])


def verify(request):
    headers = {"Authorization": request["authorization"]}
    collect = signature.collect_parameters
    every = dict(collect(headers=headers, exclude_oauth_signature=False))
    for name in ["consumer_key", "nonce", "signature_method", "timestamp", "token", "version"]:
        assert every["oauth_" + name], name
    query = urlsplit(request["url"]).query
    params = signature.normalize_parameters(collect(uri_query=query, headers=headers))
    uri = signature.base_string_uri(request["url"])
    base = signature.signature_base_string(request["method"], uri, params)
    expected = signature.sign_hmac_sha1(base, SECRETS["client"], SECRETS["token"])
    assert every["oauth_signature"] == expected, (request, base)


count = 0
for line in sys.stdin:
    verify(json.loads(line))
    count += 1
print(count)
