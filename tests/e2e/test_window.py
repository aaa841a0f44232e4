"""The real window process on real engines: found, started, killed, stopped, on another machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from koc_qt.link.rendezvous import process_runs
from tests.conditions import PATIENCE, wait_until
from tests.e2e.processes import SAMPLES, Profile
from tests.e2e.window import WindowProcess, window

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(240),
    pytest.mark.skipif(sys.platform == "win32", reason="processes are killed as POSIX does it"),
]

CHARTS = "len(charts) == 2 and all(chart.chart.bar_count > 100 for chart in charts)"
CONNECTED = "desk.is_connected"


def engine_pid(shown: WindowProcess) -> int:
    shown.until(CONNECTED)
    return int(shown.ask("replica.engine.pid"))


def test_it_starts_an_engine_and_leaves_it_running(home: Profile) -> None:
    with window(home) as shown:
        shown.until(CHARTS)
        first = shown.ask("charts[0].chart.last_time_ns")
        shown.until(f"charts[0].chart.last_time_ns > {first}")
        assert shown.ask("window.notices.texts") == []
        assert shown.ask("window.header.mode.text()") == "Simulated"
        pid = engine_pid(shown)
        assert shown.close() == 0
        assert process_runs(pid)
        with window(home) as again:
            assert engine_pid(again) == pid
            again.until(CHARTS)
            again.close()


def test_a_dropped_strategy_trades_before_your_eyes_and_nothing_is_lost(home: Profile) -> None:
    home.configure({"simulator": {"speed": 20}})
    with window(home) as shown:
        shown.until(CHARTS)
        shown.until("panel('strategies') is not None and panel('mascot') is not None")
        assert shown.ask("panel('mascot').mascot.mood") == "asleep"
        shown.ask(f"drop({str(SAMPLES / 'sma_cross.py')!r})")
        shown.until("dialog().start_button.isVisible() and dialog().start_button.isEnabled()")
        shown.ask("click('Start')")
        shown.until("replica.strategies['sma_cross'].state == 'running'")
        shown.until("len(charts[0].chart.markers) >= 4", timeout_s=90)
        assert shown.ask("panel('mascot').mascot.mood") != "asleep"
        assert shown.ask("window.header.strategies.value.text()") == "1 / 1"
        pid = engine_pid(shown)
        os.kill(pid, signal.SIGKILL)
        shown.until("any('is being started again' in text for text in window.notices.texts)")
        before = shown.ask("[fill.fill_id for fill in replica.fills.values()]")
        shown.until(f"desk.is_connected and replica.engine.pid != {pid}")
        shown.until("replica.strategies['sma_cross'].state == 'running'", timeout_s=60)
        shown.until(f"len(replica.fills) > {len(before)}", timeout_s=90)
        shown.ask("run('strategies.stop_all')")
        shown.until("replica.strategies['sma_cross'].state == 'stopped'")
        shown.until("not any(order.is_open for order in replica.orders.values())")
        journal = home.journal()
        fills = [fill.fill_id for fill in journal.fills]
        assert len(set(fills)) == len(fills)
        assert set(before) <= set(fills)
        shown.until(f"sorted(fill.fill_id for fill in replica.fills.values()) == {sorted(fills)!r}")
        orders = sorted(order.client_order_id for order in journal.orders)
        assert shown.ask("sorted(replica.orders)") == orders
        marks = "sorted([str(mark.price), str(mark.quantity)] for mark in charts[0].chart.markers)"
        wanted = sorted([str(fill.price), str(fill.quantity)] for fill in journal.fills)
        shown.until(f"{marks} == {wanted!r}")


def test_a_second_window_opened_for_a_file_offers_it_on_the_engine_of_the_first(home: Profile) -> None:
    with window(home) as first:
        pid = engine_pid(first)
        with window(home, str(SAMPLES / "sma_cross.py")) as second:
            assert engine_pid(second) == pid
            second.until("dialog().start_button.isVisible() and dialog().start_button.isEnabled()")
            second.ask("click('Start')")
            for shown in (second, first):
                shown.until("replica.strategies['sma_cross'].state == 'running'")
            assert first.ask("dialog() is None")  # only who asked is asked
            assert second.close() == 0
            assert engine_pid(first) == pid
            assert first.ask("replica.strategies['sma_cross'].state") == "running"


def test_it_says_when_the_engine_is_killed_and_starts_it_again(home: Profile) -> None:
    with window(home) as shown:
        shown.until(CHARTS)
        pid = engine_pid(shown)
        os.kill(pid, signal.SIGKILL)
        shown.until("any('is being started again' in text for text in window.notices.texts)")
        assert shown.ask("charts[0].chart.bar_count") > 100
        shown.until(f"desk.is_connected and replica.engine.pid != {pid}")
        shown.until("window.notices.texts == []")
        last = shown.ask("charts[0].chart.last_time_ns")
        shown.until(f"charts[0].chart.last_time_ns > {last}")
        assert shown.ask("charts[0].chart.fault") == ""


def test_a_window_that_is_killed_takes_nothing_with_it(home: Profile) -> None:
    with window(home) as shown:
        shown.until(CHARTS)
        pid = engine_pid(shown)
        shown.ask("window.workspace.docks['log'].close()")
        shown.ask("window.remember()")
        shown.kill()
        assert process_runs(pid)
        with window(home) as again:
            again.until(CHARTS)
            assert engine_pid(again) == pid
            assert again.ask("window.workspace.docks['log'].isHidden()")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what is loaded is read from /proc")
def test_a_signal_while_the_window_starts_closes_it(home: Profile) -> None:
    """Whatever has been loaded; one after the other, and the engine goes on."""
    with home.engine() as engine:
        engine.wait_for_status(lambda status: status["engine"]["state"] == "running", "the engine to run")
        for part in ("Shiboken", "libQt6Core", "libQt6Widgets", "multiarray"):
            output = home.output_folder / f"koc {part}.txt"
            with (
                output.open("w") as file,
                subprocess.Popen(
                    [sys.executable, "-m", "koc_qt"],
                    env={**home.environment, "QT_QPA_PLATFORM": "offscreen"},
                    cwd=home.output_folder,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                ) as process,
            ):
                maps = Path(f"/proc/{process.pid}/maps")
                try:
                    wait_until(lambda: part in maps.read_text(), timeout_s=30, what=f"{part} to be loaded")  # noqa: B023
                    process.send_signal(signal.SIGINT)
                    assert process.wait(30 * PATIENCE) == 0, f"{part}: {output.read_text()}"
                finally:
                    process.kill()
            assert output.read_text() == "", part
            assert engine.process.poll() is None, part


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Qt's xcb plugin is one for X11")
@pytest.mark.parametrize(("platform", "why"), [("nonsense", 'plugin "nonsense"'), ("xcb", "connect to display")])
def test_where_qt_finds_no_screen_a_sentence_says_so_and_no_engine_stays(
    home: Profile, platform: str, why: str
) -> None:
    home.environment |= {"QT_QPA_PLATFORM": platform, "DISPLAY": ""}
    result = home.koc()
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("koc: the window cannot be shown, Qt says: ")
    assert why in result.stderr
    assert result.stderr.count("\n") == 1
    until_it_gave_up(home)


def test_an_engine_ends_whose_window_is_killed_before_it_is_up(home: Profile) -> None:
    program = (
        "from koc_qt.paths import profile_paths; from koc_qt.wiring.engine_process import spawn_where_none_runs; "
        "paths = profile_paths(); paths.ensure(); print(spawn_where_none_runs(paths).pid, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], env=home.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        assert process_runs(pid)
        starter.kill()
    wait_until(lambda: not process_runs(pid), timeout_s=20, what="the engine's end")
    until_it_gave_up(home)


def until_it_gave_up(home: Profile) -> None:
    """Wait until the engine that was started has ended, without a trace in the profile."""
    output = home.paths.logs / "engine-output.txt"
    wait_until(lambda: "the engine did not start" in output.read_text(), timeout_s=20, what="the engine's word")
    assert not home.paths.journal.exists()
    assert not (home.paths.run / "engine.json").exists()


def test_an_engine_that_hangs_is_said_not_to_answer_and_is_found_again(home: Profile) -> None:
    with window(home) as shown:
        shown.until(CHARTS)
        pid = engine_pid(shown)
        os.kill(pid, signal.SIGSTOP)
        shown.until("any('does not answer' in text for text in window.notices.texts)")
        os.kill(pid, signal.SIGCONT)
        shown.until(CONNECTED)
        assert shown.ask("replica.engine.pid") == pid
        shown.until("window.notices.texts == []")


def test_closing_asks_and_stops_the_engine_when_told(home: Profile) -> None:
    with window(home) as shown:
        shown.until(CHARTS)
        pid = engine_pid(shown)
        shown.ask("window.close()")
        shown.until("dialog() is not None")
        shown.ask("click('Cancel')")
        shown.until("dialog() is None")
        assert shown.ask("window.isVisible()")
        shown.ask("window.close()")
        shown.until("dialog() is not None")
        shown.ask("click('Stop the engine')")
        assert shown.wait() == 0
        wait_until(lambda: not process_runs(pid), timeout_s=20, what="the engine's end")


def test_an_engine_that_somebody_stopped_is_started_when_the_person_says_so(home: Profile) -> None:
    with window(home) as shown:
        pid = engine_pid(shown)
        assert home.koc("stop").returncode == 0
        shown.until("any('The engine has stopped' in text for text in window.notices.texts)")
        shown.ask("run('engine.start')")
        shown.until(f"desk.is_connected and replica.engine.pid != {pid}")


def test_the_kill_switch_latches_until_it_is_released(home: Profile) -> None:
    with window(home) as shown:
        shown.until(CONNECTED)
        shown.ask("run('engine.kill')")
        shown.until("replica.engine.kill_switch")
        shown.until("any('kill switch is engaged' in text for text in window.notices.texts)")
        shown.ask("run('engine.release')")
        shown.until("click('Release', [w for w in app.topLevelWidgets() if w.isModal()][0])")
        shown.until("not replica.engine.kill_switch")


def test_a_damaged_layout_costs_the_layout_alone(home: Profile) -> None:
    home.paths.data.mkdir(parents=True)
    (home.paths.data / "window.json").write_bytes(b"\xff{")
    with window(home) as shown:
        shown.until(CHARTS)
        assert any("layout" in text for text in shown.ask("window.notices.texts"))
        assert (home.paths.data / "window.damaged.json").exists()


def test_an_engine_that_cannot_start_is_said(home: Profile) -> None:
    home.configure("engine: [")
    with window(home) as shown:
        shown.until("any('The engine did not start' in text for text in window.notices.texts)")
        assert "koc.yaml" in shown.ask("' '.join(window.notices.texts)")
        home.configure({})
        shown.ask("run('engine.start')")
        shown.until(CHARTS)


def test_an_engine_that_cannot_be_reached_is_stopped_and_started_anew_when_the_person_says_so(home: Profile) -> None:
    buttons = "window.notices.findChildren(type(window.header.kill))"
    with home.engine() as engine:
        engine.wait_for_status(lambda status: status["engine"]["state"] == "running", "the engine to run")
        (home.paths.run / "engine.json").write_bytes(b"{")
        with window(home) as shown:
            shown.until("any('cannot be reached' in text for text in window.notices.texts)")
            shown.until(f"[button.click() for button in {buttons} if 'anew' in button.text()]")
            shown.until(CHARTS)
            assert engine_pid(shown) != engine.pid
            assert engine.wait() == 0
            shown.until("window.notices.texts == []")


def test_an_engine_on_another_machine_is_shown_with_keys_exchanged_by_file(home: Profile, tmp_path: Path) -> None:
    there = Profile(tmp_path / "there")
    assert home.koc("keys", "export", str(tmp_path / "desk.key")).returncode == 0
    assert there.koc("keys", "import", "desk", str(tmp_path / "desk.key")).returncode == 0
    assert there.koc("keys", "server", str(tmp_path / "server.key")).returncode == 0
    from koc_qt.link.keys import read_public
    from koc_qt.link.rendezvous import running_engine

    key = read_public(tmp_path / "server.key").decode()
    with there.engine() as engine:
        engine.wait_for_status(lambda status: status["engine"]["state"] == "running", "the engine to run")
        endpoint = running_engine(there.paths.run).link
        with window(home, "--connect", endpoint, key) as shown:
            shown.until(CHARTS)
            assert engine_pid(shown) == engine.process.pid
            assert "remote" in shown.ask("window.header.state.text()")
            engine.kill()
            shown.until("any('No connection to the engine at tcp' in text for text in window.notices.texts)")
            shown.close()
    assert home.look() is None
