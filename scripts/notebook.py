"""Execute a percent-format notebook: from ``notebooks/<name>.py`` to an executed ``.ipynb`` and its HTML.

A cell that fails ends the job with the cell's traceback. Input: ``source``. Outputs: ``ipynb``, ``html``. With the
parameter ``quick`` the cell that is tagged ``quick`` takes the place of its parameters: a check that all runs.
"""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import jupytext
import papermill
from jinja2 import DictLoader
from nbconvert import HTMLExporter

from featurespeed.machine.files import PART
from featurespeed.pipeline.stage import Task, run_task

QUICK = "quick"
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}

# The usual template without the scripts that it would fetch from elsewhere: the file can be read with no network. As
# MathJax is one of them, notebooks write their formulas in Unicode.
TEMPLATE = """{% extends 'lab/index.html.j2' %}
{% block html_head_js %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}
{% block html_head_css %}<style>
main { max-width: 66rem; margin: 0 auto; padding: 1rem }
.highlight pre { white-space: pre-wrap }
</style>{% endblock %}
"""


def execute(source: Path, executed: Path, quick: bool = False) -> None:
    """Run the notebook from top to bottom in a fresh kernel, in the current folder, and keep its outputs."""
    notebook = jupytext.read(source)
    notebook.cells = [cell for cell in notebook.cells if quick or QUICK not in cell.metadata.get("tags", [])]
    notebook.metadata["kernelspec"] = KERNEL
    os.environ.pop("MPLBACKEND", None)  # with a backend of the caller's choice the kernel would keep no figures
    with TemporaryDirectory(dir=executed.parent, prefix=PART) as folder:
        plain = Path(folder) / f"{source.stem}.ipynb"
        jupytext.write(notebook, plain)
        papermill.execute_notebook(plain, executed, kernel_name=KERNEL["name"], cwd=Path.cwd(), progress_bar=False)


def to_html(executed: Path, title: str) -> str:
    """The executed notebook as one self-contained HTML file."""
    notebook = jupytext.read(executed)
    exporter = HTMLExporter(
        embed_images=True, template_file="page.html.j2", extra_loaders=[DictLoader({"page.html.j2": TEMPLATE})]
    )
    body, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": title}})
    return body


def main(task: Task) -> None:
    """Execute, then convert."""
    source, executed = Path(task.inputs["source"]), Path(task.outputs["ipynb"])
    execute(source, executed, bool(task.params.get("quick", False)))
    Path(task.outputs["html"]).write_text(to_html(executed, source.stem), encoding="utf-8")


if __name__ == "__main__":
    run_task(main)
