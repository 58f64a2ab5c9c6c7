"""The page: complete, self-contained, escaped, and true to the tables it was made from."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from jinja2 import UndefinedError

from featurespeed.ledger.engine import CLAIM_COLUMNS, SENSITIVITY_COLUMNS
from featurespeed.papers.entries import Setting
from featurespeed.pipeline.config import ARTEFACTS
from featurespeed.pipeline.criteria_history import Change, write_record
from featurespeed.pipeline.page import PageInputs, compact, duration, gather, number, render, setting_value
from featurespeed.records import COLUMNS, frame, read_table, write_table
from tests.conftest import REPOSITORY

TEMPLATE = (REPOSITORY / "workflow" / "report" / "page.html.j2").read_text(encoding="utf-8")
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
CONTROL = "shuffled: 0.1, fails, as it must"
HOSTILE = "<script>alert('x')</script> & \"quotes\""


def claim(claim_id: str, artefact: str, verdict: str, **changes) -> dict:
    base = dict.fromkeys(CLAIM_COLUMNS, "") | {
        "claim_id": claim_id, "artefact": artefact, "paper": "arXiv:2311.18718, Thm 2.1", "verdict": verdict,
        "statement": f"statement of {claim_id}", "scale": "smoke", "n": 0, "kind": "paper",
    }  # fmt: skip
    return base | changes


def claims() -> list[dict]:
    numbers = {"value": -0.5071, "ci_low": -0.5093, "ci_high": -0.5049, "n": 40, "threshold": "between -0.55 and -0.45"}
    return [
        claim(
            "good",
            "fsf_fig1a",
            "confirmed",
            statistic="exponent",
            control=CONTROL,
            kind="central",
            fragile="yes",
            premise="trained: loss 0.3, holds",
            criterion_commit="c0ffee",
            **numbers,
        ),
        claim("bad", "fsf_fig1a", "contradicted", **numbers),
        claim("hostile", "fsf_theorems", "inconclusive", statement=HOSTILE, note=HOSTILE, **numbers),
        claim("later", "elsewhere", "not run", note="no model yet", kind="discrepancy"),
    ]


@pytest.fixture
def run(tmp_path) -> PageInputs:
    """Files of a small run: two drawn artefacts and the theorems."""
    results = tmp_path / "results" / "smoke"
    for folder in ("stages", "tables", "figures", "notebooks"):
        (results / folder).mkdir(parents=True)
    artefacts = ("fsf_fig1a", "fsf_fig1c", "fsf_theorems")
    row = {
        "series": "beta=1/sqrtL", "branch_scale": 0.1, "width": 200, "input_dim": 10, "output_dim": 1, "layer": 5,
        "quantity": "bfa", "value": 0.5,
    }  # fmt: skip
    records = [row | {"depth": d, "seed": s, "estimator": "jvp"} for d in range(10, 20) for s in range(5)]
    records += [row | {"depth": 999, "seed": 0, "estimator": "theory"}]
    for name in artefacts:
        spec = {"width": 200, "finite_step": 0.001, "note": HOSTILE}
        metadata = {"spec": spec, "code_hash": "abc123", "versions": {"torch": "9.9"}}
        write_table(frame(records), results / "stages" / f"{name}.parquet", metadata)
        facts = {"started": "2026-02-01T00:00:00+00:00", "commit": "beef", "wall_seconds": 60.0, "cpu_seconds": 90.0}
        facts |= {"host": HOSTILE, "device": "cpu", "threads": 2}
        (results / "stages" / f"{name}.run.json").write_text(json.dumps(facts))
    for name in artefacts[:2]:
        (results / "figures" / f"{name}.png").write_bytes(PIXEL)
        (results / "tables" / f"{name}.csv").write_text("panel\n")
    pd.DataFrame(claims()).to_csv(results / "claims.csv", index=False)
    moved = {"claim_id": "good", "verdict_halved": "inconclusive", "verdict_doubled": "confirmed", "moves": "yes"}
    pd.DataFrame([moved], columns=list(SENSITIVITY_COLUMNS)).to_csv(results / "claims_sensitivity.csv", index=False)
    point = {
        "figure": "1a",
        "series": HOSTILE,
        "x": "25",
        "y": 0.5,
        "y_sd": 0.1,
        "k": 5,
        "mean": 0.6,
        "se": 0.01,
        "n": 9,
    }
    pd.DataFrame([point | {"se": 0.01, "n": 9, "z": 2.17}]).to_csv(results / "published_points.csv", index=False)
    stages = [results / "stages" / f"{name}.parquet" for name in artefacts]
    return PageInputs(
        claims=results / "claims.csv",
        sensitivity=results / "claims_sensitivity.csv",
        published=results / "published_points.csv",
        tables=[results / "tables" / f"{name}.csv" for name in artefacts[:2]],
        figures=[results / "figures" / f"{name}.png" for name in artefacts[:2]],
        stages=stages,
        sidecars=[path.with_suffix(".run.json") for path in stages],
        notebooks=[results / "notebooks" / "feature_speed.html"],
    )


@pytest.fixture
def content(run) -> dict:
    return gather(run, run.claims.with_name("index.html"), "smoke", read_table)


@pytest.fixture
def html(content) -> str:
    return render(TEMPLATE, content)


class Tags(HTMLParser):
    """Every start tag with its attributes, and whether the tags balance."""

    VOID = {"meta", "link", "img", "br"}

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def all(self, *names: str) -> list[dict]:
        return [attributes for tag, attributes in self.tags if tag in names]


def test_one_section_an_artefact_plus_glance_and_ledger(html):
    tags = Tags(html)
    assert tags.open == []
    ids = [attributes["id"] for attributes in tags.all("section")]
    assert ids == ["glance", "fsf_fig1a", "fsf_fig1c", "fsf_theorems", "ledger"]
    targets = {attributes["href"][1:] for attributes in tags.all("a") if attributes["href"].startswith("#")}
    rows = {attributes["id"] for attributes in tags.all("tr") if "id" in attributes}
    open_claims = {target for target in targets if target.startswith("claim-")}
    assert targets - open_claims == set(ids)
    assert open_claims and open_claims <= rows


def test_the_page_needs_no_other_file_to_be_seen(html):
    tags = Tags(html)
    sources = [a["src"] for a in tags.all("img", "script", "iframe") if "src" in a]
    sources += [a["href"] for a in tags.all("link")]
    assert len(tags.all("img")) == 2
    assert all(source.startswith("data:") for source in sources)
    assert not re.search(r"@import|url\(", html)


def test_links_are_relative_and_point_into_the_run(html, run):
    links = [a["href"] for a in Tags(html).all("a")]
    files = {link for link in links if not link.startswith(("#", "https://arxiv.org/"))}
    assert {"figures/fsf_fig1a.pdf", "figures/fsf_fig1a.svg", "tables/fsf_fig1c.csv", "claims.csv"} <= files
    assert {"claims_sensitivity.csv", "headline.csv", "notebooks/feature_speed.html"} <= files
    assert not any(link.startswith(("/", "http", "..")) for link in files)


def test_text_from_files_is_escaped(html):
    assert "alert(&#39;x&#39;)" in html
    assert len(Tags(html).all("script")) == 1  # ours
    assert "<script>alert" not in html


def test_verdicts_are_counted_and_none_is_hidden(content, html):
    assert content["counts"] == {"confirmed": 1, "contradicted": 1, "inconclusive": 1, "not run": 1}
    assert dict(content["kinds"])["discrepancy"]["not run"] == 1 and 'data-show="discrepancy"' in html
    rows = [a["data-verdict"] for a in Tags(html).all("tr") if "data-verdict" in a]
    assert rows == ["confirmed", "contradicted", "inconclusive", "not run"]
    for claim_id in ("good", "bad", "hostile", "later"):
        assert f"<code>{claim_id}</code>" in html


def test_claims_show_interval_control_and_how_they_move(html):
    assert "−0.507" in html and "[−0.509, −0.505]" in html
    assert "Negative control. shuffled: 0.1, fails, as it must." in html
    assert "Threshold halved: inconclusive; doubled: confirmed." in html
    assert "Premise. trained: loss 0.3, holds." in html
    assert html.count('<span class="fragile"') == 3  # headline, section, ledger


def test_glance_adds_up_the_jobs(content, html):
    assert content["machine"] == content["machine"] | {"wall": 180.0, "cpu": 270.0, "jobs": 3, "device": "cpu"}
    assert content["papers"][0].arxiv == "2311.18718" and content["versions"] == {"torch": "9.9"}
    assert "3.0 min of jobs" in html


def test_each_artefact_says_how_to_run_it_alone(html):
    assert "--config scale=smoke" in html
    assert "python scripts/init_bfa.py --spec results/smoke/stages/fsf_fig1c.parquet" in html


def test_the_run_side_is_read_off_the_records(run):
    records = read_table(run.stages[0])
    blocks = {"data": {"name": "digits"}, "rates": {"sgd": 0.1, "adam": 0.01}, "widths": [8, 16]}
    blocks |= {"networks": {"a": {"widths": None}, "b": {"widths": [4]}}}
    spec = records.attrs["provenance"]["spec"] | blocks
    expected = {
        "column:depth": "10, 11, …, 19 (10 values)", "column:width": "200", "seeds:jvp": "5", "seeds:sampler": "none",
        "series": "β=1/√L", "spec:finite_step": "0.001", "spec:none": "not in this run", "text:a: b": "a: b",
        "spec:data.name": "digits", "spec:data.none": "not in this run", "spec:rates": "sgd: 0.1, adam: 0.01",
        "spec:widths": "8, 16", "spec:networks.a.widths": "8, 16", "spec:networks.b.widths": "4",
    }  # fmt: skip
    assert {source: setting_value(Setting("s", "", source), records, spec) for source in expected} == expected
    with pytest.raises(ValueError, match="unknown source"):
        setting_value(Setting("s", "", "guess"), records, spec)


def test_every_drawn_artefact_has_facts_with_known_sources():
    for artefact in ARTEFACTS.values():
        assert not artefact.drawn or (artefact.place and artefact.reading and artefact.settings), artefact.id
        for setting in artefact.settings:
            source, _, name = setting.run.partition(":")
            assert source in {"text", "spec", "column", "seeds", "series"}
            assert source != "column" or name in COLUMNS
            first = name.split(".")[0]
            assert source != "spec" or first in artefact.spec.model_fields


def record_of(folder, committed: str) -> Path:
    path = folder / "record.csv"
    write_record(
        {("good", "smoke"): Change("d", "c0ffee", committed), ("good", "gpu"): Change("d", "bad", "2026")}, path
    )
    return path


@pytest.mark.parametrize(
    ("committed", "fixed"), [("2026-01-31T23:00:00+00:00", "yes"), ("2026-02-01T00:00:01+00:00", "no")]
)
def test_the_page_says_whether_a_criterion_was_there_before_its_run(run, tmp_path, committed, fixed):
    content = gather(
        replace(run, record=record_of(tmp_path, committed)), run.claims.with_name("index.html"), "smoke", read_table
    )
    found = {claim["claim_id"]: claim["fixed"] for claim in content["claims"]}
    assert found == {"good": fixed, "bad": "", "hostile": "", "later": ""}
    html = render(TEMPLATE, content)
    when = f"(commit c0ffee), {'before' if fixed == 'yes' else 'after'} the run of 2026-02-01 00:00"
    assert when in html and ("criterion after a look at the results" in html) == (fixed == "no")
    assert "criterion or settings are not on record as they were run" in content["claims"][1]["fixed_text"]


def test_a_run_is_as_old_as_the_first_job_that_it_gathers(run, tmp_path):
    old = run.claims.with_name("mup_n8.run.json")
    old.write_text(json.dumps({"started": "2026-01-01T00:00:00+00:00"}))
    inputs = replace(
        run, sidecars=[*run.sidecars, old], jobs={"fsf_fig1a": ["mup_n8"]},
        record=record_of(tmp_path, "2026-01-15T00:00:00+00:00"),
    )  # fmt: skip
    content = gather(inputs, run.claims.with_name("index.html"), "smoke", read_table)
    assert content["claims"][0]["fixed"] == "no"


def test_the_headline_shows_every_scale_side_by_side(run, tmp_path):
    kept = tmp_path / "reference" / "gpu" / "claims.csv"
    kept.parent.mkdir(parents=True)
    pd.DataFrame([claims()[0] | {"verdict": "contradicted", "scale": "gpu"}]).to_csv(kept, index=False)
    (kept.with_name("runs.csv")).write_text("artefact,started,commit\nfsf_fig1a,2025-01-01T00:00:00+00:00,beef\n")
    content = gather(replace(run, kept=[kept]), run.claims.with_name("index.html"), "smoke", read_table)
    (entry,) = content["headlines"]
    assert entry["scales"] == ["smoke", "gpu"] and [row["claim_id"] for row in entry["claims"]] == ["good"]
    cells = entry["claims"][0]["cells"]
    assert {scale: cell["verdict"] for scale, cell in cells.items()} == {"smoke": "confirmed", "gpu": "contradicted"}
    html = render(TEMPLATE, content)
    assert "the central claims" in html and "smoke (this run)" in html and Tags(html).open == []


def test_a_run_without_figures_or_sidecars_still_has_a_page(run):
    bare = replace(run, figures=[], tables=[], sidecars=[], notebooks=[])
    html = render(TEMPLATE, gather(bare, run.claims.with_name("index.html"), "smoke", read_table))
    assert not Tags(html).all("img")
    assert 'id="fsf_fig1a"' in html


def test_a_ledger_without_claims_still_has_a_page(run):
    pd.DataFrame(columns=list(CLAIM_COLUMNS)).to_csv(run.claims, index=False)
    assert "0 claims" in render(TEMPLATE, gather(run, run.claims.with_name("index.html"), "smoke", read_table))


def test_a_misspelt_name_in_the_template_raises():
    with pytest.raises(UndefinedError):
        render("{{ nothing }}", {})


def test_numbers_and_times_read_well():
    assert [number(v) for v in (0.12345, -1e-13, 200.0, "", float("nan"))] == ["0.123", "−1e−13", "200", "", ""]
    assert [number(v) for v in (float("inf"), "-inf")] == ["∞", "−∞"]
    assert [duration(s) for s in (1.25, 59, 180, 10_000)] == ["1.2 s", "59 s", "3.0 min", "2.8 h"]
    assert compact([0.001, 0.5]) == "0.001, 0.5"


def test_published_points_stand_in_the_section_of_their_figure(content, html):
    points = {section["id"]: section["points"] for section in content["sections"]}
    assert len(points["fsf_fig1a"]) == 1 and points["fsf_fig1c"] == []
    assert html.count("The 1 published points one by one: largest |z| 2.17") == 1
    assert "+2.17" in html


@pytest.fixture
def two_papers(run) -> PageInputs:
    """The small run with an artefact and claims of the second paper besides."""
    stage = run.stages[0].with_name("sc_fig28.parquet")
    records = read_table(run.stages[0]).assign(parameterization="DEPTH_MUP", optimizer="sgd", estimator="training")
    write_table(records, stage, {"spec": {"data": {"name": "digits"}}})
    own = [
        claim("sc_one", "sc_fig28", "confirmed", paper="arXiv:2402.17457, Fig. 28"),
        claim("sc_two", "sc_fig1", "not run", paper="arXiv:2402.17457, Fig. 1", note="no such stage"),
        claim("stray", "elsewhere", "not run", paper="arXiv:0000.00000", note="of no known paper"),
    ]
    # Between the claims of the first paper: the ledger's order is no grouping.
    pd.DataFrame([*own, *claims()]).to_csv(run.claims, index=False)
    return replace(run, stages=[*run.stages, stage])


def test_sections_and_claims_stand_with_their_paper(two_papers):
    content = gather(two_papers, two_papers.claims.with_name("index.html"), "smoke", read_table)
    groups = {group["paper"].group if group["paper"] else "": group for group in content["groups"]}
    assert {name: [section["id"] for section in group["sections"]] for name, group in groups.items()} == {
        "fsf": ["fsf_fig1a", "fsf_fig1c", "fsf_theorems"], "sc": ["sc_fig28"], "": [],
    }  # fmt: skip
    assert [claim["claim_id"] for claim in groups["sc"]["claims"]] == ["sc_one", "sc_two"]
    assert [claim["claim_id"] for claim in groups[""]["claims"]] == ["stray"]
    assert groups["sc"]["counts"] == {"confirmed": 1, "contradicted": 0, "inconclusive": 0, "not run": 1}
    assert sum(len(group["claims"]) for group in groups.values()) == len(content["claims"]) == 7


def test_page_of_two_papers_leads_to_both_and_lists_every_claim_once(two_papers):
    html = render(TEMPLATE, gather(two_papers, two_papers.claims.with_name("index.html"), "smoke", read_table))
    tags = Tags(html)
    assert tags.open == []
    targets = {attributes["href"][1:] for attributes in tags.all("a") if attributes["href"].startswith("#")}
    ids = [attributes["id"] for attributes in tags.all("section", "header", "tr", "th") if "id" in attributes]
    assert {"paper-fsf", "paper-sc", "sc_fig28", "ledger"} <= targets <= set(ids)
    assert len(ids) == len(set(ids))
    for claim_id in ("sc_one", "sc_two", "stray", "good", "bad"):
        assert html.count(f'id="claim-{claim_id}"') == 1
    assert "Other papers" in html and "What was not run: 3 claims" in html
    assert "Depth-μP" in html  # the parameterization of the run, as a reader should see it


def test_the_time_of_an_artefact_is_that_of_all_its_jobs(run):
    """A stage that gathers what other jobs have trained and measured takes a second itself."""
    folder = run.claims.parent / "training"
    folder.mkdir()
    for name, seconds in (("mup_n8", 100.0), ("mup_n16", 200.0), ("of_another", 400.0)):
        (folder / f"{name}.run.json").write_text(json.dumps({"wall_seconds": seconds, "cpu_seconds": 1.0}))
    jobs = {"fsf_fig1a": ["mup_n8", "mup_n16"], "fsf_fig1c": ["mup_n16"]}
    whole = replace(run, sidecars=[*run.sidecars, *sorted(folder.iterdir())], jobs=jobs)
    content = gather(whole, run.claims.with_name("index.html"), "smoke", read_table)
    assert {section["id"]: (section["wall"], section["jobs"]) for section in content["sections"]} == {
        "fsf_fig1a": (360.0, 3), "fsf_fig1c": (260.0, 2), "fsf_theorems": (60.0, 1)
    }  # fmt: skip
    assert content["machine"]["wall"] == 3 * 60.0 + 700.0 and content["machine"]["jobs"] == 6  # each job once
    assert "6.0 min in 3 jobs<" in render(TEMPLATE, content)
