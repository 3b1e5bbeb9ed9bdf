"""The rungs of arithmetic: what is asked for, what is told, and what is remembered."""

import json

import pytest

from fixtures import moult


def told(server):
    """The precision and the fidelity, which are the same everywhere."""
    info = server.get("/info").json
    model = server.get("/v1/models").json["data"][0]
    assert (model["precision"], model["fidelity"]) == (info["precision"], info["fidelity"])
    metrics = server.get("/metrics").body.decode()
    assert f'precision="{info["precision"]}"' in metrics
    line = next(line for line in metrics.splitlines()
                if line.startswith("moult_generation_fidelity{"))
    assert float(line.split()[-1]) == pytest.approx(info["fidelity"], abs=1e-8)
    return info["precision"], info["fidelity"]


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b)) / (sum(x * x for x in a) * sum(y * y for y in b)) ** .5


@pytest.mark.parametrize("precision, mean, least", [("int16", 0.99999, 0.9999),
                                                    ("int8", 0.999, 0.997)])
def test_a_rung_is_served_and_told(serve, real_model, golden, precision, mean, least):
    server = serve(real_model, options=["--precision", precision])
    rung, fidelity = told(server)
    assert rung == precision and least <= fidelity <= 1
    pairs = golden[:100]
    answer = server.post("/embed", {"inputs": [text for text, _ in pairs]}).json
    cosines = [cosine(found, vector) for found, (_, vector) in zip(answer, pairs)]
    assert min(cosines) >= least and sum(cosines) / len(cosines) >= mean


def test_auto_is_measured_once(serve, real_model, tmp_path):
    """What the state has is believed on the same CPU, and measured again on another."""
    data = tmp_path / "data"
    server = serve(real_model, data=data)
    rung, fidelity = told(server)
    assert rung in ("f32", "int16") and fidelity >= 0.9999
    answer = server.embed("how big is london").body
    server.stop()

    state = json.loads((data / "state.json").read_text())
    current = state["slots"][0]["current"]
    assert current["precision"] == rung
    assert current["fidelity"] == pytest.approx(fidelity, abs=1e-8)
    assert "moult" in current["cpu"]

    current["fidelity"] = 0.99995
    (data / "state.json").write_text(json.dumps(state))
    server = serve(data=data)
    if rung != "f32":
        assert told(server) == (rung, 0.99995)
    assert server.embed("how big is london").body == answer
    server.stop()

    current["cpu"] = "another"
    (data / "state.json").write_text(json.dumps(state))
    server = serve(data=data)
    assert told(server) == (rung, fidelity)
    assert server.embed("how big is london").body == answer


def test_a_restart_may_take_another_rung(serve, real_model, tmp_path):
    """It is the same model, and so has the same fingerprint."""
    data = tmp_path / "data"
    fingerprints = set()
    for options, precision in ((["--precision", "int8"], "int8"), (["--precision", "f32"], "f32")):
        server = serve(*([] if fingerprints else [real_model]), data=data, options=options)
        assert told(server)[0] == precision
        fingerprints.add(server.get("/info").json["fingerprint"])
        server.stop()
    assert len(fingerprints) == 1


def test_a_rung_that_does_not_exist(real_model, tmp_path):
    for command in ("serve", "embed", "info"):
        done = moult(command, real_model, "--precision", "int4", stdin=-3, cwd=tmp_path)
        assert done.returncode == 2 and b"auto, f32, int16 or int8" in done.stderr


def test_bench(tiny_model):
    """Figures of every kind, and nothing said about how large they are."""
    done = moult("bench", tiny_model, "--json", "--milliseconds", 1)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    machine, rungs = report["machine"], {rung["precision"]: rung for rung in report["rungs"]}
    assert set(rungs) == set(machine["peak_gops"]) == {"f32", "int16", "int8"}
    assert all(figure > 0 for figure in machine["peak_gops"].values())
    assert len(machine["read_gb_s"]) == 4 and all(machine["read_gb_s"].values())
    for rung in rungs.values():
        assert 0.99 <= rung["fidelity"] <= 1
        shapes = [row["shape"] for row in rung["passes"]]
        assert shapes == ["1x8", "1x16", "1x64", "32x16", "32mix"]      # It takes 64 tokens.
        for row in rung["passes"]:
            assert 0 < row["least_ms"] <= row["median_ms"]
            assert row["tokens_s"] > 0 and row["gops"] > 0 and 0 < row["peak_share"] < 1.5
        assert rung["all_threads"]["texts_s"] > 0
    assert rungs["f32"]["fidelity"] == 1
    info = json.loads(moult("info", tiny_model, "--json").stdout)
    assert report["auto"]["precision"] == info["precision"] and report["auto"]["why"]

    done = moult("bench", tiny_model, "--precision", "f32", "--milliseconds", 1)
    assert done.returncode == 0 and b"GOP/s" in done.stdout and b"int16:" not in done.stdout
    assert moult("bench", tiny_model / "none").returncode == 1
    assert moult("bench").returncode == 2
