"""`moult export` and `moult search` and a server that misbehaves."""

import json
import os
import signal

from fixtures import moult
from serving import until
from terminal import Terminal
from test_import import numbered, progress_of, server  # noqa: F401


def run(server, *arguments, code=0):  # noqa: F811
    done = moult(arguments[0], "--url", server.url, *arguments[1:])
    assert done.returncode == code, done
    return done.stdout.decode(), done.stderr.decode()


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


# ---- Export ----

def test_lines_that_import_takes(server, tmp_path):  # noqa: F811
    documents = numbered(1200) + [{"id": "ü", "text": "\u0000\n\"", "metadata": {"a": [None, 0.5]}},
                                  {"id": "bare", "text": "x"}]
    server.take(documents)
    path = tmp_path / "all.jsonl"
    said, _ = run(server, "export", "--output", path)
    assert f"exported 1,202 documents into {path}" in said
    assert read_lines(path) == documents
    assert sorted(tmp_path.iterdir()) == [path]
    said, _ = run(server, "export")
    assert said == path.read_text()
    server.kept.clear()
    run(server, "import", path)
    assert sorted(server.kept.values(), key=repr) == sorted(documents, key=repr)


def test_nothing_is_a_file_too(server, tmp_path):  # noqa: F811
    run(server, "export", "--output", tmp_path / "none.jsonl")
    assert (tmp_path / "none.jsonl").read_text() == ""
    assert run(server, "export") == ("", "")


def test_a_busy_server_is_waited_for(server, tmp_path):  # noqa: F811
    server.take(numbered(2000))
    server.misbehave(lambda number: {2: (503, {}), 4: "close", 5: (429, {})}.get(number))
    run(server, "export", "--output", tmp_path / "all.jsonl")
    assert read_lines(tmp_path / "all.jsonl") == numbered(2000)


def test_an_error_leaves_the_file_that_was_there(server, tmp_path):  # noqa: F811
    path = tmp_path / "all.jsonl"
    path.write_text("before")
    server.take(numbered(1000))
    server.misbehave(lambda number: (403, {}) if number > 2 else None)
    _, said = run(server, "export", "--output", path, code=1)
    assert "trouble 403" in said and "500 documents exported; the same command goes on" in said
    assert path.read_text() == "before"


def broken_off(server, path):  # noqa: F811
    server.misbehave(lambda number: "hang" if number > 3 else None)
    terminal = Terminal(["export", "--url", server.url, "--output", path], dict(os.environ))
    until("it to hang", lambda: len(server.requests) == 4)
    terminal.wait_for("exporting [")
    os.kill(terminal.pid, signal.SIGINT)
    assert os.WTERMSIG(terminal.end()) == signal.SIGINT
    assert "1000 documents exported; the same command goes on" in terminal.said.replace(",", "")
    server.misbehave(None)


def test_it_goes_on_where_it_was(server, tmp_path):  # noqa: F811
    path = tmp_path / "all.jsonl"
    incomplete = tmp_path / "all.jsonl.incomplete"
    server.take(numbered(1700))
    broken_off(server, path)
    assert not path.exists() and read_lines(incomplete) == numbered(1000)
    with open(incomplete, "a", encoding="utf-8") as file:
        file.write("{\"id\": \"half a li")      # As a crash may leave it.
    said, _ = run(server, "export", "--output", path)
    assert "exported 1,700 documents" in said
    assert read_lines(path) == numbered(1700)
    assert sorted(tmp_path.iterdir()) == [path]
    assert [name.partition("?")[2] for name in server.requests[-2:]] == \
        ["limit=500&cursor=1000", "limit=500&cursor=1500"]


def test_what_does_not_fit_together_is_refused(server, tmp_path):  # noqa: F811
    path = tmp_path / "all.jsonl"
    server.take(numbered(1700))
    broken_off(server, path)
    _, said = run(server, "export", "--output", path, "--collection", "other", code=1)
    assert "another task" in said
    (tmp_path / "all.jsonl.incomplete").write_text("short")
    _, said = run(server, "export", "--output", path, code=1)
    assert "do not fit together: begin anew with --restart" in said
    run(server, "export", "--output", path, "--restart")
    assert read_lines(path) == numbered(1700) and not progress_of(path).exists()


# ---- Search ----

def test_what_is_asked(server):  # noqa: F811
    run(server, "search", "How big is London", "--k", "3", "--filter", '{"year": {"$gte": 1990}}',
        "--mode", "hybrid", "--min-score", "0.25", "--collection", "a b")
    assert server.searches == [{"query": "How big is London", "k": 3, "mode": "hybrid",
                                "filter": {"year": {"$gte": 1990}}, "min_score": 0.25}]
    assert server.requests == ["/collections/a b/search"]
    run(server, "search", "x")
    assert server.searches[1] == {"query": "x", "k": 10}


def test_what_is_shown(server):  # noqa: F811
    assert run(server, "search", "x")[0] == "Nothing was found.\n"
    server.results = [
        {"id": "a\nb", "score": 0.91239, "text": "all of it", "metadata": {},
         "chunk": {"index": 1, "begin": 4, "end": 6,
                   "text": "\n  the\u0007 passage\n\nit is\x1b[2J"}},
        {"id": "2", "score": -0.5, "text": "ü" * 300}]
    said, _ = run(server, "search", "x")
    assert said == ("0.9124  a b\n        the\ufffd passage it is\ufffd[2J\n"
                    "-0.5000  2\n        " + "ü" * 91 + "…\n")
    assert json.loads(run(server, "search", "x", "--json")[0]) == {"results": server.results}


def test_what_is_wrong(server):  # noqa: F811
    for arguments in ([], ["x", "--mode", "magic"], ["x", "--filter", "[]"], ["x", "--filter", "{"],
                      ["x", "--min-score", "high"], ["x", "--k", "0"], ["x", "y"]):
        assert "--help" in run(server, "search", *arguments, code=2)[1]
    assert not server.requests
    server.misbehave(lambda number: (404, {}))
    assert run(server, "search", "x", code=1) == ("", "moult search: trouble 404\n")
