"""Take the pictures of docs/images from the real window under Xvfb: `python -m tests.screenshots [NAME ...]`.

Needs Xvfb (Debian: xvfb). Each picture is what a person sees after a start, a drop or a click.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from tests.e2e.display import screen
from tests.e2e.processes import ROOT, SAMPLES, Profile
from tests.e2e.window import WindowProcess, window

FOLDER = ROOT / "docs" / "images"
CHARTS = "len(charts) >= 2 and all(chart.chart.bar_count > 100 for chart in charts)"
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
    shown.ask("window.workspace.docks['backtest'].resize(1100, 520)")
    shown.until("panel('backtest').pages.currentWidget() is panel('backtest').result", timeout_s=120)
    shown.until("panel('backtest').isVisible()")
    camera.take("backtest", "window.workspace.docks['backtest']")
    shown.ask("window.workspace.docks['backtest'].setFloating(False)")


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


def main() -> int:
    """Take all pictures, or those that are named."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="koc-") as folder, screen() as display:
        profile = Profile(Path(folder) / "home")
        _workspace(profile, display, set(sys.argv[1:]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
