"""Documents of a server: written, read, and what is said where they cannot be."""

import urllib.parse


def path_of(document_id, collection=None):
    prefix = f"/collections/{collection}" if collection else ""
    return f"{prefix}/documents/" + urllib.parse.quote(document_id, safe="")


def put(server, documents, collection=None, **more):
    prefix = f"/collections/{collection}" if collection else ""
    answer = server.post(f"{prefix}/documents", documents, **more)
    assert answer.status == 200, answer
    count = len(documents) if isinstance(documents, list) else 1
    assert answer.json["upserted"] == count == len(answer.json["ids"])
    return answer.json["ids"]


def walk(server, collection=None, **parameters):
    """All documents of a collection, page by page."""
    prefix = f"/collections/{collection}" if collection else ""
    cursor, found = None, []
    while True:
        query = dict(parameters, **({"cursor": cursor} if cursor else {}))
        page = server.get(f"{prefix}/documents?" + urllib.parse.urlencode(query)).json
        found += page["documents"]
        cursor = page["cursor"]
        if cursor is None:
            return found


def error_of(answer, status):
    assert answer.status == status, answer
    error = answer.json["error"]
    assert error.keys() == {"code", "message"} and error["message"].endswith(".")
    return error
