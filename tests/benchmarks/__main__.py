"""``python -m tests.benchmarks`` lists the benchmarks; each runs as its own module."""

from __future__ import annotations

import ast
from pathlib import Path

if __name__ == "__main__":
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if not path.name.startswith("_"):
            summary = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
            print(f"python -m tests.benchmarks.{path.stem:16} {summary}")
