"""Finding instruments by what a person types."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from koc_qt.domain.errors import InvalidOrder, VenueRejected, VenueUnavailable
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.engine.bus import Bus
from koc_qt.engine.catalogue import Catalogue, best
from koc_qt.engine.history import HistoryService
from koc_qt.engine.market_data import MarketData
from koc_qt.engine.store import Store
from tests.conditions import until
from tests.fakes.clock import FakeClock
from tests.fakes.market import FakeDataVenue, MemoryBarStore
from tests.fakes.trading import BTC, BTC_RULES, ETH, ETH_RULES
from tests.unit.engine.desk import EngineDesk


def instrument(symbol: str, venue: str = "sim") -> Instrument:
    base, _, quote = symbol.partition("/")
    return Instrument(InstrumentId(venue, symbol), base, quote, Decimal("0.01"), Decimal("0.001"))


MARKET = [
    instrument(symbol) for symbol in ("WBTC/BTC", "BTCST/USDT", "ETH/BTC", "BTC/USDT", "1000SATS/USDT", "BTC/EUR")
]


def found(text: str, limit: int = 10) -> list[str]:
    return [one.id.symbol for one in best(MARKET, text, limit)]


def test_the_best_come_first() -> None:
    assert found("btc") == ["BTC/EUR", "BTC/USDT", "BTCST/USDT", "ETH/BTC", "WBTC/BTC"]
    assert found("BTC/U") == ["BTC/USDT"]
    assert found("btcst") == ["BTCST/USDT"]
    assert found("sats") == ["1000SATS/USDT"]
    assert found("usdt", 2) == ["1000SATS/USDT", "BTC/USDT"]
    assert found("doge") == []


@pytest.mark.parametrize("text", ["btcusdt", "BTC-USDT", "btc/usdt", "btc_usdt", "btc usdt", "BTC/USDT:"])
def test_separators_and_case_make_no_difference(text: str) -> None:
    assert found(text) == ["BTC/USDT"]


def test_no_text_gives_all_in_order() -> None:
    assert found("") == sorted(one.id.symbol for one in MARKET)
    assert found(" ") == found("")


def test_one_symbol_on_two_venues() -> None:
    both = [instrument("BTC/USDT", "sim2"), instrument("BTC/USDT", "sim")]
    assert [one.id.venue for one in best(both, "btc", 10)] == ["sim", "sim2"]


async def test_by_venue_and_within_limits(engine: EngineDesk) -> None:
    catalogue = Catalogue(engine.store, engine.market)
    assert await catalogue.find("sim", "eth", 5) == [ETH_RULES]
    assert {one.id for one in await catalogue.find("", "", 5)} == {BTC, ETH}
    assert len(await catalogue.find("", "", 1)) == 1
    with pytest.raises(VenueUnavailable, match="there is no venue 'simm'; there are: sim"):
        await catalogue.find("simm", "btc", 5)
    for limit in (0, 1_001):
        with pytest.raises(InvalidOrder, match="ask for 1 to 1000 instruments"):
            await catalogue.find("sim", "btc", limit)
    with pytest.raises(InvalidOrder, match="100 characters at most, not 101"):
        await catalogue.find("sim", "b" * 101, 5)


class TwoVenues:
    """One venue that answers, and one that does not."""

    def __init__(self) -> None:
        self.clock, self.store = FakeClock(), Store()
        self.well = FakeDataVenue(self.clock, instruments=(BTC_RULES,))
        self.ill = FakeDataVenue(self.clock, name="sim2", instruments=())
        self.ill.refuse_connect = [VenueUnavailable("no route")] * 100
        venues = {"sim": self.well, "sim2": self.ill}
        history = HistoryService(MemoryBarStore(), venues, self.clock)
        self.market = MarketData(self.store, Bus(), self.clock, venues, history)
        self.catalogue = Catalogue(self.store, self.market, ready_timeout_s=0.05)


@pytest.mark.expected_warnings("sim2 is out of reach")
async def test_one_venue_that_is_out_of_reach_keeps_nobody_from_the_other() -> None:
    desk = TwoVenues()
    with pytest.raises(VenueUnavailable, match=r"not connected after 0\.05 s"):
        await desk.catalogue.find("", "btc", 5)
    asking = asyncio.create_task(Catalogue(desk.store, desk.market, ready_timeout_s=10).find("", "btc", 5))
    await desk.market.start()
    assert await asking == [BTC_RULES]
    await until(lambda: desk.store.venues["sim2"].reason, what="the venue to be found ill")
    with pytest.raises(VenueUnavailable, match="sim2 is not connected"):
        await desk.catalogue.find("sim2", "btc", 5)
    await desk.market.close()


async def test_an_engine_without_venues() -> None:
    clock, store = FakeClock(), Store()
    market = MarketData(store, Bus(), clock, {}, HistoryService(MemoryBarStore(), {}, clock))
    with pytest.raises(VenueUnavailable, match="has no venues"):
        await Catalogue(store, market).find("", "", 5)


class OpenVenue(FakeDataVenue):
    """Lists a part of what it has."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.asked: list[str] = []
        self.trouble: Exception | None = None

    async def find(self, symbol: str) -> Instrument:
        self.asked.append(symbol)
        if self.trouble is not None:
            raise self.trouble
        return instrument(symbol)


async def test_what_a_venue_does_not_list_is_asked_for_and_can_then_be_held() -> None:
    clock, store = FakeClock(), Store()
    venue = OpenVenue(clock)
    history = HistoryService(MemoryBarStore(), {"sim": venue}, clock)
    market = MarketData(store, Bus(), clock, {"sim": venue}, history)
    catalogue = Catalogue(store, market)
    await market.start()
    assert await catalogue.find("sim", "btc/usdt", 5) == [BTC_RULES]
    assert await catalogue.find("", "sap.de", 5) == []  # of no venue in particular
    assert venue.asked == []
    assert await catalogue.find("sim", " sap.de ", 5) == [instrument("SAP.DE")]
    assert (await market.hold(InstrumentId("sim", "OR.PA"), "window")) == instrument("OR.PA")
    assert venue.subscribed == ["OR.PA"]
    for trouble in (VenueUnavailable("no route"), VenueRejected("no such symbol")):
        venue.trouble = trouble
        assert await catalogue.find("sim", "btc", 5) == [BTC_RULES]
    with pytest.raises(InvalidOrder, match="sim has no symbol 'NONE'"):
        await market.hold(InstrumentId("sim", "NONE"), "window")
    assert venue.asked == ["SAP.DE", "OR.PA", "BTC", "BTC", "NONE"]
    await market.close()
