"""Take the pictures of docs/images from the real window under Xvfb: `python -m tests.screenshots [NAME ...]`.

Needs Xvfb (Debian: xvfb). Each picture is what a person sees after a start, a drop or a click.
"""

from __future__ import annotations

import math
import shutil
import sys
import tempfile
from pathlib import Path
from random import Random

import pandas as pd

from koc_qt.domain.state import TradingMode
from tests.e2e.display import screen
from tests.e2e.exchange_process import venue
from tests.e2e.processes import ROOT, SAMPLES, Profile
from tests.e2e.window import WindowProcess, window
from tests.gui.build_script import BuildScript

FOLDER = ROOT / "docs" / "images"
CHARTS = "len(charts) >= 2 and all(chart.chart.bar_count > 100 for chart in charts)"
OF_ACCOUNTS = {"account", "live"}
BUILDING = """
if check:
    end()
stages = (("env", "Make the build environment", 41), ("freeze", "Freeze the program", 270),
          ("pack", "Pack the .deb", 14), ("system", "Make a clean system to test in", 67),
          ("test", "Install it, trade with it, remove it", 190))
tell("plan", target=target, stages=[{"name": name, "title": title, "seconds": took} for name, title, took in stages])
tell("stage", target=target, name="env", state="skipped", seconds=0)
tell("stage", target=target, name="freeze", state="done", seconds=262.8)
tell("stage", target=target, name="pack", state="running")
for part in ("koc", "_internal/libpython3.11.so.1.0", "_internal/numpy", "_internal/pandas", "_internal/pyarrow"):
    tell("log", text=f"adding /opt/koc/{part}")
tell("progress", target=target, name="pack", fraction=0.4, stage_fraction=0.5, remaining_s=264)
wait_for("go")
for name in ("pack", "system", "test"):
    tell("stage", target=target, name=name, state="done", seconds=14.2)
result()
end()
"""
RUNNING = "any(strategy.state == 'running' for strategy in replica.strategies.values())"


class Photographer:
    """Drives one window and keeps pictures of it."""

    def __init__(self, shown: WindowProcess, sample: Path, wanted: set[str]) -> None:
        self.shown = shown
        self.sample = sample
        self._wanted = wanted

    def take(self, name: str, widget: str = "None") -> None:
        """Keep a picture, once what was changed has been painted."""
        if self._wanted and name not in self._wanted:
            return
        self.shown.ask("window.monitor.reset()")  # the picture before held the window up
        self.shown.until("window.monitor.stats().turns > 200")
        self.shown.ask("window.status.refresh()")
        self.shown.ask("app.processEvents()")
        path = FOLDER / f"{name}.png"
        assert self.shown.ask(f"grab({str(path)!r}, {widget})")
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")

    def start_sma_cross(self) -> None:
        """Start the sample as a person does, by dropping it and pressing Start."""
        shown = self.shown
        shown.ask(f"drop({str(self.sample)!r})")
        shown.until("dialog().start_button.isVisible() and dialog().start_button.isEnabled()")
        self.take("drop", "window.screen()")
        shown.ask("click('Start')")
        shown.until(RUNNING)
        shown.until("dialog() is None")


def _theme(shown: WindowProcess, name: str) -> None:
    shown.ask(f"run('view.theme.{name}')")


def _size(shown: WindowProcess, width: int, height: int) -> None:
    shown.ask(f"window.resize({width}, {height})")
    shown.ask("run('view.reset')")
    shown.until("not window.workspace._fill_timer.isActive()")


def _workspace(profile: Profile, display: str, wanted: set[str]) -> None:
    sample = profile.output_folder / "sma_cross.py"  # a person's own copy: no path of this checkout is in a picture
    shutil.copy(SAMPLES / "sma_cross.py", sample)
    with window(profile, QT_QPA_PLATFORM="xcb", DISPLAY=display) as shown:
        camera = Photographer(shown, sample, wanted)
        shown.until(CHARTS)
        shown.until("not window.workspace._fill_timer.isActive()")
        _theme(shown, "dark")
        _size(shown, 1600, 1000)
        shown.until("window.monitor.stats().turns > 500")
        camera.take("workspace")
        camera.start_sma_cross()
        shown.until("len(replica.fills) >= 4", timeout_s=180)
        shown.ask("window.workspace.show_panel('telemetry')")
        camera.take("running")
        _theme(shown, "light")
        camera.take("light")
        _theme(shown, "dark")
        _backtest(camera)
        _deploy(camera)
        _floating(camera)
        _size(shown, 1024, 700)
        camera.take("small")
        shown.close()


def _backtest(camera: Photographer) -> None:
    shown = camera.shown
    shown.ask("window.workspace.show_panel('backtest')")
    setup = {
        "path": str(camera.sample),
        "timeframe": "1m",
        "span": {"quick": "7 days"},
        "parameters": {"fast": "20", "slow": "80"},
    }
    shown.ask(f"panel('backtest').restore({{'setup': {setup!r}}})")
    shown.until("len(replica.backtests) > 0 or run('backtest.run')", timeout_s=60)
    shown.ask("window.workspace.docks['backtest'].setFloating(True)")
    shown.ask("window.workspace.docks['backtest'].resize(1100, 620)")
    shown.until("panel('backtest').pages.currentWidget() is panel('backtest').result", timeout_s=120)
    shown.until("panel('backtest').isVisible()")
    _results(camera)
    _file(camera)
    shown.ask("window.workspace.docks['backtest'].setFloating(False)")


def _results(camera: Photographer) -> None:
    """What the panel shows of a run: at a glance, how far to believe it, bar by bar, and a search around it."""
    shown, dock, panel = camera.shown, "window.workspace.docks['backtest']", "panel('backtest')"
    camera.take("backtest", dock)
    shown.ask(f"{panel}.result.tabs.setCurrentWidget({panel}.result.trust)")
    shown.until("replica.trust and all(each.state == 'done' for each in replica.trust.values())", timeout_s=300)
    shown.until(f"len({panel}.result.trust.cards) == 6")
    camera.take("backtest-trust", dock)
    shown.ask(f"{panel}.bar.replay.click()")
    shown.until(f"{panel}.player is not None and {panel}.player.chart.bar_count > 0", timeout_s=60)
    for _ in range(3):
        shown.ask(f"{panel}.player.to_next_trade()")
    shown.ask(f"[{panel}.player.step_on() for _ in range(20)]")
    camera.take("backtest-replay", dock)
    shown.ask(f"{panel}.bar.views['optimise'].click()")
    shown.until(f"len({panel}.optimise.form.rows) > 0")
    shown.ask(f"{panel}.optimise.begin()")
    shown.until("replica.studies and all(each.state == 'done' for each in replica.studies.values())", timeout_s=300)
    shown.until(f"len({panel}.optimise._trials) == next(iter(replica.studies.values())).finished")
    shown.until(f"not {panel}.optimise._painting.isActive()")
    camera.take("backtest-optimise", dock)
    shown.ask(f"{panel}.bar.views['optimise'].click()")


def _file(camera: Photographer) -> None:
    """The panel on a file of bars: days that the picture's own market has made up."""
    shown, panel = camera.shown, "panel('backtest')"
    path = camera.sample.with_name("index_1d.parquet")
    draw = Random(4)
    closes = [100.0]
    for _ in range(2_000):
        closes.append(closes[-1] * math.exp(draw.gauss(0.0004, 0.012)))
    opens, closes = closes[:-1], closes[1:]
    highs, lows = map(max, opens, closes), map(min, opens, closes)
    columns = {"open": opens, "high": list(highs), "low": list(lows), "close": closes, "volume": [1e6] * len(opens)}
    times = pd.date_range("2016-01-04", periods=len(opens), freq="1D", tz="UTC", name="timestamp")
    pd.DataFrame(columns, index=times).to_parquet(path)
    known = shown.ask("len(replica.backtests)")
    shown.ask(f"{panel}.setup.bars.choose([{str(path)!r}])")
    shown.ask("run('backtest.run')")
    shown.until(f"len(replica.backtests) > {known}")
    shown.until(f"{panel}.result.result.spec.files and {panel}.pages.currentWidget() is {panel}.result", timeout_s=60)
    shown.ask(f"{panel}.result.tabs.setCurrentIndex(0)")
    camera.take("backtest-file", "window.workspace.docks['backtest']")
    shown.ask(f"{panel}.setup.bars.leave()")


def _deploy(camera: Photographer) -> None:
    """Installers being built, by a script that only says so: the real one takes a quarter of an hour."""
    shown, panel, dock = camera.shown, "panel('deploy')", "window.workspace.docks['deploy']"
    script = BuildScript(camera.sample.parent, BUILDING)
    place = "__import__('koc_qt.ui.panels.deploy_build_place', fromlist=['Place']).Place"
    folder = f"__import__('pathlib').Path({str(script.folder)!r})"
    shown.ask(f"setattr({panel}.run, '_find', lambda: {place}({script.place().command!r}, {folder}))")
    shown.ask("window.workspace.show_panel('deploy')")
    shown.ask(f"{dock}.setFloating(True)")
    shown.ask(f"{dock}.resize(440, 720)")
    shown.ask(f"{panel}.installers.with_test.setChecked(True)")
    shown.ask(f"{panel}.installers.buttons['ubuntu'].click()")
    shown.until(f"{panel}.run.book.fraction() == 0.4 and {panel}.installers.log.total == 5")
    shown.until(f"not {panel}.doctor.is_running", timeout_s=60)
    camera.take("deploy", dock)
    script.allow("go")
    shown.until(f"not {panel}.run.is_running")
    shown.ask(f"{dock}.setFloating(False)")
    shown.ask("window.workspace.show_panel('strategies')")


def _floating(camera: Photographer) -> None:
    """Two charts more, one of them floating: what lies on the screen is pictured, not the window alone."""
    shown = camera.shown
    for symbol, timeframe in (("SOL/USDT", "1s"), ("XRP/USDT", "5m")):
        shown.ask(f"window.open_chart(InstrumentId('sim', {symbol!r}), {timeframe!r})")
    shown.until("len(charts) == 4 and all(chart.chart.bar_count > 50 for chart in charts)")
    shown.ask("[dock.setFloating(True) for dock in list(window.workspace.charts.values())[2:]]")
    for place, (x, y) in enumerate(((160, 300), (760, 380)), start=2):
        shown.ask(f"list(window.workspace.charts.values())[{place}].setGeometry({x}, {y}, 560, 380)")
    shown.ask("app.processEvents()")
    camera.take("floating", "window.screen()")


def _accounts(profile: Profile, display: str, wanted: set[str]) -> None:
    """A live account at the simulated Binance: the form that adds it, and the window with it."""
    profile.environment |= {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
    form = "panel('accounts').account_actions.dialogs['add', '']"
    with venue(profile.output_folder / "venue") as place:
        place.start()
        profile.configure({"venues": {"binance": place.settings}})
        with window(profile, QT_QPA_PLATFORM="xcb", DISPLAY=display) as shown:
            camera = Photographer(shown, SAMPLES / "sma_cross.py", wanted)
            shown.until(CHARTS)
            shown.until("not window.workspace._fill_timer.isActive()")
            _theme(shown, "dark")
            _size(shown, 1600, 1000)
            shown.ask("run('accounts.add')")
            shown.until(f"{form}.isVisible() and {form}.venue.findData('binance') >= 0")
            shown.ask(f"[{form}.venue.choose('binance'), {form}.venue.activated.emit(0)]")
            shown.ask(f"{form}.mode.choose('live')")
            shown.until(f"{form}.secrets.is_needed")
            shown.ask(f"[each.setText(9 * 'k') for each in ({form}.secrets.passphrase, {form}.secrets.again)]")
            shown.ask("click('Choose it')")
            shown.until(f"not {form}.secrets.problem()", timeout_s=60)
            for name, value in place.keys[TradingMode.LIVE].items():
                shown.ask(f"{form}.credentials.fields[{name!r}].editor.setText({value!r})")
            shown.ask("click('Test connection')")
            shown.until(f"{form}.report.isVisible() and not {form}.is_busy", timeout_s=60)
            shown.until(f"not {form}._fitting.isActive()")
            camera.take("account", "dialog()")
            shown.ask(f"{form}.confirmation.field.setText({form}.label.text())")
            shown.ask("click('Add the account')")
            shown.until("replica.accounts['binance-live'].state == 'connected'", timeout_s=60)
            shown.until("window.live_frame.isVisible() and dialog() is None")
            card = "panel('accounts').cards['binance-live']"
            shown.until(f"{card}.state.text() == 'Binance · connected'")
            shown.until(f"{card}.visibleRegion().boundingRect().height() > 90")
            shown.until("not window.notices.texts")  # the notice passes
            camera.take("live")
            shown.close()


def main() -> int:
    """Take all pictures, or those that are named."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = set(sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="koc-") as folder, screen() as display:
        if not wanted or wanted - OF_ACCOUNTS:
            _workspace(Profile(Path(folder) / "home"), display, wanted)
        if not wanted or wanted & OF_ACCOUNTS:
            _accounts(Profile(Path(folder) / "home of accounts"), display, wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
