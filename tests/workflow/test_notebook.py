"""The executed notebook, the code blocks of the documentation, and what the README and the documentation name."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import textwrap
from html.parser import HTMLParser
from pathlib import Path

import jupytext
import pytest
import yaml

import featurespeed
from featurespeed.data.registry import DATASETS
from featurespeed.pipeline.asked import OWN
from featurespeed.pipeline.config import ARTEFACTS, SCALES
from tests.conftest import REPOSITORY, load_script

DRAWN = {name for name, artefact in ARTEFACTS.items() if artefact.drawn}
DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
RUNNABLE = [path for path in DOCUMENTS if "```python" in path.read_text(encoding="utf-8")]
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
INDENTED_COMMAND = re.compile(r"^    ((?:make|snakemake|python|pip|conda|pytest)\b[^#\n]*)", re.MULTILINE)
INLINE_COMMAND = re.compile(r"`((?:make|snakemake) [^`]*)`")
COMMENTED_COMMAND = re.compile(r"# or: ((?:make|snakemake) .*)")


def relative(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def commands(program: str) -> list[str]:
    """Every command line of `program` in the README and the documentation."""
    found = set()
    for path in DOCUMENTS:
        for pattern in (INDENTED_COMMAND, INLINE_COMMAND, COMMENTED_COMMAND):
            found.update(line.strip() for line in pattern.findall(path.read_text(encoding="utf-8")))
    return sorted(line for line in found if line.split()[0] == program)


# --- the notebook -----------------------------------------------------------------------------------------------------


NOTEBOOKS = sorted(path.stem for path in (REPOSITORY / "notebooks").glob("*.py"))


@pytest.fixture(scope="module", params=NOTEBOOKS)
def any_executed(smoke_results, request):
    """Each notebook as the workflow has executed it."""
    return jupytext.read(smoke_results / f"notebooks/{request.param}.ipynb")


@pytest.fixture(scope="module")
def executed(smoke_results):
    """The notebook of the formula."""
    return jupytext.read(smoke_results / "notebooks/feature_speed.ipynb")


def test_every_cell_of_the_notebook_has_run_without_an_error(any_executed):
    cells = [cell for cell in any_executed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {output.output_type for cell in cells for output in cell.outputs}
    assert "error" not in kinds
    streams = {output.name for cell in cells for output in cell.outputs if output.output_type == "stream"}
    assert streams <= {"stdout"}, "a warning on stderr"


def test_notebook_shows_figures_and_no_stray_object(executed):
    outputs = [output for cell in executed.cells if cell.cell_type == "code" for output in cell.outputs]
    results = [output for output in outputs if output.output_type == "execute_result"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 7
    assert all("text/html" in output.data for output in results), "a cell ends with an object that nobody wants to see"


def test_notebook_checks_its_statements(executed):
    source = "\n".join(cell.source for cell in executed.cells if cell.cell_type == "code")
    assert source.count("\nassert ") + source.count("\n    assert ") >= 12


def test_a_cell_that_fails_ends_the_job_and_leaves_no_output(tmp_path):
    (tmp_path / "wrong.py").write_text("# %%\nassert 1 + 1 == 3, 'arithmetic'\n")
    command = [sys.executable, str(REPOSITORY / "scripts/notebook.py"), "--input", "source=wrong.py"]
    command += ["--output", "ipynb=wrong.ipynb", "--output", "html=wrong.html"]
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0 and "arithmetic" in done.stderr
    assert list(tmp_path.glob("*.html")) == list(tmp_path.glob("*.ipynb")) == []


class _Requests(HTMLParser):
    """Addresses that a browser would fetch by itself."""

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        fetched = {"src", "srcset", "data", "poster"} | ({"href"} if tag in ("link", "image", "use") else set())
        self.found += [value for name, value in attrs if name in fetched and value and not value.startswith("data:")]


def test_the_notebook_on_one_s_own_model_uses_public_names_only_and_answers(smoke_results):
    source = (REPOSITORY / "notebooks/my_own_model.py").read_text(encoding="utf-8")
    assert re.findall(r"^(?:from|import) featurespeed.*", source, re.MULTILINE) == [
        "from featurespeed import autoscale, coordinate_check, measure, transfer_check"
    ]
    cells = jupytext.read(smoke_results / "notebooks/my_own_model.ipynb").cells
    printed = "".join(out.get("text", "") for cell in cells for out in cell.get("outputs", []))
    assert printed.count("your best learning rate moves by") == 2
    shown = [out for cell in cells for out in cell.get("outputs", []) if "image/png" in out.get("data", {})]
    assert len(shown) == 4


def test_the_cell_for_a_quick_check_is_left_out_otherwise(tmp_path):
    source = tmp_path / "two.py"
    source.write_text('# %% tags=["parameters"]\nx = 1\n\n# %% tags=["quick"]\nx = 2\n\n# %%\nprint(f"x is {x}")\n')
    for quick in (False, True):
        load_script("notebook").execute(source, tmp_path / "two.ipynb", quick)
        assert f"x is {1 + quick}" in (tmp_path / "two.ipynb").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_page_fetches_nothing(smoke_results, name):
    html = (smoke_results / f"notebooks/{name}.html").read_text(encoding="utf-8")
    parser = _Requests()
    parser.feed(html)
    assert parser.found == []
    assert "<script" not in html  # a script could import more
    assert re.findall(r"@import\s|url\((?!['\"]?(?:data:|#))[^)]*\)", html) == []


# --- code blocks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", RUNNABLE, ids=relative)
def test_code_blocks_of_the_documentation_run(path, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a block may write a figure
    namespace: dict[str, object] = {}
    for block in PYTHON_BLOCK.findall(path.read_text(encoding="utf-8")):
        exec(compile(block, relative(path), "exec"), namespace)
    shown = capsys.readouterr().out
    if path.name == "measure_your_network.md":
        assert namespace["result"].formula_error.max() < 1e-5 and "tensor" in shown
    else:
        assert namespace["found"].speed.cosine_error.max() < 1e-5 and "your best learning rate moves by" in shown


def test_there_are_code_blocks_to_run():
    assert [relative(path) for path in RUNNABLE] == [
        "README.md",
        "docs/measure_your_network.md",
        "docs/own_model.md",
    ]


# --- what the README and the documentation name -----------------------------------------------------------------------


def test_readme_lists_exactly_the_artefacts_that_are_drawn():
    rows = re.findall(
        r"^\| `((?:fsf|sc|beos)_\w+)` \|", (REPOSITORY / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(rows) == len(set(rows)) and set(rows) == DRAWN


def test_readme_starts_with_the_two_commands():
    first = INDENTED_COMMAND.findall((REPOSITORY / "README.md").read_text(encoding="utf-8"))[:2]
    assert [line.strip() for line in first] == ["make figures", "make test"]


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_linked_files_exist(path):
    prose = PYTHON_BLOCK.sub("", path.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)]+)\)", prose):
        if not target.startswith(("https://", "#")):
            assert (path.parent / target.split("#")[0]).exists(), target  # a file, or the folder of a room


def test_index_lists_every_document():
    listed = set(re.findall(r"\]\((\w+\.md)\)", (REPOSITORY / "docs/index.md").read_text(encoding="utf-8")))
    assert listed == {path.name for path in DOCUMENTS if path.parent.name == "docs"} - {"index.md"}


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_files_of_the_repository_that_are_named_exist(path):
    folders = "featurespeed|scripts|tests|docs|notebooks|workflow"
    for name in re.findall(rf"(?<![\w/.])((?:{folders})/(?![\w./-]*{{)[\w./-]*\w)", path.read_text(encoding="utf-8")):
        assert (REPOSITORY / name).exists(), name


def test_files_of_a_run_that_the_readme_names_are_made(smoke_results):
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for name in re.findall(r"results/laptop/([\w./<>{},]+\w\}?)", text):
        base, _, kinds = name.partition("{")
        for kind in kinds.rstrip("}").split(","):
            for artefact in DRAWN:
                assert (smoke_results / (base + kind).replace("<id>", artefact)).is_file(), name


@pytest.mark.parametrize("line", commands("make"))
def test_make_commands_name_targets_and_variables_that_exist(line):
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    variables = set(re.search(r"^VARIABLES := (.*)$", makefile, re.MULTILINE)[1].split())
    for word in shlex.split(line)[1:]:
        name, given, value = word.partition("=")
        if given:
            assert name in variables
            assert name != "ARTEFACT" or value in {*DRAWN, OWN}
            assert name != "SCALE" or value in SCALES
        else:
            assert re.search(rf"^{re.escape(word)}:", makefile, re.MULTILINE), word


@pytest.mark.parametrize("line", commands("snakemake"))
def test_snakemake_commands_are_understood_and_name_what_exists(line):
    from snakemake.cli import parse_args

    _, arguments = parse_args(shlex.split(line)[1:])
    data = {f"resources/data/{name}/{name}.npz" for name in DATASETS}
    groups = {
        "fsf",
        "sc",
        "sc_core",
        "sc_convnets",
        "sc_transformers",
        "beos",
        "claims",
        "all",
        "reference_figures",
        "keep_reference",
        OWN,
    }
    assert set(arguments.targets) <= DRAWN | data | groups
    for path in arguments.configfile or []:
        assert path.name == "my.yaml" or (REPOSITORY / path).is_file()
    for pair in arguments.config or []:
        key, _, value = pair.partition("=")
        if key == "scale":
            assert value in SCALES
        elif key != "data_dir":
            assert key in (*ARTEFACTS, "data_sha256", "training") and isinstance(yaml.safe_load(value), dict)


def test_example_of_a_changed_setting_is_valid():
    from featurespeed.pipeline.config import load_config

    text = (REPOSITORY / "docs/running.md").read_text(encoding="utf-8")
    block = re.search(r"^    # my.yaml\n((?:    .*\n)+)", text, re.MULTILINE)[1]
    user = yaml.safe_load(textwrap.dedent(block))
    base = yaml.safe_load((REPOSITORY / "config.yaml").read_text(encoding="utf-8"))
    config = load_config(base, {name: {} for name in SCALES}, user)
    assert config.block("fsf_fig1c").draws == user["fsf_fig1c"]["draws"] != base["fsf_fig1c"]["draws"]


def test_running_describes_every_scale():
    text = (REPOSITORY / "docs/running.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) >= set(SCALES)


def test_every_field_of_the_measurement_is_documented():
    from dataclasses import fields

    kind = featurespeed.FeatureSpeed
    names = {field.name for field in fields(kind)}
    names |= {name for name, value in vars(kind).items() if isinstance(value, property)}
    text = (REPOSITORY / "docs/measure_your_network.md").read_text(encoding="utf-8")
    table = "\n".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| `"))
    assert names <= set(re.findall(r"`(\w+)`", table))


def test_citation_names_this_version_and_three_papers():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["license"]) == (featurespeed.__version__, "MIT")
    papers = {entry["identifiers"][0]["value"] for entry in citation["references"]}
    assert papers == {"arXiv:2311.18718", "arXiv:2402.17457", "arXiv:2502.13110"}
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert all(paper in readme for paper in papers)
