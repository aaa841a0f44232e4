"""The rails themselves: each kind of leak and each unexpected warning fails a test and is named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PySide6.QtCore import QCoreApplication, qWarning

from koc_qt.adapters.qt_libraries import WINDOW_LIBRARIES, missing_libraries
from tests.conditions import PATIENCE, until, wait_until

ROOT = Path(__file__).parents[2]

PRELUDE = """
import asyncio, logging, os, subprocess, sys, threading
from pathlib import Path
import pytest
from loguru import logger
from tests import leaks
kept = []

@pytest.fixture(autouse=True)
def grace():
    leaks.GRACE_S = GRACE_S
"""

CAUGHT = {
    "thread 'left-behind'": """
def test_it():
    kept.append(threading.Event())
    threading.Thread(target=kept[0].wait, args=(20,), name="left-behind", daemon=True).start()
""",
    "child process": """
def test_it():
    kept.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
""",
    "but nobody waited for it": """
def test_it():
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
""",
    "left.txt": """
def test_it(tmp_path):
    kept.append((tmp_path / "left.txt").open("w"))
""",
    "socket:[": """
import socket
def test_it():
    kept.append(socket.socket())
""",
    "task 'forgotten' (Event.wait)": """
async def test_it():
    kept.append(asyncio.create_task(asyncio.Event().wait(), name="forgotten"))
    await asyncio.sleep(0)
""",
    "task 'of a fixture'": """
@pytest.fixture
async def service():
    kept.append(asyncio.create_task(asyncio.Event().wait(), name="of a fixture"))
    yield
async def test_it(service):
    await asyncio.sleep(0)
""",
    "timer <TimerHandle": """
async def test_it():
    asyncio.get_running_loop().call_later(20, print)
""",
    "Qt object <PySide6.QtCore.QTimer": """
def test_it():
    from PySide6.QtCore import QCoreApplication, QTimer
    kept.append(QCoreApplication.instance() or QCoreApplication([]))
    timer = QTimer()
    timer.start(20_000)
    kept.append(timer)
""",
    "Qt object <qasync._SimpleTimer": """
def test_it():
    from PySide6.QtCore import QCoreApplication
    from koc_qt.wiring.qt_loop import QEventLoop
    kept.append(QCoreApplication.instance() or QCoreApplication([]))
    kept.append(QEventLoop(kept[0]))
    kept[1].close()
""",
    "Qt object <PySide6.QtCore.QSocketNotifier": """
def test_it():
    from PySide6.QtCore import QCoreApplication, QSocketNotifier
    kept.append(QCoreApplication.instance() or QCoreApplication([]))
    kept.append(QSocketNotifier(0, QSocketNotifier.Type.Read))
""",
    "unexpected warnings in the log": """
def test_it():
    logger.warning("something is off")
""",
    "WARNING somewhere: something is off": """
def test_it():
    logging.getLogger("somewhere").warning("something is %s", "off")
""",
    "unexpected warnings": """
@pytest.mark.expected_warnings("disk is full")
def test_it():
    logger.warning("the disk is full")
    logger.error("and it burns")
""",
    "expected warnings that never came": """
@pytest.mark.expected_warnings("disk is full")
def test_it():
    pass
""",
}

ALLOWED = {
    "ends in time": """
def test_it():
    threading.Timer(0.05, print).start()
""",
    "async and tidy": """
@pytest.fixture
async def service():
    task = asyncio.create_task(asyncio.Event().wait())
    yield task
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
async def test_it(service):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await asyncio.shield(service)
""",
    "expected by a marker": """
@pytest.mark.expected_warnings("disk is full")
def test_it():
    logger.warning("the disk is full")
""",
    "expected by a fixture": """
def test_it(expected_warnings):
    logger.warning("the disk is full")
    logging.getLogger("x").error("and it burns")
    assert [line.split(": ")[1] for line in expected_warnings] == ["the disk is full", "and it burns"]
""",
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Run every case under the project's own conftest and settings, one file a case; give what was said of each."""
    folder = tmp_path_factory.mktemp("rails")
    (folder / "tests").mkdir()
    for name in ("__init__.py", "conditions.py", "conftest.py", "leaks.py", "without_windows.py"):
        (folder / "tests" / name).write_bytes((ROOT / "tests" / name).read_bytes())
    (folder / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    short, long = (PRELUDE.replace("= GRACE_S", f"= {seconds}") for seconds in (0.2, 30.0))
    bodies = [*(short + body for body in CAUGHT.values()), *(long + body for body in ALLOWED.values())]
    for number, body in enumerate(bodies):
        (folder / "tests" / f"test_{number}.py").write_text(body, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    plugins = [word for name in ("pytest-qt", "xdist", "cov") for word in ("-p", f"no:{name}")]
    command = [sys.executable, "-m", "pytest", "-q", *plugins, "--junit-xml=report.xml", "tests"]
    result = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100 * PATIENCE,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert (folder / "report.xml").exists(), result.stdout + result.stderr
    said: dict[int, str] = {}
    for case in ElementTree.parse(folder / "report.xml").iter("testcase"):
        number = int(case.attrib["classname"].rpartition("_")[2])
        said[number] = said.get(number, "") + "".join(
            f"{part.get('message')}\n{part.text}" for part in case if part.tag in ("error", "failure")
        )
    return dict(zip([*CAUGHT, *ALLOWED], [said[number] for number in range(len(bodies))], strict=True))


@pytest.mark.parametrize("named", CAUGHT)
@pytest.mark.skipif(sys.platform != "linux", reason="descriptors and children are read from /proc")
@pytest.mark.xdist_group("rails")
def test_what_is_left_behind_fails_and_is_named(named: str, outcomes: dict[str, str]) -> None:
    assert named in outcomes[named]


@pytest.mark.parametrize("case", ALLOWED)
@pytest.mark.xdist_group("rails")
def test_what_is_in_order_passes(case: str, outcomes: dict[str, str]) -> None:
    assert outcomes[case] == ""


@pytest.mark.skipif(bool(missing_libraries(WINDOW_LIBRARIES)), reason="libraries are missing that pytest-qt needs")
@pytest.mark.expected_warnings("WARNING Qt: a socket is not what it was")
def test_what_qt_warns_of_counts(qapp: QCoreApplication) -> None:
    qWarning("a socket is not what it was")


def test_wait_until_gives_the_value_and_is_bounded() -> None:
    values = iter([None, 0, "ready"])
    assert wait_until(lambda: next(values)) == "ready"
    with pytest.raises(AssertionError, match=r"waiting for the moon; last value: \[\]"):
        wait_until(list, timeout_s=0.01, what="the moon")


async def test_until_takes_functions_and_coroutines() -> None:
    values = iter([None, 0, "ready"])
    assert await until(lambda: next(values)) == "ready"

    async def never() -> bool:
        return False

    with pytest.raises(AssertionError, match="never; last value: False"):
        await until(never, timeout_s=0.01)
