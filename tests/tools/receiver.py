"""A receiver of web hooks on loopback that misbehaves as it is told, and keeps what came."""

import http.server
import json
import threading
import time

import standardwebhooks

from serving import until

SECRET = "whsec_bW91bHQtdGVzdHMtc2lnbi13aXRoLXRoaXMtb25l"


class Attempt:
    """One POST, verified at once, for a signature is good for some minutes only."""

    def __init__(self, headers, body, secret):
        self.at = time.monotonic()
        self.headers, self.body = headers, body
        self.id = headers["webhook-id"]
        self.timestamp = int(headers["webhook-timestamp"])
        message = json.loads(body)
        assert message.keys() == {"type", "timestamp", "data"}, message
        self.type, self.data = message["type"], message["data"]
        self.verified = secret is not None and \
            standardwebhooks.Webhook(secret).verify(body, dict(headers)) == message


class Receiver:
    """misbehave is called for each attempt, with it and the handler; what it returns is the status
    (None: no answer, the connection is closed). By default every attempt is answered with 204."""

    def __init__(self, secret=SECRET, misbehave=None, port=0):
        self.secret, self.attempts, self.failures = secret, [], []
        self.misbehave = misbehave or (lambda attempt, handler: 204)
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                try:
                    body = self.rfile.read(int(self.headers["Content-Length"]))
                    assert self.headers["Content-Type"] == "application/json"
                    assert self.headers["User-Agent"].startswith("moult/")
                    attempt = Attempt(self.headers, body, receiver.secret)
                    receiver.attempts.append(attempt)
                except (AssertionError, KeyError, ValueError, TypeError,
                        standardwebhooks.WebhookVerificationError) as error:
                    receiver.failures.append(error)
                    self.close_connection = True
                    return
                status = receiver.misbehave(attempt, self)
                if status is None:
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self):
                receiver.failures.append(f"GET {self.path}: a redirect was followed")

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *arguments: None   # Clients that go are no news.
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook?token=hunter2"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()
        assert not self.failures, self.failures

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def messages(self):
        """What came, once each, in the order of the first attempts."""
        return list({attempt.id: attempt for attempt in reversed(self.attempts)}.values())[::-1]

    def types(self):
        return [attempt.type for attempt in self.messages()]

    def wait_for(self, kind, count=1):
        """The attempt with which the `count`th message of that type came."""
        def there():
            found = [attempt for attempt in self.messages() if attempt.type == kind]
            return found[count - 1] if len(found) >= count else None
        return until(f"{kind} to be told; came {self.types()}", there)
