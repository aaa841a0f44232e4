"""``koc`` alone, ``koc FILE.py`` and ``koc --connect``: what the command line makes of them."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from koc_qt.cli import engine, window
from koc_qt.cli.display import find_display
from koc_qt.cli.main import build_parser, main, parse
from koc_qt.domain.errors import ConfigError, KocError, LinkError
from koc_qt.link.keys import KeyPair, load_or_create_keys, read_public, write_public
from koc_qt.link.servers import checked_endpoint, known_server, remember_server, remote_engine, server_file
from koc_qt.paths import Paths
from koc_qt.wiring.window_options import WindowOptions
from tests.conditions import PATIENCE

HERE = "tcp://192.0.2.7:5555"


@pytest.fixture
def strategy(tmp_path: Path) -> Path:
    path = tmp_path / "sma cross.py"
    path.write_text("class S: ...")
    return path


def options(*words: str) -> WindowOptions:
    return window.window_options(parse(words))


@pytest.mark.parametrize("words", [[], ["window", "--reset-layout"], ["engine", "--held"]])
def test_what_people_wait_for_loads_no_other_command(words: list[str]) -> None:
    program = (
        f"import sys; from koc_qt.cli.main import parse; parse({words}); "
        "print(sorted(name for name in sys.modules if name.startswith('koc_qt.cli.')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60 * PATIENCE)
    expected = ["koc_qt.cli.display", "koc_qt.cli.engine", "koc_qt.cli.main", "koc_qt.cli.window"]
    assert (done.stdout.strip(), done.stderr) == (str(expected), "")


@pytest.mark.parametrize("words", [[], ["window", "x.py"], ["engine", "--speed", "2"]])
def test_one_command_reads_as_among_all_of_them(words: list[str]) -> None:
    whole, _ = build_parser()
    assert vars(parse(words)) == vars(whole.parse_args(words or ["window"]))


def test_koc_alone_means_the_window() -> None:
    assert options() == WindowOptions()
    assert options("window") == WindowOptions()
    assert options("--reset-layout") == WindowOptions(reset_layout=True)


def test_files_are_offered_by_their_full_path(strategy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert options(str(strategy)).files == (str(strategy),)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.PY").write_text("x")
    assert options(strategy.name, "other.PY").files == (str(strategy), str(tmp_path / "other.PY"))
    assert options("window", strategy.name).files == (str(strategy),)


@pytest.mark.parametrize("word", ["nope.py", "some/where/nope.py", "./nope"])
def test_a_file_that_is_not_there_is_named(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"there is no strategy file .*nope"):
        options(word)


def test_too_many_files(strategy: Path) -> None:
    with pytest.raises(ConfigError, match="21 strategy files are too many"):
        options(*[str(strategy)] * 21)


def test_an_engine_elsewhere_by_its_key_file(profile: Paths, tmp_path: Path) -> None:
    key = KeyPair.generate().public
    write_public(key, tmp_path / "engine.key")
    given = options(
        "--connect", "TCP://Desk.Example:5555".replace("TCP", "tcp"), "--server-key", str(tmp_path / "engine.key")
    )
    assert given == WindowOptions(endpoint="tcp://desk.example:5555", server_key=key.decode())
    with pytest.raises(ConfigError, match=r"public key of the engine at tcp://192\.0\.2\.7:5555 is not known here"):
        options("--connect", HERE)
    remember_server(profile.keys, HERE, key.decode())
    remember_server(profile.keys, HERE, key.decode())
    assert options(f"--connect={HERE}") == WindowOptions(endpoint=HERE, server_key=key.decode())
    load_or_create_keys(profile.keys)  # the folder is as private as it wants it


def test_a_key_without_an_engine(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="say which with --connect"):
        options("--server-key", str(tmp_path / "engine.key"))


def test_a_secret_key_is_refused(profile: Paths) -> None:
    load_or_create_keys(profile.keys)
    with pytest.raises(LinkError, match="holds a secret key"):
        options("--connect", HERE, "--server-key", str(profile.keys / "engine.key_secret"))


@pytest.mark.parametrize(
    "text",
    [
        "", "5555", "192.0.2.7", "192.0.2.7:5555", "http://x:1", "tcp://:5555", "tcp://host", "tcp://host:", "tcp://*:5555",
        "tcp://host:*", "tcp://ho st:5555", "tcp://host:123456", "tcp://-x:1", "tcp://host:5555/x", "ipc:///tmp/x",
    ],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(LinkError, match="is no address of an engine: write tcp://HOST:PORT"):
        checked_endpoint(text)


def test_addresses_that_cannot_be() -> None:
    for text in ("tcp://host:0", "tcp://host:65536"):
        with pytest.raises(LinkError, match="a port is a number from 1 to 65535"):
            checked_endpoint(text)
    for text in ("tcp://0.0.0.0:5555", "tcp://[::]:5555"):
        with pytest.raises(LinkError, match="is where an engine listens, not its address"):
            checked_endpoint(text)
    assert checked_endpoint(" tcp://[FE80::1]:1 ") == "tcp://[fe80::1]:1"
    assert checked_endpoint("tcp://localhost:65535") == "tcp://localhost:65535"


def test_a_remembered_key_is_bound_to_host_and_port(tmp_path: Path) -> None:
    one, two = KeyPair.generate().public.decode(), KeyPair.generate().public.decode()
    folder = tmp_path / "keys"
    assert known_server(folder, HERE) is None
    remember_server(folder, HERE, one)
    remember_server(folder, "tcp://[2001:db8::1]:5555", two)
    assert known_server(folder, HERE) == one
    assert known_server(folder, "tcp://192.0.2.7:5556") is None
    assert known_server(folder, "tcp://[2001:DB8::1]:5555") == two
    assert server_file(folder, "tcp://[2001:db8::1]:5555").name == "2001-db8--1_5555.key"
    remember_server(folder, HERE, two)  # the engine there was set up anew, and its new key was given
    assert known_server(folder, HERE) == two
    assert remote_engine(HERE, two)().server_key == two
    server_file(folder, HERE).write_text("nonsense")
    with pytest.raises(LinkError, match="damaged"):
        known_server(folder, HERE)
    remember_server(folder, HERE, one)  # and a damaged file is mended by a connection
    assert read_public(server_file(folder, HERE)).decode() == one


# ---- without a display


def test_without_a_display_the_engine_runs_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(window, "find_display", str)
    ran: list[argparse.Namespace] = []
    monkeypatch.setattr(engine, "run", lambda args: ran.append(args) or 0)
    assert main([]) == 0
    assert (ran[0].strategy, ran[0].duration, ran[0].no_live) == ([], None, False)
    assert capsys.readouterr().out == (
        "No display was found: the engine runs in this terminal instead of a window. Ctrl-C stops it.\n"
    )


def test_without_a_display_nothing_is_started_behind_ones_back(
    strategy: Path, monkeypatch: pytest.MonkeyPatch, profile: Paths
) -> None:
    monkeypatch.setattr(window, "find_display", str)
    with pytest.raises(KocError, match=r"no display was found, .* koc engine --strategy"):
        window.run(parse([str(strategy)]))
    remember_server(profile.keys, HERE, KeyPair.generate().public.decode())
    with pytest.raises(KocError, match="no display was found, so the engine at tcp://192"):
        window.run(parse(["--connect", HERE]))


def test_a_display_is_what_qt_was_told() -> None:
    assert find_display({"QT_QPA_PLATFORM": "offscreen"}, "linux") == "Qt's offscreen"
    assert find_display({}, "linux") == ""
