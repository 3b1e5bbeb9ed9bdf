"""`moult import` and a server that misbehaves: what it sends, when it waits, where it goes on."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from documents import Documents
from fixtures import moult
from loading import BUILD
from serving import free_port, until
from terminal import Terminal


@pytest.fixture
def server():
    with Documents() as documents:
        yield documents


def write_lines(path, documents):
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    return path


def numbered(count):
    return [{"id": str(number), "text": f"text {number}", "metadata": {"number": number}}
            for number in range(count)]


def run(server, *arguments, code=0, **more):
    done = moult("import", "--url", server.url, *arguments, **more)
    assert done.returncode == code, done
    return done.stdout.decode() + done.stderr.decode()


def progress_of(path):
    return path.with_name(path.name + ".moult-progress")


def in_order(server):
    return sorted(server.kept.values(), key=lambda document: int(document["id"]))


# ---- What is sent ----

def test_lines_come_as_they_are(server, tmp_path):
    documents = numbered(1000) + [{"id": "1000", "text": "ü\u0000\n\"\\\U0001F98B",
                                   "metadata": {"a": [1, {"b": None}], "c": 0.1, "ü": True}}]
    path = write_lines(tmp_path / "many.jsonl", documents)
    said = run(server, path, "--batch", 100)
    assert "imported 1,001 documents into default" in said
    assert in_order(server) == documents
    assert len(server.requests) == 11 and set(server.requests) == {"/documents"}
    assert len(server.connections) <= 2
    assert not progress_of(path).exists()


def test_portions_are_bounded_by_bytes(server, tmp_path):
    path = write_lines(tmp_path / "wide.jsonl", [{"id": i, "text": "x" * 10000} for i in range(50)])
    run(server, path, "--batch-bytes", "64K", "--collection", "Some where/ä")
    assert len(server.requests) == 50 // 7 + 1 and len(server.kept) == 50
    assert set(server.requests) == {"/collections/Some where/ä/documents"}


def test_csv_as_python_writes_it(server, tmp_path):
    rows = [{"id": str(number), "body": f"line {number}\nand, \"so\" on\r\n", "ü": f" {number} ",
             "empty": ""} for number in range(300)]
    for number, dialect in enumerate(("excel", "unix", "excel-tab")):
        path = tmp_path / f"rows{number}.{'tsv' if dialect == 'excel-tab' else 'csv'}"
        with open(path, "w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, rows[0].keys(), dialect=dialect)
            writer.writeheader()
            writer.writerows(rows)
        server.kept.clear()
        run(server, path, "--text-field", "body")
        assert in_order(server) == [{"id": row["id"], "text": row["body"],
                                     "metadata": {"ü": row["ü"]}} for row in rows]


def test_a_semicolon_and_numbers(server, tmp_path):
    path = tmp_path / "rows"
    path.write_text("text;year;code\na;1999;007\nb;-1.5e1;\n")
    run(server, path, "--format", "csv", "--delimiter", ";", "--numbers")
    assert [document["metadata"] for document in server.kept.values()] == \
        [{"year": 1999, "code": "007"}, {"year": -15.0}]


def test_standard_input(server):
    lines = "".join(json.dumps(document) + "\n" for document in numbered(600)).encode()
    assert "imported 600" in run(server, "-", input=lines)
    assert in_order(server) == numbered(600)
    assert "imported 2" in run(server, "-", "--format", "csv", input=b"id,text\n1,a\n2,b\n")


def test_a_pipe_that_pauses_is_not_waited_for(server):
    """What has come is sent when nothing more comes, not when a portion is full."""
    process = subprocess.Popen([BUILD / "moult", "import", "--url", server.url, "-"],
                               stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    for number in range(3):
        process.stdin.write(json.dumps(numbered(3)[number]).encode() + b"\n")
        process.stdin.flush()
        until("it to be sent", lambda: str(number) in server.kept)
    process.stdin.close()
    assert process.wait(60) == 0


def test_documents_without_an_id_replace_themselves(server, tmp_path):
    path = write_lines(tmp_path / "no-ids.jsonl", [{"text": "same"}] * 500)
    run(server, path)
    first = set(server.kept)
    assert len(first) == 500
    run(server, path, "--batch", "7")
    assert set(server.kept) == first


def test_the_last_of_one_id_wins(server, tmp_path):
    """However portions overtake each other."""
    server.misbehave(lambda number: 0.05 if number % 3 == 1 else None)
    documents = [{"id": str(number % 40), "text": f"version {number}"} for number in range(400)]
    run(server, write_lines(tmp_path / "twice.jsonl", documents), "--batch", "16")
    assert in_order(server) == documents[-40:]
    server.kept.clear()
    documents = [{"id": "a", "text": f"version {number}"} for number in range(20)]
    run(server, write_lines(tmp_path / "one.jsonl", documents))
    assert server.kept == {"a": documents[-1]}


# ---- What is wrong with a record ----

def test_a_bad_line_stops_it_and_it_goes_on(server, tmp_path):
    documents = numbered(100)
    path = write_lines(tmp_path / "bad.jsonl", documents)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:70]) + "{\"id\": \"70\"}\n" + "".join(lines[71:]))
    said = run(server, path, "--batch", "32", code=1)
    assert f"Line 71 of {path}: Its \"text\" is missing." in said
    assert "70 documents imported, up to line 70" in said and "--skip-bad" in said
    assert in_order(server) == documents[:70]
    requests = len(server.requests)
    path.write_text("".join(lines))
    assert "imported 30 documents into default" in run(server, path)
    assert in_order(server) == documents
    assert len(server.requests) == requests + 1 and not progress_of(path).exists()


def test_bad_lines_are_left_out(server, tmp_path):
    documents = numbered(600)
    path = write_lines(tmp_path / "bad.jsonl", documents)
    lines = path.read_text().splitlines(keepends=True)
    bad = set(range(0, 600, 40))
    path.write_text("".join("nonsense\n" if number in bad else line
                            for number, line in enumerate(lines)))
    said = run(server, path, "--skip-bad", "--batch", "50")
    assert in_order(server) == [documents[i] for i in range(600) if i not in bad]
    assert "imported 585 documents" in said and "15 records were left out:" in said
    assert said.count("\n  line ") == 10 and "line 41: It is not valid JSON" in said


def test_what_the_server_refuses_is_found(server, tmp_path):
    documents = numbered(300)
    path = write_lines(tmp_path / "refused.jsonl", documents)
    refused = {17, 18, 255, 299}
    server.refuses = lambda document: int(document["id"]) in refused
    said = run(server, path, code=1)
    assert f"Line 18 of {path}: Document 0 is refused." in said
    assert in_order(server)[:18] in (documents[:17], documents[:17] + documents[256:257])
    assert "17 documents imported, up to line 17" in said
    said = run(server, path, "--skip-bad")
    assert in_order(server) == [documents[i] for i in range(300) if i not in refused]
    assert "imported 279 documents" in said and "4 records were left out:" in said
    assert [line.split(":")[0] for line in said.splitlines() if line.startswith("  line")] == \
        ["  line 18", "  line 19", "  line 256", "  line 300"]


def test_what_the_model_cannot_embed_is_found(server, tmp_path):
    """It is stored; the answer is the server's that a model cannot do it."""
    path = write_lines(tmp_path / "deadly.jsonl", numbered(100))
    server.misbehave(lambda number: (500, {}) if number in (1, 2, 3, 5, 6, 7, 8, 9) else None)
    said = run(server, path, "--batch", "100", "--skip-bad")
    assert "imported 99 documents" in said and "trouble 500" in said


def test_a_server_that_refuses_all_is_not_asked_for_each(server, tmp_path):
    server.refuses = lambda document: True
    path = write_lines(tmp_path / "all.jsonl", numbered(1000))
    assert "refuses one document like the other" in run(server, path, "--skip-bad", code=1)
    assert len(server.requests) < 100


def test_wrong_command_lines(server, tmp_path):
    path = write_lines(tmp_path / "file.dat", numbered(1))
    for arguments in ([path], [path, "--format", "xml"], [path, "--batch", "0"], [],
                      [path, "--format", "csv", "--delimiter", '"'], ["-", "--resume-file", "x"],
                      [path, "--format", "jsonl", "--text-field", "id"]):
        assert "--help" in run(server, *arguments, code=2)
    assert "No such file" in run(server, tmp_path / "none.jsonl", code=1)
    assert "is a folder" in run(server, tmp_path, "--format", "csv", code=1)
    assert not server.requests


# ---- When the server or the network fails ----

def test_busy_servers_are_waited_for(server, tmp_path):
    troubles = {2: (429, {"Retry-After": "1"}), 3: (503, {}), 4: (502, {}), 6: (429, {})}
    server.misbehave(troubles.get)
    began = time.monotonic()
    run(server, write_lines(tmp_path / "busy.jsonl", numbered(500)), "--batch", "100")
    assert time.monotonic() - began >= 1
    assert in_order(server) == numbered(500) and len(server.requests) == 9


def test_lost_connections_are_made_again(server, tmp_path):
    server.misbehave(lambda number: {2: "close", 3: "lose", 5: "close", 6: "close"}.get(number))
    run(server, write_lines(tmp_path / "lost.jsonl", numbered(500)), "--batch", "100")
    assert in_order(server) == numbered(500)


def test_the_first_connection_may_be_lost_too(server, tmp_path):
    server.misbehave(lambda number: "close" if number in (1, 2) else None)
    run(server, write_lines(tmp_path / "lost.jsonl", numbered(500)), "--batch", "100")
    assert in_order(server) == numbered(500)


def test_a_server_that_stays_away_ends_it(server, tmp_path):
    path = write_lines(tmp_path / "away.jsonl", numbered(500))
    server.misbehave_from(200, (503, {}))
    said = run(server, path, "--batch", "100", "--retry-for", "1", code=1)
    assert "trouble 503" in said and "the same command goes on from there." in said
    assert json.loads(progress_of(path).read_text())["records"] == 200
    server.misbehave(None)
    said = run(server, path, "--batch", "100")
    assert "imported 300 documents into default" in said and "after 200 documents before" in said
    assert in_order(server) == numbered(500)


def test_no_server_at_all_is_said_at_once(tmp_path):
    path = write_lines(tmp_path / "none.jsonl", numbered(1))
    done = moult("import", "--url", f"http://127.0.0.1:{free_port()}", path)
    assert done.returncode == 1 and b"No server answers" in done.stderr
    assert not progress_of(path).exists()


def test_other_errors_end_it(server, tmp_path):
    path = write_lines(tmp_path / "denied.jsonl", numbered(300))
    server.misbehave(lambda number: (403, {}))
    assert "trouble 403" in run(server, path, "--skip-bad", code=1)
    assert len(server.requests) <= 2


# ---- Where it goes on ----

def test_killed_at_any_time_each_document_is_there_once(server, tmp_path):
    """kill -9 loses a second of what is on record; what is sent again replaces itself."""
    path = write_lines(tmp_path / "killed.jsonl",
                       [{"text": f"text {number}"} for number in range(6000)])
    command = [BUILD / "moult", "import", "--url", server.url, "--batch", "20", path]

    def on_record():
        return json.loads(progress_of(path).read_text())["records"] \
            if progress_of(path).exists() else 0

    for kills in range(1, 4):
        # So slow that it cannot come to the end of the file.
        server.misbehave(lambda number: 0.03 if number < kills * 80 else "hang")
        before = on_record()
        process = subprocess.Popen(command)
        until("more to be on record", lambda: on_record() >= before + 140)
        process.kill()
        process.wait()
    server.misbehave(None)
    recorded = on_record()
    said = run(server, path)
    assert f"after {recorded:,} documents before" in said and recorded >= 400
    assert sorted(document["text"] for document in server.kept.values()) == \
        sorted(f"text {number}" for number in range(6000))


def test_ctrl_c_on_a_terminal(server, tmp_path):
    path = write_lines(tmp_path / "terminal.jsonl", numbered(1000))
    server.misbehave(lambda number: 0.02 if number < 20 else "hang")
    arguments = ["import", "--url", server.url, "--batch", "10", path]
    terminal = Terminal(arguments, dict(os.environ))
    terminal.wait_for(" documents, ")
    assert "importing [" in terminal.said
    until("it to hang", lambda: len(server.requests) == 21)
    os.kill(terminal.pid, signal.SIGINT)
    assert os.WTERMSIG(terminal.end()) == signal.SIGINT
    done = int(re.search(r"(\d+) documents imported, up to line \1; the same command goes on from "
                         "there", terminal.said)[1])
    assert 170 <= done <= 190
    server.misbehave(None)
    again = Terminal(arguments, dict(os.environ))
    assert again.end() == 0
    assert f"imported {1000 - done} documents" in again.said
    assert f"after {done} documents before" in again.said
    assert in_order(server) == numbered(1000)


def broken_off(server, path, *arguments):
    server.misbehave_from(200, (403, {}))
    run(server, path, "--batch", "100", *arguments, code=1)
    server.misbehave(None)


def test_another_file_is_not_gone_on_with(server, tmp_path):
    path = write_lines(tmp_path / "changed.jsonl", numbered(500))
    broken_off(server, path)
    write_lines(path, [{"id": "0", "text": "other"}, *numbered(500)[1:]])
    assert "begin anew with --restart" in run(server, path, code=1)
    path.write_text("")
    assert "begin anew with --restart" in run(server, path, code=1)
    write_lines(path, numbered(600))
    assert "imported 600" in run(server, path, "--restart")
    assert len(server.kept) == 600 and not progress_of(path).exists()


def test_a_file_that_has_grown_is_gone_on_with(server, tmp_path):
    path = write_lines(tmp_path / "grown.jsonl", numbered(500))
    broken_off(server, path)
    write_lines(path, numbered(700))
    said = run(server, path)
    # The second was heard out when the third was refused.
    assert re.search(r"imported 500 documents .* after 200 documents", said), said
    assert in_order(server) == numbered(700)


def test_another_task_does_not_go_on(server, tmp_path):
    path = write_lines(tmp_path / "task.jsonl", numbered(500))
    broken_off(server, path)
    for other in (["--collection", "other"], ["--text-field", "body"], ["--metadata-rest"]):
        said = run(server, path, *other, code=1)
        assert "another task" in said and "/documents" in said
    kept = tmp_path / "elsewhere"
    assert "imported 500" in run(server, path, "--resume-file", kept)
    assert not kept.exists()
    progress_of(path).write_text("{}")
    assert "is no progress file" in run(server, path, code=1)


def test_a_place_where_nothing_can_be_put_down(server, tmp_path):
    path = write_lines(tmp_path / "x.jsonl", numbered(500))
    server.misbehave(lambda number: 0.6)
    said = run(server, path, "--batch", "50", "--resume-file", tmp_path / "none" / "x", code=1)
    assert "No such file" in said


def test_large_files_take_little_memory(server, tmp_path):
    path = tmp_path / "large.jsonl"
    with open(path, "w", encoding="utf-8") as file:
        for number in range(3000):
            file.write(json.dumps({"id": number, "text": "word " * 4000}) + "\n")
    script = ("import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
              "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")
    done = subprocess.run([sys.executable, "-c", script, BUILD / "moult", "import", "--url",
                           server.url, path], capture_output=True, check=True)
    assert path.stat().st_size > 60e6 and len(server.kept) == 3000
    assert int(done.stdout.split()[-1]) < 40 * 1024
