"""Every module that this program loads by its name, where no import statement says so: the one list.

An installed copy holds what import statements reach and what stands here (koc.spec), and `koc doctor --imports` imports
each of these. A test holds the list against the tables and calls in the source that load modules by name.
"""

from __future__ import annotations

EXCHANGES = ("binance", "kraken", "coinbase", "kucoin", "bitfinex")  # of the hundreds that ccxt knows

OURS = (
    # the venues' adapters (wiring/venues, venues/alpaca/requests_of)
    "koc_qt.adapters.venues.simulator",
    "koc_qt.adapters.venues.binance",
    "koc_qt.adapters.venues.kraken",
    "koc_qt.adapters.venues.coinbase",
    "koc_qt.adapters.venues.kucoin",
    "koc_qt.adapters.venues.bitfinex",
    "koc_qt.adapters.venues.alpaca",
    "koc_qt.adapters.venues.alpaca.library",
    "koc_qt.adapters.venues.polygon",
    "koc_qt.adapters.venues.yahoo",
    # what a worker loads before it is locked down (wiring/backtest, adapters/dask_worker)
    "koc_qt.worker.engines.backtrader",
    "koc_qt.worker.engines.vectorbt",
    "koc_qt.worker.sweep",
    # the window's panels (ui/panel_list), and parts of theirs that are loaded in steps
    "koc_qt.ui.backtests.player",
    "koc_qt.ui.mascot.sprite",
    "koc_qt.ui.panels.accounts",
    "koc_qt.ui.panels.backtest",
    "koc_qt.ui.panels.chart",
    "koc_qt.ui.panels.data",
    "koc_qt.ui.panels.deploy",
    "koc_qt.ui.panels.log",
    "koc_qt.ui.panels.mascot",
    "koc_qt.ui.panels.orders",
    "koc_qt.ui.panels.strategies",
    "koc_qt.ui.panels.telemetry",
    "koc_qt.ui.panels.ticket",
)

LIBRARIES = (
    # venues' clients
    *(f"ccxt.pro.{exchange}" for exchange in EXCHANGES),
    "ccxt.base.errors",
    "ccxt.base.decimal_to_precision",
    "ccxt.async_support.base.ws.cache",
    "massive",
    "massive.exceptions",
    "urllib3",
    "websockets.asyncio.client",
    "yfinance.cache",
    "yfinance.config",
    "yfinance.data",
    "yfinance.pricing_pb2",
    "curl_cffi",
    "curl_cffi.requests",
    "curl_cffi._wrapper",
    # back-tests by other engines, the optimiser's machine code
    "backtrader",
    "llvmlite.binding",
    "numba",
    "numba.typed",
    "vectorbt",
    "vectorbt_rust",
    # charts
    "numpy",
    "numpy.ma",
    "pyqtgraph",
)

# What libraries load by name themselves, as far as this program asks them to.
INDIRECT = (
    "apscheduler.executors.asyncio",
    "apscheduler.executors.pool",
    "apscheduler.jobstores.memory",
    "apscheduler.triggers.cron",
    "apscheduler.triggers.date",
    "apscheduler.triggers.interval",
    "distributed",
    "distributed.comm.tcp",
    "distributed.comm.inproc",
    "distributed.protocol",
    "keyring.backends.chainer",
    "keyring.backends.fail",
    "keyring.backends.null",
    "numba._devicearray",  # by machine code of numba's
    "optuna",
    "optuna.samplers",
    "pandas",
    "pyarrow.csv",
    "pyarrow.parquet",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.dialects.sqlite",
    "tzdata",
)

# By platform (sys.platform): what is no part of the others.
OF_PLATFORM = {
    "linux": ("keyring.backends.SecretService", "keyring.backends.kwallet", "keyring.backends.libsecret"),
    "win32": ("keyring.backends.Windows",),
}

# What strategies may import beside the standard library. No other name is promised in an installed copy.
FOR_STRATEGIES = (
    "koc_qt.domain",
    "koc_qt.sdk",
    "numpy",
    "pandas",
    "numba",
    "scipy.cluster",
    "scipy.fft",
    "scipy.integrate",
    "scipy.interpolate",
    "scipy.linalg",
    "scipy.ndimage",
    "scipy.optimize",
    "scipy.signal",
    "scipy.sparse",
    "scipy.spatial",
    "scipy.special",
    "scipy.stats",
)


def modules(platform: str) -> list[str]:
    """Give every name, for a platform as `sys.platform` names it."""
    every = (*OURS, *LIBRARIES, *INDIRECT, *OF_PLATFORM.get(platform, ()), *FOR_STRATEGIES)
    return list(dict.fromkeys(every))
