"""House rules on the shape of the code. An exception stands in the tables here, with its reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.architecture.source_tree import PACKAGES, ROOT, Module, is_empty, modules

MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 60

BROAD_EXCEPT_ALLOWED = {
    "engine.core": "a fault in one step fails the requests in it, not the engine",
    "server.errors": "the HTTP boundary: whatever was not foreseen becomes a 500 without internals",
    "engine.text.tokenizer": "the tokenizers library raises bare Exception for a file it cannot read",
}
MAY_HAVE_CONTENT = {"quire": "hands out the public names"}


def functions(module: Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_files_are_short() -> None:
    assert not {m.name: m.line_count for m in modules().values() if m.line_count > MOST_LINES}


def test_functions_are_short() -> None:
    long = {
        f"{module.name}.{function.name}": length
        for module in modules().values()
        for function in functions(module)
        if (length := (function.end_lineno or 0) - function.lineno + 1) > MOST_LINES_OF_A_FUNCTION
    }
    assert not long


def test_no_global_statement() -> None:
    assert not [m.name for m in modules().values() if any(isinstance(n, ast.Global) for n in ast.walk(m.tree))]


def test_public_signatures_name_their_parameters() -> None:
    loose = [
        f"{module.name}.{function.name}"
        for module in modules().values()
        for function in functions(module)
        if function.args.kwarg is not None and not function.name.startswith("_")
    ]
    assert not loose


def test_package_files_are_empty() -> None:
    full = [
        module.name
        for module in modules().values()
        if module.path.name == "__init__.py" and not is_empty(module) and module.name not in MAY_HAVE_CONTENT
    ]
    assert not full


def test_broad_except_stands_at_the_boundaries_only() -> None:
    def broad(handler: ast.ExceptHandler) -> bool:
        return handler.type is None or (
            isinstance(handler.type, ast.Name) and handler.type.id in {"Exception", "BaseException"}
        )

    wrong = [
        f"{module.name}:{node.lineno}"
        for module in modules().values()
        if module.name not in BROAD_EXCEPT_ALLOWED
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ExceptHandler) and broad(node)
    ]
    assert not wrong


def test_inputs_are_not_checked_by_assert() -> None:
    assert not [m.name for m in modules().values() if any(isinstance(n, ast.Assert) for n in ast.walk(m.tree))]


def test_no_drawer_for_odds_and_ends() -> None:
    names = {path.name for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert not names & {"utils.py", "util.py", "helpers.py", "misc.py", "common.py"}


def backend_ops() -> set[str]:
    """Names of the computing methods of the Backend protocol, `prepare_…` included."""
    for node in ast.walk(modules()["engine.ops.backend"].tree):
        if isinstance(node, ast.ClassDef) and node.name == "Backend":
            return {
                each.name
                for each in node.body
                if isinstance(each, ast.FunctionDef)
                and not any(isinstance(d, ast.Name) and d.id == "property" for d in each.decorator_list)
            }
    raise LookupError("class Backend")


def test_every_op_has_a_reference_and_a_kernel_test() -> None:
    reference = modules()["engine.ops.torch_backend"].path.read_text(encoding="utf-8")
    kernel_tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests/kernels").rglob("test_*.py"))
    missing = [op for op in sorted(backend_ops()) if f"def {op}(" not in reference or f".{op}(" not in kernel_tests]
    assert not missing
