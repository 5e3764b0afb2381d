"""Serves a WSGI application on loopback for one test, with the standard library alone.

It counts the requests to the token endpoint, and loses or holds back answers that the application has
committed. README.md has the variables and the requests of /_ctl.
"""
import io
import json
import os
import signal
import sys
import threading
import time
from socketserver import ThreadingMixIn
from urllib.parse import parse_qsl
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer


def number(name, default):
    value = int(os.environ.get(name, default))
    if value < 0:
        raise ValueError(f"{name} is less than 0")
    return value


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    # The default of 5 refuses connections when many sessions refresh at once.
    request_queue_size = 128


class Handler(WSGIRequestHandler):
    def log_message(self, *_):
        pass


def listen():
    """Listens on PORT, or on a free port if PORT is 0. Returns the server and its URL."""
    server = Server(("127.0.0.1", number("PORT", 0)), Handler)
    return server, f"http://127.0.0.1:{server.server_port}"


class Observer:
    """The application, its counters and its faults.

    `set_secret(client_id, secret)` gives a client of the application another secret.
    """

    def __init__(self, app, token_path, set_secret):
        self.app, self.token_path, self.set_secret = app, token_path, set_secret
        self.lock = threading.Lock()
        self.faults = {"drop_after_commit": 0, "delay_ms": 0}
        self.counts = dict.fromkeys(
            ("token_requests", "established", "refreshes", "refresh_errors", "presented_again", "dropped"), 0)
        self.presented = set()

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"] == "/_ctl":
            return self.control(environ, start_response)
        if environ["PATH_INFO"] == self.token_path:
            return self.token(environ, start_response)
        return self.app(environ, start_response)

    def token(self, environ, start_response):
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"] or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        answer = {}

        def keep(status, headers, exc_info=None):
            answer.update(status=status, headers=headers)

        # The application commits before it answers, so that all is done when its answer is here.
        answered = self.app(environ, keep)
        parts = list(answered)
        getattr(answered, "close", lambda: None)()
        delay_ms, is_lost = self.count(dict(parse_qsl(body.decode())), answer["status"].startswith("200"))
        time.sleep(delay_ms / 1000)
        if is_lost:
            # For this error, wsgiref closes the connection and answers nothing.
            raise ConnectionAbortedError
        start_response(answer["status"], answer["headers"])
        return parts

    def count(self, form, is_ok):
        with self.lock:
            self.counts["token_requests"] += 1
            if form.get("grant_type") == "refresh_token":
                token = form.get("refresh_token")
                self.counts["presented_again"] += token in self.presented
                self.presented.add(token)
                self.counts["refreshes" if is_ok else "refresh_errors"] += 1
            else:
                self.counts["established"] += is_ok
            is_lost = is_ok and self.faults["drop_after_commit"] > 0
            if is_lost:
                self.faults["drop_after_commit"] -= 1
                self.counts["dropped"] += 1
            return self.faults["delay_ms"], is_lost

    def control(self, environ, start_response):
        status, answer = "200 OK", {}
        if environ["REQUEST_METHOD"] == "POST":
            wish = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"] or 0)))
            for client, secret in wish.pop("client_secrets", {}).items():
                self.set_secret(client, secret)
            if wish.keys() <= self.faults.keys():
                self.faults.update(wish)
            else:
                status, answer = "400 Bad Request", {"error": f"not faults: {sorted(wish)}"}
        with self.lock:
            answer = {**self.faults, "counts": self.counts, **answer}
            body = json.dumps(answer).encode()
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]


def stop(*_):
    os._exit(0)


def stop_with_stdin():
    sys.stdin.buffer.read()
    stop()


def serve(server, url, observer):
    """Prints "READY <url>" and serves until SIGTERM, or until stdin closes if STOP_WITH_STDIN is 1."""
    for number_of_signal in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number_of_signal, stop)
    if os.environ.get("STOP_WITH_STDIN") == "1":
        threading.Thread(target=stop_with_stdin, daemon=True).start()
    server.set_app(observer)
    print(f"READY {url}", flush=True)
    server.serve_forever()
