"""`moult import`, `moult export` and `moult search` against a server: what goes in comes out."""

import csv
import json
import random
import subprocess

import pytest

from fixtures import moult
from loading import BUILD
from serving import until


@pytest.fixture
def name():
    """A collection that no other test has."""
    return "c" + random.randbytes(8).hex()


def run(server, command, *arguments, code=0):
    done = moult(command, "--url", f"http://127.0.0.1:{server.port}", *arguments)
    assert done.returncode == code, done
    return done.stdout.decode() + done.stderr.decode()


def write_lines(path, documents):
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    return path


def exported(server, path, *arguments):
    """By id: the order of pages is the server's."""
    run(server, "export", "--output", path, *arguments)
    documents = [json.loads(line) for line in path.read_text().split("\n")[:-1]]
    assert len({document["id"] for document in documents}) == len(documents)
    return sorted(documents, key=lambda document: document["id"])


def odd_documents():
    """What JSON, UTF-8 and people can do."""
    generator = random.Random(1)
    values = [None, True, 0, -7, 2 ** 53, 0.1, 1e300, "", "ü\U0001F98B", [1, [2, {}]], {"a": {}}]
    texts = ["\u0000", "\u2028\u2029\r\n\t", "\"\\/", "e\u0301", "\U0010FFFF", "a" * 5000,
             "\u202Eright to left", "x"]
    return [{"id": f"{number:04}-{generator.choice('aü/?%# ')}",
             "text": generator.choice(texts) + str(number),
             "metadata": {f"k{key}": generator.choice(values)
                          for key in range(generator.randrange(5))}}
            for number in range(1500)]


def without_empty(documents):
    """No metadata and {} are one."""
    return [{**document, "metadata": document.get("metadata", {})} for document in documents]


def test_what_goes_in_comes_out_and_goes_in_again(tiny, name, tmp_path):
    documents = odd_documents()
    path = write_lines(tmp_path / "in.jsonl", documents)
    assert "imported 1,500 documents into " + name in run(
        tiny, "import", path, "--collection", name)
    first = exported(tiny, tmp_path / "out.jsonl", "--collection", name)
    assert without_empty(first) == without_empty(documents)
    run(tiny, "import", tmp_path / "out.jsonl", "--collection", name + "2")
    assert exported(tiny, tmp_path / "again.jsonl", "--collection", name + "2") == first


def test_csv_goes_in(tiny, name, tmp_path):
    rows = [{"id": f"{number:03}", "title": f"Title, \"{number}\"", "text": f"one\ntwo {number}",
             "year": str(1900 + number), "note": "" if number % 2 else "x"}
            for number in range(100)]
    path = tmp_path / "rows.csv"
    with open(path, "w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    run(tiny, "import", path, "--collection", name, "--numbers")
    assert exported(tiny, tmp_path / "out.jsonl", "--collection", name) == [
        {"id": row["id"], "text": row["text"],
         "metadata": {"title": row["title"], "year": int(row["year"]),
                      **({"note": row["note"]} if row["note"] else {})}} for row in rows]


def test_what_the_server_refuses_is_a_line(tiny, name, tmp_path):
    documents = [{"id": str(number), "text": f"text {number}"} for number in range(50)]
    documents[20]["id"] = "tab\there"
    documents[30]["text"] = "x" * (1 << 20) + "y"
    path = write_lines(tmp_path / "refused.jsonl", documents)
    said = run(tiny, "import", path, "--collection", name, code=1)
    assert f"Line 21 of {path}: documents[0]" in said and "20 documents imported" in said
    said = run(tiny, "import", path, "--collection", name, "--skip-bad")
    assert "  line 21: " in said and "  line 31: " in said
    assert len(exported(tiny, tmp_path / "out.jsonl", "--collection", name)) == 48


def test_errors_are_the_servers_sentences(tiny, tmp_path):
    path = write_lines(tmp_path / "x.jsonl", [{"text": "x"}])
    assert "A collection's name" in run(tiny, "import", path, "--collection", "a b", code=1)
    assert "none" in run(tiny, "export", "--collection", "none", code=1)
    assert "none" in run(tiny, "search", "x", "--collection", "none", code=1)


def documents_in(server):
    answer = server.get("/collections/default")
    return answer.json["documents"] if answer.status == 200 else 0


def test_server_and_client_are_killed_and_each_document_is_there_once(serve, tiny_model, tmp_path):
    server = serve(tiny_model)
    texts = [f"text {number} " + "word " * (number % 50) for number in range(6000)]
    path = write_lines(tmp_path / "many.jsonl", [{"text": text} for text in texts])
    command = [BUILD / "moult", "import", "--url", f"http://127.0.0.1:{server.port}", "--batch",
               "4", path]
    clients = [subprocess.Popen(command)]
    for count, kill in ((600, "server"), (1500, "client"), (2400, "server"), (3300, "both")):
        until("more to be imported", lambda: documents_in(server) > count)
        assert clients[-1].poll() is None, "it ended too early for this test"
        if kill != "server":
            clients[-1].kill()
            clients[-1].wait()
        if kill != "client":
            server.kill()
            server.start()
        if kill != "server":
            clients.append(subprocess.Popen(command))
    assert clients[-1].wait(240) == 0
    assert not (tmp_path / "many.jsonl.moult-progress").exists()
    found = exported(server, tmp_path / "out.jsonl")
    assert sorted(document["text"] for document in found) == sorted(texts)
