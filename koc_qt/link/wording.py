"""What a command asks of the engine, in people's words: for sentences about one that was not sent, or not answered."""

from __future__ import annotations

from collections.abc import Mapping

from koc_qt.link.messages import Command

# By the name of the command's class. Each goes on from "the engine was asked to".
ERRANDS: Mapping[str, str] = {
    "Hello": "let this program in",
    "RequestSnapshot": "send everything again",
    "SubmitOrder": "place the order",
    "CancelOrder": "cancel the order",
    "AmendOrder": "change the order",
    "CancelAllOrders": "cancel all orders",
    "DescribeStrategy": "read the strategy file",
    "StoreStrategy": "keep the strategy file",
    "StartStrategy": "start the strategy",
    "StopStrategy": "stop the strategy",
    "EngageKillSwitch": "engage the kill switch",
    "ReleaseKillSwitch": "release the kill switch",
    "Subscribe": "send live prices",
    "Unsubscribe": "send live prices no more",
    "FetchBars": "send bars",
    "ListInstruments": "list its symbols",
    "ListSeries": "list its stored bars",
    "ReadLog": "send its log",
    "StartDownload": "download bars",
    "StopDownload": "stop the download",
    "StartBacktest": "start the back-test",
    "StopBacktest": "stop the back-test",
    "FetchBacktest": "send the back-test's result",
    "FetchBacktestPage": "send the back-test's trades",
    "ListVenues": "list its venues",
    "ListAccounts": "list its accounts",
    "AddAccount": "add the account",
    "UpdateCredentials": "keep the account's keys",
    "RenameAccount": "rename the account",
    "SetAccountEnabled": "open or close the account",
    "RemoveAccount": "remove the account",
    "SwitchAccount": "switch the account",
    "TestConnection": "test the connection",
    "UnlockSecrets": "unlock the keys",
    "SecretsStatus": "say where keys are kept",
    "Shutdown": "stop",
}


def errand(command: Command) -> str:
    """Say what a command asks, to go on from "the engine was asked to"."""
    return ERRANDS[type(command).__name__]
