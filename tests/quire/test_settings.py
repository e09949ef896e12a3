from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import EngineConfig, setting
from engine.errors import ConfigError
from quantize.options import QuantizeOptions
from quire.arguments import ArgumentParser, add_settings, from_command_line
from quire.commands.eval import EvalOptions
from quire.config_file import read_config_file
from quire.hub import HubConfig
from quire.settings import Source, convert, from_environment, resolve, settings_of
from server.config import ServerConfig


@dataclass(frozen=True)
class Sample:
    count: int = setting(1, "how many")
    share: float = setting(0.5, "100% of it")
    quick: bool = setting(False, "whether to hurry")
    colour: Literal["red", "green"] = setting("red", "which colour")
    names: tuple[str, ...] = setting((), "names")
    place: Path | None = setting(None, "a path")
    word: str = setting("", "a word")


@dataclass(frozen=True)
class Other:
    height: int = setting(2, "how high")


TABLES = {"sample": Sample, "other": Other}


def flags(*arguments: str) -> Source:
    parser = ArgumentParser("quire sample", "")
    add_settings(parser, Sample, "sample")
    return from_command_line(parser.parse(arguments))


def environment(**variables: str) -> Source:
    return from_environment((Sample, Other), variables)


def file(directory: Path, text: str) -> Source:
    path = directory / "quire.toml"
    path.write_text(text)
    return read_config_file(path, TABLES, ()).source


@given(present=st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_command_line_over_environment_over_file_over_default(
    tmp_path_factory: pytest.TempPathFactory, present: tuple[bool, bool, bool]
) -> None:
    directory = tmp_path_factory.mktemp("config")
    sources = [
        flags(*["--count", "4"] * present[0]),
        environment(**{"QUIRE_COUNT": "3"} if present[1] else {}),
        file(directory, "[sample]\ncount = 2\n" if present[2] else ""),
    ]
    resolved = resolve(Sample, sources)
    places = ["command line", "environment", str(directory / "quire.toml"), "default"]
    first = next(index for index, there in enumerate((*present, True)) if there)
    assert (resolved.config.count, resolved.origins["count"]) == (4 - first, places[first])
    assert resolved.origins["share"] == "default"


def test_every_type_from_every_place(tmp_path: Path) -> None:
    expected = Sample(7, 0.25, True, "green", ("a", "b"), Path("/x"), "w")
    arguments = ["--count", "7", "--share", ".25", "--quick", "--colour", "green", "--names", "a", "--names", "b"]
    variables = {"COUNT": "7", "SHARE": "0.25", "QUICK": "on", "COLOUR": "green", "NAMES": "a, b", "PLACE": "/x"}
    lines = ["[sample]", "count = 7", "share = 0.25", "quick = true", 'colour = "green"', 'names = ["a", "b"]']
    text = "\n".join([*lines, 'place = "/x"', 'word = "w"'])
    assert resolve(Sample, [flags(*arguments, "--place", "/x", "--word=w")]).config == expected
    assert resolve(Sample, [environment(**{f"QUIRE_{k}": v for k, v in variables.items()}, QUIRE_WORD="w")]).config == (
        expected
    )
    assert resolve(Sample, [file(tmp_path, text)]).config == expected
    assert resolve(Sample, [flags("--no-quick"), environment(QUIRE_QUICK="1")]).config == Sample()


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (int, "x", "must be a whole number, not 'x'"),
        (int, "1.5", "must be a whole number"),
        (int, 1.0, "must be a whole number, not 1.0"),
        (int, True, "must be a whole number, not True"),
        (float, "nan", "must be a finite number, not 'nan'"),
        (float, "inf", "must be a finite number"),
        (float, float("nan"), "must be a finite number"),
        (float, "", "must be a finite number"),
        (float, 10**400, "must be a finite number"),
        (float, False, "must be a finite number"),
        (bool, "maybe", "must be true or false, not 'maybe'"),
        (bool, 1, "must be true or false, not 1"),
        (str, 5, "must be text, not 5"),
        (Path, 5, "must be text, not 5"),
        (Path, "~nobody-of-this-name/x", "is ~nobody-of-this-name/x, but there is no such user."),
        (tuple[str, ...], [1], "must be text, not 1"),
        (Literal["red", "green"], "gren", "must be one of red, green, not 'gren'. Did you mean green?"),
        (Literal["red", "green"], 3, "must be one of red, green, not 3"),
    ],
)
def test_wrong_values_are_refused(kind: Any, value: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        convert(value, kind, "--this")
    assert str(caught.value).startswith(f"--this {message}")


def test_errors_spell_the_setting_as_its_source_does(tmp_path: Path) -> None:
    for source, name in (
        (flags("--count", "x"), "--count"),
        (environment(QUIRE_COUNT="x"), "QUIRE_COUNT"),
        (file(tmp_path, '[sample]\ncount = "x"'), f"{tmp_path / 'quire.toml'}: [sample] count"),
    ):
        with pytest.raises(ConfigError) as caught:
            resolve(Sample, [source])
        assert str(caught.value).startswith(f"{name} must be a whole number")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--conut", "3"], "Unknown option --conut. Did you mean --count? See quire sample --help."),
        (["--conut=3"], "Unknown option --conut. Did you mean --count?"),
        (["--coun", "3"], "Unknown option --coun. Did you mean --count?"),
        (["--no_quick"], "Unknown option --no_quick. Did you mean --no-quick?"),
        (["--zzzzzzzzzz"], "Unknown option --zzzzzzzzzz. See"),
        (["stray"], "Unexpected argument 'stray'."),
        (["--count"], "Argument --count: expected one argument. See quire sample --help."),
    ],
)
def test_unknown_flags(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        flags(*arguments)
    assert str(caught.value).startswith(message)


def test_unknown_variables() -> None:
    with pytest.raises(ConfigError, match=r"sets QUIRE_CUONT, which is no setting\. Did you mean QUIRE_COUNT\?"):
        environment(QUIRE_CUONT="1")
    assert environment(HOME="/", COUNT="5").values == {}


def test_what_kubernetes_sets_is_left_alone() -> None:
    variables = {"QUIRE_PORT": "tcp://10.0.0.1:8000", "QUIRE_PORT_8000_TCP": "x", "QUIRE_SERVICE_HOST": "10.0.0.1"}
    assert from_environment((ServerConfig,), variables).values == {}
    assert from_environment((ServerConfig,), {"QUIRE_PORT": "9"}).values == {"port": "9"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[sample]\ncolor = 1", "[sample] has no setting 'color'. Did you mean colour?"),
        ("[sample]\nheight = 1", "[sample] has no setting 'height'. It belongs into [other]."),
        (
            "[sampel]\ncount = 1",
            "there is no table [sampel]; the tables are [sample], [other], [models.NAME]. Did you mean sample?",
        ),
        ("count = 1", "'count' stands outside of a table. It belongs into [sample]."),
        ("sample = 1", "sample must be a table"),
        ("[sample\n", "is not valid TOML: "),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        file(tmp_path, text)
    assert message in str(caught.value)
    assert "quire.toml" in str(caught.value)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml cannot be read: No such file"):
        read_config_file(tmp_path / "nowhere.toml", TABLES, ())
    (tmp_path / "latin.toml").write_bytes(b"\xe9")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_config_file(tmp_path / "latin.toml", TABLES, ())


def test_the_help_shows_meaning_and_default() -> None:
    parser = ArgumentParser("quire sample", "")
    add_settings(parser, Sample, "sample", leave_out=("word",))
    text = parser.format_help()
    assert "100% of it (default: 0.5)" in " ".join(text.split())
    assert "{red,green}" in text
    assert "--word" not in text


def test_what_a_job_shares_with_the_engine_means_the_same() -> None:
    shared = {each.name: each for config in (EngineConfig, ServerConfig, HubConfig) for each in settings_of(config)}
    same = {each.name: each for config in (QuantizeOptions, EvalOptions) for each in settings_of(config)}
    assert shared.keys() & same.keys() == {"device", "threads", "ignore_config_keys"}
    for name in ("device", "threads", "ignore_config_keys"):
        assert shared[name].kind == same[name].kind


def test_the_classes_quire_serve_takes_share_no_name() -> None:
    names = [each.name for config in (EngineConfig, ServerConfig, HubConfig) for each in fields(config)]
    assert len(names) == len(set(names))
    for config in (EngineConfig, ServerConfig, HubConfig):
        for each in settings_of(config):
            assert each.doc
