from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from engine.config import EngineConfig, ToolFormatName
from engine.errors import ConfigError
from server.parsing.table import FORMATS, choose

TEMPLATES = Path(__file__).parents[4] / "shared" / "data" / "chat-templates"
FORMAT_OF = {"hermes-3-tool-use": "hermes", "qwen2.5": "hermes"}


def test_the_setting_has_the_names_of_all_formats() -> None:
    assert get_args(ToolFormatName) == ("auto", *(each.name for each in FORMATS))
    assert EngineConfig().tool_format == "auto"


@pytest.mark.parametrize("name", [each.name for each in FORMATS])
def test_the_setting_wins_over_the_template(name: str) -> None:
    assert choose("", name).name == name


def test_a_name_no_format_has_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be one of auto"):
        EngineConfig(tool_format="other")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="auto or one of hermes"):
        choose("", "other")


@pytest.mark.skipif(not TEMPLATES.is_dir(), reason="there are no chat templates beside the checkout")
def test_formats_of_well_known_templates() -> None:
    found = {path.stem: choose(path.read_text()).name for path in TEMPLATES.glob("*.jinja")}
    assert found == {name: FORMAT_OF.get(name, "generic") for name in found}


def test_a_template_without_tools_gets_the_generic_format() -> None:
    assert choose("{% for message in messages %}{{ message.content }}{% endfor %}").name == "generic"
