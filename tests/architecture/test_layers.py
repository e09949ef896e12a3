"""Who may import whom (docs/architecture.md), read from the source itself."""

from __future__ import annotations

import pytest

from tests.architecture.source_tree import internal_imports, is_empty, modules

LEVEL_0 = (
    "engine.types",
    "engine.reasoning",
    "engine.pooling",
    "engine.errors",
    "engine.config",
    "engine.messages",
    "engine.load_report",
    "engine.stats",
    "engine.logs",
    "engine.free_memory",
    "engine.control_groups",
    "engine.model_files",
    "engine.shared_library",
)

# A module is judged by the longest prefix that fits it; it may import what lies under any of the listed ones.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "engine.errors": (),
    "engine.types": ("engine.errors", "engine.reasoning", "engine.pooling"),
    "engine.reasoning": ("engine.errors",),
    "engine.pooling": ("engine.errors",),
    "engine.config": ("engine.errors",),
    "engine.stats": (),
    "engine.logs": (),
    "engine.load_report": (),
    "engine.control_groups": (),
    "engine.free_memory": ("engine.errors", "engine.control_groups"),
    "engine.model_files": ("engine.errors",),
    "engine.shared_library": ("engine.errors",),
    "engine.messages": ("engine.types", "engine.stats", "engine.config"),
    "engine.client": LEVEL_0,
    "engine.admission": LEVEL_0,
    "engine.text": (*LEVEL_0, "engine.text"),
    "engine.ops": (*LEVEL_0, "engine.ops", "cpu_ext", "cuda_ext"),
    "engine.model": (*LEVEL_0, "engine.model", "engine.ops"),
    "engine.cache.block_manager": (*LEVEL_0, "engine.cache.block", "engine.cache.prefix_index"),
    "engine.cache": (*LEVEL_0, "engine.cache", "engine.model", "engine.ops"),
    "engine.constraints": (*LEVEL_0, "engine.constraints", "engine.text.token_bytes"),
    "engine.scheduling": (
        *LEVEL_0,
        "engine.scheduling",
        "engine.cache.block",
        "engine.cache.block_manager",
        "engine.constraints.base",
    ),
    "engine.sampling": (*LEVEL_0, "engine.sampling", "engine.scheduling", "engine.ops", "engine.constraints.base"),
    "engine.execution": (
        *LEVEL_0,
        "engine.execution",
        "engine.scheduling.batch",
        "engine.scheduling.sequence",
        "engine.cache",
        "engine.model",
        "engine.ops",
        "engine.sampling",
    ),
    "engine.emission": (*LEVEL_0, "engine.constraints"),
    "engine.choice": (
        *LEVEL_0,
        "engine.scheduling",
        "engine.constraints",
        "engine.emission",
        "engine.pooler",
        "engine.text.token_bytes",
    ),
    "engine.pooler": LEVEL_0,
    "engine.core": (
        *LEVEL_0,
        "engine.admission",
        "engine.choice",
        "engine.scheduling",
        "engine.cache",
        "engine.constraints",
        "engine.text.token_bytes",
    ),
    "engine.child_process": ("engine.errors", "engine.logs"),
    "engine.grammar_messages": (),
    "engine.grammar_checker": (*LEVEL_0, "engine.child_process", "engine.transport", "engine.grammar_messages"),
    "engine.grammar_process": (
        *LEVEL_0,
        "engine.child_process",
        "engine.transport",
        "engine.grammar_messages",
        "engine.constraints",
        "engine.text.token_bytes",
    ),
    "engine": ("engine",),
    "quantize": (*LEVEL_0, "quantize", "engine.model", "engine.ops", "engine.text"),
    "server": (
        *LEVEL_0,
        "server",
        "engine.client",
        "engine.admission",
        "engine.text",
        "engine.process",
        "engine.supervisor",
        "engine.grammar_checker",
        "engine.grammar_messages",
    ),
    "quire": ("quire", "server", "quantize", "engine", "demo"),
    "demo": ("demo", "engine", "quantize", "quire"),
    "cpu_ext": ("cpu_ext", "engine.errors", "engine.shared_library"),
    "cuda_ext": ("cuda_ext", "engine.errors", "engine.shared_library"),
}

NOT_OUTSIDE: dict[str, tuple[str, ...]] = {
    "fastapi": ("server",),
    "starlette": ("server",),
    "uvicorn": ("server",),
    "pydantic": ("server",),
    "sse_starlette": ("server",),
    "prometheus_client": ("server.observability",),
    "huggingface_hub": ("quire.hub",),
    "llguidance": ("engine.constraints.grammar",),
    "rich": ("quire", "server"),
    "torch": ("engine", "quantize", "cpu_ext", "cuda_ext", "demo"),
}

WITHOUT_TORCH = (
    *LEVEL_0,
    "engine.text",
    "engine.cache.block",
    "engine.cache.block_manager",
    "engine.cache.prefix_index",
    "engine.scheduling",
    "engine.constraints",
    "engine.client",
    "engine.admission",
    "engine.core",
    "engine.async_engine",
    "engine.supervisor",
    "engine.grammar_checker",
    "engine.grammar_process",
    "server",
    "quire",
)


def under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def rule_for(name: str) -> tuple[str, ...]:
    fitting = [prefix for prefix in MAY_IMPORT if under(name, prefix)]
    return MAY_IMPORT[max(fitting, key=len)]


def test_every_import_follows_the_layers() -> None:
    wrong = [
        f"{name} imports {target}"
        for name, targets in internal_imports(modules()).items()
        if not is_empty(modules()[name])
        for target in targets
        if not any(under(target, allowed) for allowed in rule_for(name))
    ]
    assert not wrong


def test_there_are_no_import_cycles() -> None:
    edges = internal_imports(modules())
    state: dict[str, int] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if state.get(name) == 2:
            return
        if state.get(name) == 1:
            pytest.fail("import cycle: " + " -> ".join([*path[path.index(name) :], name]))
        state[name] = 1
        for target in sorted(edges[name]):
            visit(target, (*path, name))
        state[name] = 2

    for name in sorted(edges):
        visit(name, ())


@pytest.mark.parametrize("library", sorted(NOT_OUTSIDE))
def test_library_is_used_only_where_it_belongs(library: str) -> None:
    wrong = [
        name
        for name, module in modules().items()
        if any(under(each, library) for each in module.imports)
        and not any(under(name, home) for home in NOT_OUTSIDE[library])
    ]
    assert not wrong


def test_nothing_that_the_server_process_loads_imports_torch() -> None:
    tree = modules()
    edges = internal_imports(tree)
    reached: set[str] = set()
    waiting = [name for name in tree if any(under(name, prefix) for prefix in WITHOUT_TORCH) and under(name, "server")]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting.extend(edges[name])
    assert not [name for name in reached if any(under(each, "torch") for each in tree[name].imports)]


def test_host_side_modules_do_not_import_torch() -> None:
    wrong = [
        name
        for name, module in modules().items()
        if any(under(name, prefix) for prefix in WITHOUT_TORCH) and any(under(each, "torch") for each in module.imports)
    ]
    assert not wrong
