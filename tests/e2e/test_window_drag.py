"""A strategy's file dragged with the mouse from another program onto the window, started, and seen to trade."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conditions import PATIENCE, wait_until
from tests.e2e.display import SQUARE, Mouse, Point, lacking, screen
from tests.e2e.processes import ROOT, SAMPLES, Profile
from tests.e2e.window import WindowProcess, window

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

SOURCE_TIMEOUT_S = 20.0
SMA_CROSS, FOLDER = (SQUARE // 2, SQUARE // 2), (SQUARE // 2, SQUARE // 2 + SQUARE)  # where they are taken hold of
INVITATION = "Drop to set up sma_cross.py"
CHARTS = "len(charts) == 2 and all(chart.chart.bar_count > 100 for chart in charts)"
STATES = "[strategy.state for strategy in replica.strategies.values()]"
# What has been filled, and has its marker on a chart of its instrument
MARKED = """[
    (str(fill.instrument), str(fill.price))
    for panel in charts for marker in panel.chart.markers for fill in replica.fills.values()
    if (panel.state()['instrument'], marker.price, marker.strategy)
    == (str(fill.instrument), fill.price, fill.strategy_id)
]"""


@pytest.fixture(autouse=True)
def _display() -> None:
    """Skip where no window can be shown and no mouse moved; looked at late, as it loads libraries."""
    if reason := lacking():
        pytest.skip(reason)


class DragSource:
    """The program that files are dragged from."""

    def __init__(self, process: subprocess.Popen[str], output: Path) -> None:
        self._process = process
        self._output = output

    @property
    def words(self) -> list[str]:
        """All that it has said."""
        return self._output.read_text().split()

    def kill(self) -> None:
        """Let it die as programs do, in the middle of a drag."""
        self._process.kill()
        self._process.wait(SOURCE_TIMEOUT_S * PATIENCE)

    def until(self, *ends: str) -> None:
        """Wait until these are the last words that it has said."""

        def look() -> bool:
            assert self._process.poll() is None, f"the drag source has ended: {self._output.read_text()}"
            return self.words[-len(ends) :] == list(ends)

        try:
            wait_until(look, timeout_s=SOURCE_TIMEOUT_S, what=f"the drag source to say {ends}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it said {self._output.read_text()}") from None


@contextmanager
def drag_source(profile: Profile, display: str, *paths: Path) -> Iterator[DragSource]:
    """Show what can be dragged, for the length of a block."""
    output = profile.output_folder / "drag source.txt"
    with (
        output.open("w") as said,
        subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.drag_source", *map(str, paths)],
            env={**profile.environment, "QT_QPA_PLATFORM": "xcb", "DISPLAY": display},
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        try:
            source = DragSource(process, output)
            source.until("ready")
            yield source
            if process.poll() is None:
                assert process.stdin is not None
                process.stdin.close()
                assert process.wait(SOURCE_TIMEOUT_S * PATIENCE) == 0, output.read_text()
        finally:
            process.kill()


def middle(shown: WindowProcess, widget: str) -> Point:
    """Wait until a widget can be pressed, and give where on the screen it has its middle."""
    centre_of_it = f"{widget}.mapToGlobal({widget}.rect().center())"
    lies_there = f"app.widgetAt({centre_of_it})"
    shown.until(f"{widget}.isEnabled() and ({lies_there} is {widget} or {widget}.isAncestorOf({lies_there}))")
    x, y = shown.ask(f"{centre_of_it}.toTuple()")
    return x, y


def chart_beside_the_source(shown: WindowProcess) -> Point:
    """Bring the window to where it covers nothing that is dragged, and give the middle of its first chart."""
    shown.until(CHARTS)
    shown.until("window.setGeometry(150, 0, 1400, 960) or window.geometry().left() == 150")
    shown.until("not window.workspace._fill_timer.isActive()")
    return middle(shown, "charts[0].chart")


def drag(mouse: Mouse, source: DragSource, what: Point, to: Point) -> None:
    """Take hold of what lies at a place of the source, and carry it somewhere, the button held down."""
    before = source.words.count("dragging")
    mouse.jump(what)
    mouse.press()
    mouse.glide((what[0] + 30, what[1]), 3)
    wait_until(lambda: source.words.count("dragging") > before, what="a drag to begin")
    mouse.glide(to)


def test_a_file_dragged_onto_a_chart_is_set_up_started_and_marks_its_fills(home: Profile, tmp_path: Path) -> None:
    home.configure({"simulator": {"speed": 20}})
    folder = tmp_path / "strategies"
    folder.mkdir()
    with (
        screen() as display,
        window(home, QT_QPA_PLATFORM="xcb", DISPLAY=display) as shown,
        drag_source(home, display, SAMPLES / "sma_cross.py", folder) as source,
    ):
        mouse = Mouse(display)
        chart = chart_beside_the_source(shown)

        drag(mouse, source, FOLDER, chart)
        shown.until("window.drops.shown.startswith('strategies is a folder')")
        source.until("copy")
        mouse.release()
        source.until("taken")
        shown.until("any('strategies is a folder' in text for text in window.notices.texts)")
        assert shown.ask("[window.drops.shown, dialog(), len(replica.strategies)]") == ["", None, 0]

        drag(mouse, source, SMA_CROSS, chart)
        shown.until(f"window.drops.shown == {INVITATION!r}")
        mouse.glide(SMA_CROSS)
        source.until("ignore")
        shown.until("window.drops.shown == ''")
        mouse.glide(chart)
        shown.until(f"window.drops.shown == {INVITATION!r}")
        source.until("copy")
        mouse.release()
        source.until("taken")
        shown.until("dialog() is not None")
        assert shown.ask("window.drops.shown") == ""
        assert shown.ask(STATES) == []

        mouse.click(middle(shown, "dialog().start_button"))
        shown.until(f"{STATES} == ['running']")
        shown.until("dialog() is None")
        shown.until(MARKED, timeout_s=90)

        mouse.click(middle(shown, "window.header.stop_all"))
        shown.until(f"{STATES} == ['stopped']")
        assert shown.close() == 0


def test_nothing_stays_over_the_window_when_the_program_that_drags_dies(home: Profile) -> None:
    with screen() as display, window(home, QT_QPA_PLATFORM="xcb", DISPLAY=display) as shown:
        mouse = Mouse(display)
        chart = chart_beside_the_source(shown)
        with drag_source(home, display, SAMPLES / "sma_cross.py") as source:
            drag(mouse, source, SMA_CROSS, chart)
            shown.until(f"window.drops.shown == {INVITATION!r}")
            source.kill()
        mouse.release()
        mouse.glide((chart[0] + 20, chart[1]), 4)
        shown.until("window.drops.shown == ''")
        with drag_source(home, display, SAMPLES / "sma_cross.py") as source:
            drag(mouse, source, SMA_CROSS, chart)
            shown.until(f"window.drops.shown == {INVITATION!r}")
            source.until("copy")
            mouse.release()
            source.until("taken")
        shown.until("dialog() is not None")
        assert shown.ask("window.drops.shown") == ""
        assert shown.close() == 0
