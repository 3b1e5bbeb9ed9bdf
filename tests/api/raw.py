"""HTTP by hand, for what no client library sends."""

import socket

TIMEOUT = 60


def dial(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT)


def post(path, body, *headers):
    body = body if isinstance(body, bytes) else body.encode()
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json",
             f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def get(path, *headers):
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body


def hear(connection, without_body=False):
    """One answer from a connection, or None where it is closed before a whole head has come."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(1)
        if not more:
            return None
        data += more
    lines = data.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in
               (line.partition(":") for line in lines[1:] if line)}
    size = 0 if without_body else int(headers.get("content-length", 0))
    body = b""
    while len(body) < size:
        more = connection.recv(size - len(body))
        assert more, "closed in the middle of a body"
        body += more
    return Reply(int(lines[0].split()[1]), headers, body)


def is_closed(connection):
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def ask(server, request):
    with dial(server) as connection:
        connection.sendall(request)
        return hear(connection)
