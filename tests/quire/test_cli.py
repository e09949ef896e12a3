"""The command line from outside: first words, exit statuses, one line per error."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.errors import CheckpointError, ConfigError
from quire import cli, dispatch
from quire.version import __version__
from tests.quantize.models import write_dense_model

ROOT = Path(__file__).parents[2]


@pytest.fixture
def quire(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command line; gives its exit status, output and error output."""

    def run(*arguments: object) -> tuple[int, str, str]:
        status = cli.main([str(each) for each in arguments])
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    return run


Quire = Callable[..., tuple[int, str, str]]


def use(monkeypatch: pytest.MonkeyPatch, run: Callable[[Sequence[str]], int]) -> None:
    """Have a command `test` that does `run`."""
    monkeypatch.setitem(sys.modules, "quire_test_command", SimpleNamespace(run=run))  # type: ignore[arg-type]
    monkeypatch.setitem(dispatch.COMMANDS, "test", dispatch.Command("quire_test_command", ""))


@pytest.mark.parametrize("word", ["--help", "-h", "help"])
def test_help_lists_every_command(quire: Quire, word: str) -> None:
    status, out, _ = quire(word)
    assert status == 0
    for name, command in dispatch.COMMANDS.items():
        assert name in out
        assert command.summary in out


def test_no_arguments_is_a_usage_error(quire: Quire) -> None:
    status, out, err = quire()
    assert (status, out) == (2, "")
    assert "usage: quire" in err


@pytest.mark.parametrize("word", ["--version", "-V", "version"])
def test_version(quire: Quire, word: str) -> None:
    assert quire(word) == (0, f"quire {__version__}\n", "")


@pytest.mark.parametrize("name", dispatch.COMMANDS)
def test_every_command_has_help(quire: Quire, name: str) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([name, "--help"])
    assert end.value.code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["srve"], "Unknown command 'srve'. Did you mean serve? See quire --help."),
        (["--versoin"], "Unknown option '--versoin'."),
        (["serve", "--prot", "1"], "Unknown option --prot. Did you mean --port? See quire serve --help."),
        (["serve", "--port", "eighty"], "--port must be a whole number, not 'eighty'."),
        (["serve", "--port", "70000"], "port must be between 0 and 65535, not 70000."),
        (["serve", "--memory-fraction", "nan"], "--memory-fraction must be a finite number, not 'nan'."),
        (["serve", "--memory-fraction", "-1"], "memory_fraction must be above 0 and at most 1, not -1.0."),
        (["serve", "--device", "cup"], "--device must be one of auto, cpu, cuda, not 'cup'. Did you mean cpu?"),
        (["serve", "--host", "0.0.0.0"], "Listening on 0.0.0.0 would open the server"),
        (["serve", "--config", "/no/such.toml"], "The configuration file /no/such.toml cannot be read: No such file"),
        (["generate", "m"], "The following arguments are required: PROMPT. See quire generate --help."),
        (["generate", "m", "p", "--temperature", "nan"], "--temperature must be a finite number, not 'nan'."),
        (["chat"], "Name either a model to load or, with --url, a server to talk to."),
        (["chat", "m", "--url", "http://x"], "Name either a model to load or, with --url, a server to talk to."),
    ],
)
def test_usage_errors_are_one_line_and_exit_with_2(quire: Quire, arguments: list[str], message: str) -> None:
    status, out, err = quire(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


READING_A_MODEL = {
    "serve": [],
    "generate": ["m", "p"],
    "quantize": ["m", "out"],
    "convert": ["m", "out"],
    "eval": ["m", "--text", "t"],
}


@pytest.mark.parametrize("name", READING_A_MODEL)
def test_every_command_reads_the_environment(quire: Quire, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    words = READING_A_MODEL[name]
    monkeypatch.setenv("QUIRE_KERNLES", "torch")
    status, _, err = quire(name, *words)
    assert (status, err) == (
        2,
        "error: The environment sets QUIRE_KERNLES, which is no setting. Did you mean QUIRE_KERNELS?\n",
    )
    monkeypatch.delenv("QUIRE_KERNLES")
    monkeypatch.setenv("QUIRE_KERNELS", "tocrh")
    status, _, err = quire(name, *words)
    assert (status, err) == (
        2,
        "error: QUIRE_KERNELS must be one of auto, native, torch, not 'tocrh'. Did you mean torch?\n",
    )


@pytest.mark.parametrize("name", [*READING_A_MODEL, "chat"])
def test_every_command_can_be_told_which_keys_to_ignore(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main([name, "--help"])
    assert "--ignore-config-keys" in capsys.readouterr().out


@pytest.mark.parametrize(("error", "status"), [(CheckpointError("bad\n  file"), 1), (ConfigError("bad\nfile"), 2)])
def test_errors_are_one_line(quire: Quire, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int) -> None:
    def fail(arguments: Sequence[str]) -> int:
        raise error

    use(monkeypatch, fail)
    assert quire("test") == (status, "", "error: bad file\n")


def test_commands_get_their_words_and_give_the_status(quire: Quire, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, len)
    assert quire("test", "a", "b", "c")[0] == 3


def test_ctrl_c_is_quiet(quire: Quire, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(arguments: Sequence[str]) -> int:
        raise KeyboardInterrupt

    use(monkeypatch, interrupt)
    assert quire("test") == (130, "", "")


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, lambda _: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["test"])


def test_a_closed_pipe_ends_quietly() -> None:
    command = f"{sys.executable} -m quire --help | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT)
    assert done.stderr == ""


def test_the_module_runs_and_imports_neither_torch_nor_the_server() -> None:
    code = (
        "import sys; from quire.cli import main; main(['--help']); import quire; quire.SamplingParams; "
        "sys.exit(len({'torch', 'fastapi', 'transformers'} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT)
    done = subprocess.run([sys.executable, "-m", "quire", "--version"], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, f"quire {__version__}\n")


def test_a_package_that_hides_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "__init__.py").touch()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}
    command = [sys.executable, "-m", "quire", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 1
    hiding = tmp_path.resolve() / "server" / "__init__.py"
    assert done.stderr.startswith(f"error: {hiding} hides Quire's package 'server'.")
    code = "import quire; quire.SamplingParams"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert f"ImportError: {hiding} hides" in done.stderr


def copy_of(model: Path, directory: Path) -> Path:
    copy = directory / "model"
    shutil.copytree(model, copy, copy_function=shutil.copyfile)
    copy.chmod(0o755)
    return copy


def spoil(model: Path, fault: str) -> None:
    weights = model / "model.safetensors"
    if fault == "no directory":
        shutil.rmtree(model)
    elif fault == "no config":
        (model / "config.json").unlink()
    elif fault == "corrupt config":
        (model / "config.json").write_text("{")
    elif fault == "no weights":
        weights.unlink()
    elif fault == "truncated weights":
        weights.write_bytes(weights.read_bytes()[:5000])
    elif fault == "corrupt weights":
        weights.write_bytes(b"\xff" * 5000)
    elif fault == "no tokenizer":
        (model / "tokenizer.json").unlink()
    elif fault == "corrupt tokenizer":
        (model / "tokenizer.json").write_text("{}")
    elif fault == "another tokenizer":
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps({**config, "vocab_size": 100}))


@pytest.mark.parametrize(
    "words", [["serve", "x" * 300], ["convert", "{model}", "x" * 300], ["eval", "x" * 300, "--text", "t"]]
)
def test_names_that_are_too_long_get_one_line(quire: Quire, tmp_path: Path, words: list[str]) -> None:
    model = write_dense_model(tmp_path)
    status, _, err = quire(*(word.format(model=model) for word in words))
    assert status == 1
    assert err.startswith("error: xxx")
    assert "File name too long" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("no directory", "There is no directory"),
        ("no config", "config.json"),
        ("corrupt config", "config.json"),
        ("no weights", "safetensors"),
        ("truncated weights", "model.safetensors"),
        ("corrupt weights", "model.safetensors"),
        ("no tokenizer", "tokenizer.json is missing"),
        ("corrupt tokenizer", "tokenizer.json"),
        ("another tokenizer", "does not match the model"),
    ],
)
def test_bad_models_get_one_line(quire: Quire, shared: Path, tmp_path: Path, fault: str, message: str) -> None:
    model = copy_of(shared / "models" / "stories260k", tmp_path)
    spoil(model, fault)
    status, out, err = quire("generate", model, "Once", "--threads", "1", "--max-tokens", "1")
    assert (status, out) == (1, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_an_occupied_port(quire: Quire, shared: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, _, err = quire("serve", shared / "models" / "stories260k", "--port", port)
    assert status == 2
    assert err.startswith(f"error: Cannot listen on 127.0.0.1 port {port}")
    assert err.count("\n") == 1


def test_generate_for_real(quire: Quire, shared: Path) -> None:
    arguments = ["--threads", "1", "--max-tokens", "12", "--temperature", "0"]
    status, out, err = quire("generate", shared / "models" / "stories260k", "Once upon a time", *arguments)
    assert (status, err) == (0, "")
    assert out.startswith(", there was a little girl")
    longer = quire("generate", shared / "models" / "stories260k", "Once upon a time", *arguments, "--stop", "girl")[1]
    assert longer == ", there was a little \n"


def test_a_full_disk_behind_the_output_gets_one_line() -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        run = subprocess.run(
            [sys.executable, "-m", "quire", "--help"],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=600,
        )
    assert (run.returncode, run.stderr) == (1, "error: There is no space left where the output goes.\n")
