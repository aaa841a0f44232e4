"""A client's copy of what the engine knows, built from its snapshot, its history and facts."""

from __future__ import annotations

from itertools import islice

from koc_qt.domain.accounts import AccountLimits
from koc_qt.domain.backtests import BacktestSnapshot
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.latency import LatencySnapshot
from koc_qt.domain.market import Book, Quote, StreamStatus, Trade
from koc_qt.domain.optimisation import StudySnapshot
from koc_qt.domain.orders import Fill, Order
from koc_qt.domain.risk import RiskLimits
from koc_qt.domain.state import (
    AccountSnapshot,
    DownloadSnapshot,
    EngineSnapshot,
    PositionSnapshot,
    StrategySnapshot,
    VenueSnapshot,
)
from koc_qt.domain.trust import DriftReport, TrustSnapshot
from koc_qt.link.account_messages import AccountLimitsChanged
from koc_qt.link.backtest_messages import BacktestDeleted
from koc_qt.link.messages import (
    AccountChanged,
    AccountRemoved,
    BacktestChanged,
    BookChanged,
    DownloadChanged,
    EngineChanged,
    Fact,
    FillRecorded,
    HistoryPage,
    InstrumentsAdded,
    LatencyChanged,
    NoticeGiven,
    OrderChanged,
    PositionChanged,
    QuoteChanged,
    Snapshot,
    StrategyChanged,
    StreamChanged,
    TradePrinted,
    VenueChanged,
)
from koc_qt.link.optimiser_messages import StudyChanged, StudyDeleted
from koc_qt.link.trust_messages import DriftMeasured, TrustChanged

PositionKey = tuple[str, str, InstrumentId]  # strategy, account, instrument
FillKey = tuple[str, str]  # account, fill id


class Replica:
    """Dictionaries of the newest of everything, oldest first; read them, never write them.

    At most `limit` fills and as many orders are kept: the oldest fills and the oldest closed orders make way. Older
    orders and fills arrive in pages, the newest first, and take their place before those that are known;
    `has_history` says that all of them have come.
    """

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self.has_history = False
        self.engine: EngineSnapshot | None = None
        self.latency: LatencySnapshot | None = None
        self.venues: dict[str, VenueSnapshot] = {}
        self.accounts: dict[str, AccountSnapshot] = {}
        self.limits: dict[str, AccountLimits] = {}  # what venues let accounts do
        self.risk: RiskLimits | None = None  # of each strategy
        self.instruments: dict[InstrumentId, Instrument] = {}
        self.strategies: dict[str, StrategySnapshot] = {}
        self.positions: dict[PositionKey, PositionSnapshot] = {}
        self.orders: dict[str, Order] = {}
        self.open_orders: dict[str, Order] = {}  # those of `orders` that are open
        self.fills: dict[FillKey, Fill] = {}
        self.downloads: dict[str, DownloadSnapshot] = {}
        self.backtests: dict[str, BacktestSnapshot] = {}
        self.trust: dict[str, TrustSnapshot] = {}  # checks of strategies
        self.drift: dict[str, DriftReport] = {}  # the newest of each strategy
        self.studies: dict[str, StudySnapshot] = {}  # searches of parameters
        self.streams: dict[InstrumentId, StreamStatus] = {}
        self.notices: tuple[str, ...] = ()  # what the person has to be told
        self.quotes: dict[InstrumentId, Quote] = {}
        self.books: dict[InstrumentId, Book] = {}
        self.trades: dict[InstrumentId, Trade] = {}

    def apply(self, fact: Fact) -> None:
        """Take over a fact; those that carry no state are ignored. Applying one twice does no harm."""
        match fact:
            case Snapshot():
                self._replace(fact)
            case HistoryPage():
                self._prepend(fact)
            case EngineChanged(engine):
                self.engine = engine
            case LatencyChanged(latency):
                self.latency = latency
            case VenueChanged(venue):
                self.venues[venue.venue] = venue
            case AccountChanged(account):
                self.accounts[account.account_id] = account
            case AccountLimitsChanged(limits):
                self.limits[limits.account_id] = limits
            case AccountRemoved(account_id):
                self.accounts.pop(account_id, None)
                self.limits.pop(account_id, None)
            case NoticeGiven(text):
                self.notices = (*self.notices, *({text} - {*self.notices}))
            case InstrumentsAdded(instruments):
                self.instruments |= {instrument.id: instrument for instrument in instruments}
            case StrategyChanged(strategy):
                self.strategies[strategy.spec.strategy_id] = strategy
            case PositionChanged(position):
                self.positions[position_key(position)] = position
            case OrderChanged(order):
                self._put_order(order)
            case FillRecorded(fill):
                self._put_fill(fill)
            case DownloadChanged(download):
                self.downloads[download.download_id] = download
            case BacktestChanged(backtest):
                self.backtests[backtest.backtest_id] = backtest
            case BacktestDeleted(backtest_id):
                self.backtests.pop(backtest_id, None)
            case TrustChanged(trust):
                self.trust[trust.trust_id] = trust
            case DriftMeasured(drift):
                self.drift[drift.strategy_id] = drift
            case StudyChanged(study):
                self.studies[study.study_id] = study
            case StudyDeleted(study_id):
                self.studies.pop(study_id, None)
            case StreamChanged(stream):
                self.streams[stream.instrument] = stream
            case QuoteChanged(quote):
                self.quotes[quote.instrument] = quote
            case BookChanged(book):
                self.books[book.instrument] = book
            case TradePrinted(trade):
                self.trades[trade.instrument] = trade
            case _:
                pass

    def _replace(self, snapshot: Snapshot) -> None:
        """Forget what was known: after a lost connection it may be wrong. Market data goes on by itself."""
        self.has_history = snapshot.older == 0
        self.engine = snapshot.engine
        self.latency = snapshot.latency
        self.venues = {venue.venue: venue for venue in snapshot.venues}
        self.accounts = {account.account_id: account for account in snapshot.accounts}
        self.limits = {limits.account_id: limits for limits in snapshot.limits}
        self.risk = snapshot.risk
        self.instruments = {instrument.id: instrument for instrument in snapshot.instruments}
        self.strategies = {strategy.spec.strategy_id: strategy for strategy in snapshot.strategies}
        self.positions = {position_key(position): position for position in snapshot.positions}
        self.downloads = {download.download_id: download for download in snapshot.downloads}
        self.backtests = {backtest.backtest_id: backtest for backtest in snapshot.backtests}
        self.trust = {trust.trust_id: trust for trust in snapshot.trust}
        self.drift = {drift.strategy_id: drift for drift in snapshot.drift}
        self.studies = {study.study_id: study for study in snapshot.studies}
        self.streams = {stream.instrument: stream for stream in snapshot.streams}
        self.notices = snapshot.notices
        self.orders = {}
        self.open_orders = {}
        self.fills = {}
        for order in snapshot.orders:
            self._put_order(order)
        for fill in snapshot.fills:
            self._put_fill(fill)

    def _prepend(self, page: HistoryPage) -> None:
        """Put what is older before what is known. What is known stays: it was said later than the page's records."""
        self.orders = {order.client_order_id: order for order in page.orders} | self.orders
        self.fills = {(fill.account_id, fill.fill_id): fill for fill in page.fills} | self.fills
        self._make_way()
        self.has_history = page.is_last

    def _put_order(self, order: Order) -> None:
        self.orders[order.client_order_id] = order
        if order.is_open:
            self.open_orders[order.client_order_id] = order
        else:
            self.open_orders.pop(order.client_order_id, None)
        self._make_way()

    def _put_fill(self, fill: Fill) -> None:
        self.fills[fill.account_id, fill.fill_id] = fill
        self._make_way()

    def _make_way(self) -> None:
        if (excess := len(self.orders) - self._limit) > 0:
            closed = (key for key, order in self.orders.items() if not order.is_open)
            for key in list(islice(closed, excess)):
                del self.orders[key]
        if (excess := len(self.fills) - self._limit) > 0:
            for fill_key in list(islice(self.fills, excess)):
                del self.fills[fill_key]


def position_key(position: PositionSnapshot) -> PositionKey:
    """Give the key of a position in `Replica.positions`."""
    return position.strategy_id, position.account_id, position.instrument
