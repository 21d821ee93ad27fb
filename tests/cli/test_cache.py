"""``fairlead cache``: stats, explain and purge on the reference shop, as a person meets them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import httpx
import pytest

from fairlead.app import build
from fairlead.settings import Settings
from tests.cli.ran import Command
from tests.gateway.gateway_harness import serving

SHOP = Path(__file__).parents[2] / "examples" / "shop"
BODY = {"model": "extractive", "messages": [{"role": "user", "content": "Where is my parcel?"}]}


@pytest.fixture(scope="module", name="shop")
def shop_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop after its API was asked the same thing three times."""
    target = tmp_path_factory.mktemp("cache") / "shop"
    shutil.copytree(SHOP, target, ignore=shutil.ignore_patterns(".fairlead", "__pycache__"))
    fairlead = build(Settings(project=target, require_key=False))
    variants = [variant.id for variant in fairlead.usecase.variants if variant.target.quotes]
    (target / "body.json").write_text(json.dumps({**BODY, "model": variants[0]}))
    with serving(fairlead.gateway) as url, httpx.Client(base_url=url) as client:
        bodies = [{**BODY, "model": variants[0], "stream": stream} for stream in (False, False, True)]
        for body in bodies:
            assert client.post("/v1/chat/completions", json=body).status_code == 200
        assert "fairlead_cache_requests_total" in client.get("/metrics").text
    fairlead.store.close()
    return target


def test_stats_say_what_was_saved(shop: Path, run: Command) -> None:
    code, out, _ = run("cache", "stats", "--project", shop, "--json")
    stats = json.loads(out)
    outcomes = {row["outcome"]: row["requests"] for row in stats["counted"]}
    assert (code, outcomes) == (0, {"exact": 2, "miss": 1})
    assert stats["kept"][0]["answers"] == 1
    code, out, _ = run("cache", "stats", "--project", shop)
    assert code == 0
    assert "67%" in out


def test_explain_says_which_part_differs(shop: Path, run: Command) -> None:
    body = json.loads((shop / "body.json").read_text())
    found = json.loads(run("cache", "explain", shop / "body.json", "--project", shop, "--json")[1])
    assert found["outcome"] == "hit"
    other = shop / "other.json"
    other.write_text(json.dumps({**body, "max_tokens": 5}))
    found = json.loads(run("cache", "explain", other, "--project", shop, "--json")[1])
    assert (found["outcome"], found["differs"]) == ("miss", ["parameters"])
    told = run("cache", "explain", shop / "body.json", "--project", shop, "--tenant", "someone-else")
    assert told[0] == 0
    assert "its tenant differs." in told[1]
    assert "--scope" not in told[1]
    told = run("cache", "explain", shop / "body.json", "--project", shop, "--scope", "admin", "--tenant", "x")
    assert "its tenant and the scopes of the key differ." in told[1]
    assert "--scope inference --scope admin" in told[1]
    other.write_text(json.dumps({**body, "tools": [{"type": "web_search"}]}))
    assert run("cache", "explain", other, "--project", shop)[1].startswith("bypassed: it asks the provider")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[1]", "no JSON object"),
        ("{", "read as JSON"),
        ('{"model": "x"}', "messages"),
        (None, "cannot be read"),
    ],
)
def test_explain_refuses_what_is_no_request(shop: Path, run: Command, content: str | None, said: str) -> None:
    file = shop / "bad.json"
    file.unlink(missing_ok=True)
    if content is not None:
        file.write_text(content)
    code, _, err = run("cache", "explain", file, "--project", shop)
    assert code != 0
    assert said in err


def test_purge_forgets_after_saying_how_much(shop: Path, run: Command) -> None:
    assert "1 kept answer would be" in run("cache", "purge", "--project", shop, "--dry-run")[1]
    assert "0 kept answers were" in run("cache", "purge", "--project", shop, "--tenant", "nobody")[1]
    assert json.loads(run("cache", "purge", "--project", shop, "--json")[1])["answers"] == 1
    found = json.loads(run("cache", "explain", shop / "body.json", "--project", shop, "--json")[1])
    assert found["outcome"] == "miss"


@pytest.mark.parametrize("wrong", ["0", "1", "1.5", "-0.1", '"1 %"'])
def test_an_error_rate_that_means_nothing_is_refused(shop: Path, run: Command, tmp_path: Path, wrong: str) -> None:
    text = (shop / "fairlead.yaml").read_text()
    broken = tmp_path / "shop"
    shutil.copytree(shop, broken)
    (broken / "fairlead.yaml").write_text(text + f"\ncache:\n  paraphrases:\n    max_error: {wrong}\n")
    code, out, err = run("check", broken)
    assert code != 0
    assert "max_error" in out + err
    assert wrong.strip('"') in out + err
