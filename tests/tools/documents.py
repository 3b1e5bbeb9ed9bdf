"""A server of documents on loopback, of the standard library, that keeps them in memory, and
misbehaves on demand: for what a real one does only under load, or when a network breaks.

    with Documents() as server:
        server.misbehave(lambda number: (503, {"Retry-After": "1"}) if number == 3 else None)
"""

import http.server
import json
import threading
import time
import urllib.parse


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, value, headers=None):
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status, message, headers=None):
        self.answer(status, {"error": {"code": "refused", "message": message}}, headers)

    def misbehaves(self, body=None):
        """True: that was the answer."""
        owner = self.server.owner
        number = owner.count(self.client_address, self.path)
        trouble = owner.trouble(number, body) if owner.trouble else None
        if isinstance(trouble, float):
            time.sleep(trouble)
        elif isinstance(trouble, tuple):
            self.refuse(trouble[0], f"trouble {trouble[0]}", trouble[1])
            return True
        elif trouble:
            if trouble == "hang":
                owner.over.wait(60)
            elif trouble == "lose":        # It is taken, and nobody hears of it.
                owner.take(json.loads(body))
            self.close_connection = True
            return True
        return False

    def do_GET(self):
        owner = self.server.owner
        url = urllib.parse.urlsplit(self.path)
        parameters = dict(urllib.parse.parse_qsl(url.query))
        if self.misbehaves():
            return
        if not url.path.endswith("/documents"):
            self.answer(200, {"name": "default", "documents": len(owner.kept)})
            return
        begin, count = int(parameters.get("cursor", 0)), int(parameters["limit"])
        with owner.lock:
            documents = list(owner.kept.values())
        more = begin + count < len(documents)
        self.answer(200, {"documents": documents[begin:begin + count],
                          "cursor": str(begin + count) if more else None})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        owner = self.server.owner
        if self.misbehaves(body):
            return
        documents = json.loads(body)
        if self.path.endswith("/search"):
            owner.searches.append(documents)
            self.answer(200, {"results": owner.results})
            return
        for index, document in enumerate(documents):
            if owner.refuses and owner.refuses(document):
                self.refuse(400, f"Document {index} is refused.")
                return
        owner.take(documents)
        self.answer(200, {"upserted": len(documents), "ids": [d["id"] for d in documents]})


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that has gone is what some tests are about."""


class Documents:
    def __init__(self):
        self.kept, self.requests, self.connections = {}, [], set()
        self.trouble = self.refuses = None
        self.searches, self.results = [], []
        self.lock, self.over = threading.Lock(), threading.Event()
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.owner = self
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.over.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def misbehave(self, trouble):
        """trouble(number of the request) → "close", "hang", "lose", (status, headers), seconds."""
        self.trouble = trouble and (lambda number, body: trouble(number))

    def misbehave_from(self, first, trouble):
        """At each portion with a document of that number or a later one."""
        self.trouble = lambda number, body: trouble if any(
            int(document["id"]) >= first for document in json.loads(body)) else None

    def count(self, address, path):
        with self.lock:
            self.requests.append(urllib.parse.unquote(path))
            self.connections.add(address)
            return len(self.requests)

    def take(self, documents):
        with self.lock:
            for document in documents:
                # The order of a dict is that of the first insertion.
                self.kept.pop(document["id"], None)
                self.kept[document["id"]] = document
