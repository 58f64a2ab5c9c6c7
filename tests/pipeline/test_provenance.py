"""The code hash: every module that a script runs counts, and nothing else does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from featurespeed.models.spec import ModelSpec
from featurespeed.pipeline.provenance import PACKAGE_ROOT, Imports, code_hash, imports_of, modules_of, table_metadata
from featurespeed.pipeline.registry import ROOMS
from tests import forked

SCRIPTS = sorted((PACKAGE_ROOT.parent / "scripts").glob("*.py"))


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package `featurespeed` with one module for each way to import another one."""
    root = tmp_path / "featurespeed"
    files = {
        "__init__.py": 'EXPORTS: dict[str, str] = {"lazy_name": "featurespeed.lazy"}\n',
        "plain.py": "from featurespeed.leaf import value\n",
        "leaf.py": "value = 1\n",
        "lazy.py": "lazy_name = 2\n",
        "unused.py": "value = 3\n",
        "inner/__init__.py": "from .near import x\n",
        "inner/near.py": "from ..leaf import value as x\n",
        "inner/far.py": "def f():\n    import featurespeed.late\n",
        "late.py": "from . import leaf\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("statement", "modules"),
    [
        ("import numpy", set()),
        ("import featurespeed", {""}),
        ("import featurespeed.plain", {"", ".plain", ".leaf"}),
        ("from featurespeed.plain import value", {"", ".plain", ".leaf"}),
        ("from featurespeed import leaf", {"", ".leaf"}),
        ("from featurespeed import lazy_name", {"", ".lazy"}),
        ("from featurespeed.inner.far import f", {"", ".inner", ".inner.near", ".inner.far", ".leaf", ".late"}),
        ("def f():\n    from featurespeed import late", {"", ".late", ".leaf"}),
        ("import featurespeedy", set()),
    ],
)
def test_imports_are_followed_through_the_package(package, tmp_path, statement, modules):
    script = tmp_path / "script.py"
    script.write_text(statement + "\n")
    assert set(Imports(package).of_script(script)) == {f"featurespeed{name}" for name in modules}


@pytest.mark.parametrize(
    "statement",
    [
        "from .near import x",
        "from.near import x",
        "from featurespeed.inner . near import x",
        "from featurespeed. inner.near import x",
        "from .near import(x)",
        "from . import near",
        "from .import near",
        "from . near import x",
        "if True: from.near import x",
        "value = 1; from .near import x",
        "from .near import \\\n    x",
        "from .near import (  # a comment )\n    x,\n)",
        "text = \"'\" '''a'''\nfrom .near import x",
        'text = """\nimport featurespeed.late\n"""\nfrom .near import x',
    ],
)
def test_an_import_is_found_however_it_is_written(package, statement):
    path = package / "inner" / "other.py"
    path.write_text(statement + "\n")
    assert set(imports_of(path, "featurespeed.inner.other", package)) - {"featurespeed.inner"} == {
        "featurespeed.inner.near"
    }


def test_hash_changes_with_what_the_script_runs_and_with_nothing_else(package, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import featurespeed.plain\n")
    before = code_hash(script, Imports(package))
    (package / "unused.py").write_text("value = 4\n")
    script.touch()
    assert code_hash(script, Imports(package)) == before
    (package / "leaf.py").write_text("value = 5\n")
    after = code_hash(script, Imports(package))
    assert after != before and len(after) == 12
    script.write_text("import featurespeed.plain  # edited\n")
    assert code_hash(script, Imports(package)) not in (before, after)


def test_hash_does_not_depend_on_where_the_code_lies(package, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import featurespeed.plain\n")
    before = code_hash(script, Imports(package))
    moved = package.rename(tmp_path / "elsewhere")
    assert code_hash(script.rename(tmp_path / "other.py"), Imports(moved)) == before


def test_modules_loaded_by_their_names_count_with_what_they_import(package, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import featurespeed.leaf\n")
    assert set(Imports(package).of_script(script, ["featurespeed.inner.far"])) == {
        f"featurespeed{name}" for name in ("", ".leaf", ".inner", ".inner.near", ".inner.far", ".late")
    }
    alone, before = code_hash(script, Imports(package)), code_hash(script, Imports(package), ["featurespeed.late"])
    assert alone != before
    (package / "late.py").write_text("from . import leaf, plain\n")
    assert code_hash(script, Imports(package)) == alone
    assert code_hash(script, Imports(package), ["featurespeed.late"]) != before


def test_scripts_asked_about_together_have_the_modules_that_each_has_alone(package, tmp_path):
    together, scripts = Imports(package), [tmp_path / f"script_{number}.py" for number in range(3)]
    for script, module in zip(scripts, ("inner.far", "plain", "inner.near"), strict=True):
        script.write_text(f"import featurespeed.{module}\n")
    for script in [*scripts, *reversed(scripts)]:
        assert together.of_script(script) == Imports(package).of_script(script)
        assert code_hash(script, together) == code_hash(script, Imports(package))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_do_nothing_on_import_and_their_hash_sees_every_module_that_they_load(script, tmp_path):
    """Against the truth: import the script where nothing of ours is loaded yet, and look at what Python has loaded."""
    program = (
        "import runpy, sys, json; runpy.run_path(sys.argv[1], run_name='loaded');"
        "print(json.dumps([name for name in sys.modules if name.split('.')[0] == 'featurespeed']))"
    )
    environment = {"PYTHONPATH": str(PACKAGE_ROOT.parent), "PATH": ""}
    done = forked.run(
        {"code": program}, str(script), libraries=forked.SCIENTIFIC, cwd=tmp_path, environment=environment
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
    loaded = set(json.loads(done.stdout))  # and the script has printed nothing
    imports = Imports()
    seen = set(imports.of_script(script))
    if "featurespeed.pipeline.registry" in seen:  # it has looked into every room, whose entries are settings, not code
        seen |= set(imports.of_script(script, [module for room in ROOMS for module in room.facts]))
    assert loaded <= seen


def test_metadata_holds_what_made_the_table_and_nothing_that_varies(tmp_path):
    script = tmp_path / "stage.py"
    script.write_text("import featurespeed\n")
    metadata = table_metadata({"width": 8, "seed": 3, "sampler_seeds": 40}, script)
    assert metadata == table_metadata({"sampler_seeds": 40, "seed": 3, "width": 8}, script)
    assert metadata["spec"]["width"] == 8
    assert metadata["seeds"] == {"seed": 3, "sampler_seeds": 40}
    assert set(metadata["versions"]) == {"torch", "numpy", "pandas"}
    assert str(tmp_path) not in str(metadata)
    assert table_metadata({"width": 9, "seed": 3}, script)["config_hash"] != metadata["config_hash"]


def test_metadata_count_the_module_that_defines_the_settings(tmp_path):
    script = tmp_path / "stage.py"
    script.write_text("import featurespeed\n")
    spec = ModelSpec(kind="mlp", depth=3)
    assert modules_of(spec) == ("featurespeed.models.spec",) and modules_of({"width": 8}) == ()
    assert table_metadata(spec, script)["code_hash"] == code_hash(script, modules=["featurespeed.models.spec"])
    assert table_metadata(spec, script)["code_hash"] != code_hash(script)
