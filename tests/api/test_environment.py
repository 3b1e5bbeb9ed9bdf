"""Options of `moult serve` as environment variables: each that its help shows."""

import os
import re
import subprocess

import pytest

from loading import BUILD

# What takes any text, and shows it only in what the server does: below.
ANY_TEXT = {"--host", "--data", "--allowed-host", "--cors-origin", "--cutover"}


def run(*arguments, **variables):
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith("MOULT_")}
    return subprocess.run([str(BUILD / "moult"), *map(str, arguments)], capture_output=True,
                          text=True, timeout=60, env={**environment, **variables})


def options():
    return re.findall(r"^  (--[a-z-]+)", run("serve", "--help").stdout, re.MULTILINE)


def variable(option):
    return "MOULT_" + option[2:].upper().replace("-", "_")


def test_the_help_is_read():
    assert {"--port", "--take-over", "--gate-min", "--chunk-tokens"} | ANY_TEXT < set(options())


@pytest.mark.parametrize("option", sorted(set(options()) - ANY_TEXT - {"--help"}))
def test_a_variable_is_read(option, tmp_path):
    """A value that is none: whoever complains of it has read it."""
    given = {variable(option): "/nowhere/n°1", "MOULT_DATA": str(tmp_path)}
    if option == "--gate-min":
        gate = tmp_path / "gate.jsonl"
        gate.write_text('{"query": "a", "relevant": ["b"]}\n')
        given["MOULT_GATE"] = str(gate)
    said = run("serve", tmp_path, **given)
    assert said.returncode in (1, 2) and len(said.stderr.splitlines()) == 1, said
    assert any(word in said.stderr for word in (variable(option), option, "/nowhere/n°1")), said
    assert not (tmp_path / "lock").exists(), "it has begun to serve"


def test_texts_are_read(tiny_model, tmp_path):
    said = run("serve", tiny_model, MOULT_DATA=str(tmp_path / "a"), MOULT_HOST="256.0.0.1")
    assert said.returncode == 1 and "256.0.0.1" in said.stderr
    said = run("serve", tiny_model, MOULT_DATA=str(tmp_path / "b"), MOULT_CUTOVER="never")
    assert said.returncode == 2 and "--cutover is auto or manual" in said.stderr
    assert os.listdir(tmp_path) == ["a"]


def test_what_a_browser_may_is_read(serve, tiny_model):
    server = serve(tiny_model, environment={"MOULT_ALLOWED_HOST": "a.internal,b.internal",
                                            "MOULT_CORS_ORIGIN": "https://app.example"})
    for host, status in (("a.internal", 200), ("b.internal", 200), ("c.internal", 403)):
        assert server.get("/info", headers={"Host": host}).status == status, host
    answer = server.get("/info", headers={"Origin": "https://app.example"})
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"


def test_the_command_line_wins(tmp_path):
    said = run("serve", "--port", "0", tmp_path, MOULT_PORT="8081")
    assert said.returncode == 2 and "--port" in said.stderr and "MOULT_PORT" not in said.stderr


def test_flags_and_lists(tmp_path):
    assert "\"yes\" is no value for MOULT_STRICT_MODELS" in run(
        "serve", tmp_path, MOULT_STRICT_MODELS="yes").stderr
    said = run("serve", tmp_path, MOULT_HOOK_URL="https://a.example/x,ftp://b.example/y")
    assert said.returncode == 2 and "--hook-url" in said.stderr and "ftp" in said.stderr
