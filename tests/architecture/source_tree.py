"""The project's own source as data: modules, their imports (wherever in the file they stand), their syntax trees."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("quire", "server", "engine", "quantize", "cpu_ext", "cuda_ext", "demo")
NOT_OURS_TO_SHAPE = ("demo/training/",)  # the demo model's training scripts, kept as they were run


@dataclass(frozen=True)
class Module:
    """One Python file of a package."""

    name: str
    path: Path

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(encoding="utf-8"))

    @cached_property
    def line_count(self) -> int:
        return len(self.path.read_text(encoding="utf-8").splitlines())

    @cached_property
    def imports(self) -> frozenset[str]:
        """Dotted names this file imports, in functions and for types included."""
        found: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
                found.update(f"{node.module}.{alias.name}" for alias in node.names)
        return frozenset(found)


def modules() -> dict[str, Module]:
    """Every module of the project by dotted name (a package by its folder's name)."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            relative = path.relative_to(ROOT)
            if str(relative).startswith(NOT_OURS_TO_SHAPE):
                continue
            parts = relative.with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = Module(name, path)
    return found


def internal_imports(tree: dict[str, Module]) -> dict[str, frozenset[str]]:
    """For each module the modules of ours it imports; `from package import name` counts as the module it reaches."""
    edges = {}
    for name, module in tree.items():
        ours = {each for each in module.imports if each in tree and each != name}
        # `from a.b import c` lists both a.b and a.b.c: where c is a module, the package a.b itself is not meant
        ours -= {each for each in ours if any(other.startswith(f"{each}.") for other in ours) and is_empty(tree[each])}
        edges[name] = frozenset(ours)
    return edges


def is_empty(module: Module) -> bool:
    """Whether a file holds nothing but a docstring, comments or blank lines."""
    return all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in module.tree.body)
