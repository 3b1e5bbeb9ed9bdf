"""A Hugging Face hub and a plain model server on loopback, of the standard library, that misbehave
on demand, and remember what they were asked.

    with Hub() as hub:
        commit = hub.publish("org/name", folder)
        hub.misbehave("model.safetensors", close_after(1000))
"""

import email.utils
import hashlib
import http.server
import itertools
import json
import pathlib
import ssl
import threading
import urllib.parse


# ---- Misbehaviour: each takes the handler and the answer that would be right ----

class Reply:
    def __init__(self, status, body=b"", **headers):
        self.status, self.body = status, body
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def answers(status, body=b"", **headers):
    """Another answer altogether."""
    return lambda handler, reply: handler.send(Reply(status, body, **headers))


def close_after(count):
    """The length of all, so many bytes, and the end."""
    def act(handler, reply):
        handler.send_head(reply, len(reply.body))
        handler.wfile.write(reply.body[:count])
        handler.close_connection = True
    return act


def wrong_bytes(handler, reply):
    """The right length."""
    body = bytearray(reply.body)
    body[len(body) // 2] ^= 1
    reply.body = bytes(body)
    handler.send(reply)


def longer(handler, reply):
    reply.body += b"x"
    handler.send(reply)


def without_length(handler, reply):
    handler.send_head(reply, None)
    handler.wfile.write(reply.body)
    handler.close_connection = True


def hangs_after(count):
    """So many bytes, and nothing more until the test is over."""
    def act(handler, reply):
        handler.send_head(reply, len(reply.body))
        handler.wfile.write(reply.body[:count])
        handler.wfile.flush()
        handler.server.owner.over.wait(60)
        handler.close_connection = True
    return act


hangs = hangs_after(100)


def ignores_range(handler, reply):
    handler.send(Reply(200, handler.whole))


def redirects_to(url):
    return lambda handler, reply: handler.send(Reply(302, Location=url + handler.path))


def then_behaves(act, call):
    """Behaves, and then does something: what a moment later is another."""
    def both(handler, reply):
        act(handler, reply)
        call()
    return both


def behaves(handler, reply):
    handler.send(reply)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def right_reply(self):
        return self.server.owner.reply(urllib.parse.unquote(self.path.partition("?")[0]),
                                       dict(urllib.parse.parse_qsl(self.path.partition("?")[2])),
                                       self.headers)

    def do_HEAD(self):
        reply = self.right_reply()
        self.send_head(reply, len(reply.body))

    def do_GET(self):
        owner = self.server.owner
        with owner.lock:
            owner.requests.append((self.path, dict(self.headers)))
            act = owner.next_fault(self.path)
        reply = self.right_reply()
        self.whole = reply.body
        start = self.headers.get("Range", "").removeprefix("bytes=").rstrip("-")
        if start and reply.status == 200:
            start, size = int(start), len(self.whole)
            reply.headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
            reply.status, reply.body = 206, self.whole[start:]
            if start >= size:
                reply = Reply(416)
        try:
            (act or behaves)(self, reply)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            self.close_connection = True

    def send_head(self, reply, length):
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if length is None:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def send(self, reply):
        self.send_head(reply, len(reply.body))
        self.wfile.write(reply.body)

    def log_message(self, *arguments):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """Clients go away; what matters is in the answers."""


class Loopback:
    """What both have: a port, rules of misbehaviour, a memory."""

    def __init__(self, certificate=None, port=0):
        self.lock, self.over = threading.Lock(), threading.Event()
        self.requests, self.faults = [], []
        self.server = Server(("127.0.0.1", port), Handler)
        self.server.owner = self
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_port
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.over.set()
        self.server.shutdown()
        self.server.server_close()

    def misbehave(self, part, act, times=1):
        """The next requests whose path has that part in it."""
        with self.lock:
            self.faults.append([part, act, times])

    def behave(self):
        with self.lock:
            self.faults.clear()

    def next_fault(self, path):
        for fault in self.faults:
            if fault[0] in path and fault[2] > 0:
                fault[2] -= 1
                return fault[1]
        return None

    def asked(self, part):
        """The headers of the requests whose path has that part in it."""
        with self.lock:
            return [headers for path, headers in self.requests if part in path]

    def forget(self):
        with self.lock:
            self.requests.clear()


def files_of(folder):
    folder = pathlib.Path(folder)
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*")) if path.is_file()}


def blob_name(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Hub(Loopback):
    """Repositories with branches and commits; safetensors lie in LFS, as on the real one."""

    def __init__(self, token=None, page_size=1000, **more):
        super().__init__(**more)
        self.token, self.page_size = token, page_size
        self.commits, self.branches, self.extra = {}, {}, []
        self.count = itertools.count()

    def publish(self, repo, folder, branch="main"):
        """Returns the commit that the branch is now."""
        files = files_of(folder)
        blobs = [(name, blob_name(data)) for name, data in files.items()]
        name = f"{repo} {next(self.count)} {blobs}".encode()
        commit = hashlib.sha1(name).hexdigest()
        self.commits[repo, commit] = files
        self.branches[repo, branch] = commit
        return commit

    def forget_commit(self, repo, commit):
        del self.commits[repo, commit]

    def reply(self, path, query, headers):
        if self.token and headers.get("Authorization") != f"Bearer {self.token}":
            return Reply(401, X_Error_Code="RepoNotFound")
        parts = path.strip("/").split("/")
        if len(parts) < 4:
            return Reply(404)
        if parts[:2] == ["api", "models"]:
            repo, kind, revision = "/".join(parts[2:4]), parts[4], "/".join(parts[5:])
        else:
            repo, kind, revision = "/".join(parts[:2]), parts[2], parts[3]
        if not any(known == repo for known, _ in self.commits):
            return Reply(404, X_Error_Code="RepoNotFound")
        commit = self.branches.get((repo, revision), revision)
        files = self.commits.get((repo, commit))
        if files is None:
            return Reply(404, X_Error_Code="RevisionNotFound")
        if kind == "revision":
            body = {"id": repo, "sha": commit, "siblings": [{"rfilename": name} for name in files]}
            return Reply(200, json.dumps(body).encode())
        if kind == "tree":
            return self.tree(path, files, int(query.get("cursor", 0)))
        return self.file(commit, files, "/".join(parts[4:]))

    def tree(self, path, files, at):
        entries = [{"type": "directory", "path": "1_Pooling", "size": 0, "oid": "0" * 40}]
        entries += [self.entry(name, data) for name, data in files.items()] + self.extra
        page = Reply(200, json.dumps(entries[at:at + self.page_size]).encode())
        if at + self.page_size < len(entries):
            page.headers["Link"] = (f"<{self.url}{path}?recursive=true&cursor="
                                    f"{at + self.page_size}>; rel=\"next\"")
        return page

    def entry(self, name, data):
        entry = {"type": "file", "path": name, "size": len(data), "oid": blob_name(data)}
        if name.endswith(".safetensors"):
            entry["oid"] = "f" * 40
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data),
                            "pointerSize": 134}
        return entry

    def file(self, commit, files, name):
        data = files.get(name)
        if data is None:
            return Reply(404, X_Error_Code="EntryNotFound")
        entry = self.entry(name, data)
        etag = entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]
        return Reply(200, data, X_Repo_Commit=commit, ETag=f'"{etag}"',
                     X_Linked_Size=str(len(data)), X_Linked_Etag=f'"{etag}"')


class ModelServer(Loopback):
    """A folder as it is on the disk at each moment."""

    def __init__(self, folder, tags="both", **more):
        super().__init__(**more)
        self.folder, self.tags = pathlib.Path(folder), tags

    def reply(self, path, query, headers):
        """As nginx does it: both validators are made of time and size, in whole seconds."""
        file = self.folder / path.lstrip("/")
        if not file.is_file():
            return Reply(404)
        changed, size = int(file.stat().st_mtime), file.stat().st_size
        etag, date = f'"{changed:x}-{size:x}"', email.utils.formatdate(changed, usegmt=True)
        tags = {"ETag": etag, "Last_Modified": date} if self.tags == "both" else \
            {"Last_Modified": date} if self.tags == "date" else {}
        known = headers.get("If-None-Match") == etag or headers.get("If-Modified-Since") == date
        return Reply(304, **tags) if tags and known else Reply(200, file.read_bytes(), **tags)
