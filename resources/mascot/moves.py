"""How the mascot moves: the cells of every mood, and the order and time in which they are shown."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from boxer import Pose
from extras import alarm, bubble, cloud, confetti, crate, drop, lamp, note, snore

TAU = math.tau


@dataclass(frozen=True)
class Move:
    """A mood's cells, and what is shown: pairs of a cell and milliseconds. `still` is the cell for no motion."""

    cells: tuple[Pose, ...]
    frames: tuple[tuple[int, int], ...]
    still: int = 0


def moves() -> dict[str, Move]:
    """Give every mood's move."""
    return {
        "idle": _idle(),
        "dance": _dance(),
        "sad": _sad(),
        "alarmed": _alarmed(),
        "asleep": _asleep(),
        "cheer": _cheer(),
        "working": _working(),
    }


def _idle() -> Move:
    """Breathe in guard; blink, look around, and now and then throw a one-two."""
    breath = []
    for step in range(8):
        up = math.sin(TAU * step / 8)
        bob = math.cos(TAU * step / 8)
        breath.append(
            Pose(
                squash=-0.012 * up,
                head=(0, -0.9 * up),
                left=(36.5 - 0.8 * up, 88 + 1.6 * bob),
                right=(91.5 + 0.8 * up, 88 - 1.6 * bob),
                tail=4 * bob,
            )
        )
    blink = [replace(breath[0], eyes="closed")]
    aside = [
        replace(breath[step], look=(side * 3.0, 0.4), tilt=side * 3.0, head=(side * 1.5, 0))
        for side in (-1, 1)
        for step in (0, 4)
    ]
    guard = replace(breath[0], eyes="open", mouth="grit", lean=-3, head=(-1, 1), left=(33, 84), right=(86, 84))
    cross = replace(
        guard, lean=6, x=2, left=(40, 84), right=(113, 74), head=(2, 0), look=(2.5, 0), tail=-14, mouth="open"
    )
    jab = replace(
        guard, lean=-6, x=-2, left=(15, 74), right=(86, 84), head=(-2, 0), look=(-2.5, 0), tail=16, mouth="open"
    )
    cells = (*breath, *blink, *aside, guard, cross, jab)  # 0-7, 8, 9-12, 13, 14, 15
    slow = tuple((step, 170) for step in range(8))
    frames = (
        *slow, (0, 120), (8, 110), (0, 120), *slow[1:],
        (9, 420), (10, 420), (9, 300), (8, 100), (11, 420), (12, 420), (11, 300), (0, 120),
        *slow[1:], (8, 110), *slow, (13, 160), (14, 120), (13, 90), (15, 120), (13, 200), (0, 160),
        *slow[1:], (8, 110), (0, 120), (8, 110),
    )  # fmt: skip
    return Move(cells, frames)


def _dance() -> Move:
    """Bounce from side to side, a glove up on each beat."""
    cells = []
    for step in range(12):
        turn = TAU * step / 12
        sway, beat = math.sin(turn), abs(math.sin(turn))
        raised = (1 + sway) / 2  # of the right glove
        notes = tuple(
            note(
                x + 3 * math.sin(TAU * part + x), 58 - 64 * part, kind, min(1.0, 6 * part, 2.5 * (1 - part)), 12 * sway
            )
            for x, kind, part in (
                (4.0, 0, step / 12),
                (125.0, 1, (step / 12 + 0.25) % 1),
                (10.0, 2, (step / 12 + 0.5) % 1),
                (119.0, 0, (step / 12 + 0.75) % 1),
            )
        )
        cells.append(
            Pose(
                x=7 * sway,
                jump=7 * beat**1.5,
                squash=0.07 * (1 - beat) ** 2 - 0.02 * beat,
                lean=8 * sway,
                tilt=-7 * sway,
                head=(1.5 * sway, 0),
                left=(22 + 10 * raised, 58 + 32 * raised),
                right=(96 + 10 * raised, 90 - 32 * raised),
                feet=(5 * max(0.0, sway), 5 * max(0.0, -sway)),
                eyes="happy",
                mouth="open",
                tail=-22 * math.cos(turn),
                extras=notes,
            )
        )
    return Move(tuple(cells), tuple((step, 90) for step in range(12)), still=3)


def _sad() -> Move:
    """Hang the head under a small cloud."""
    cells = []
    for step in range(12):
        turn = TAU * step / 12
        sigh = (1 - math.cos(turn)) / 2
        fall = (step / 12) * 1.5
        tears = (drop(48.5 + 2 * fall, 76 + 22 * fall, 0.9, min(1.0, (1.05 - fall) * 4)),) if fall < 1 else ()
        cells.append(
            Pose(
                squash=0.03 + 0.02 * sigh,
                head=(-1, 3 + 1.4 * sigh),
                tilt=-3 - 1.5 * sigh,
                left=(35, 107 + sigh),
                right=(93, 107 + sigh),
                eyes="closed" if step == 11 else "sad",
                look=(-0.6, 1.2),
                mouth="frown",
                ears=46 + 4 * sigh,
                tail=26 + 3 * sigh,
                extras=(cloud(66 + 1.5 * math.sin(turn), 1, step / 12), *tears),
            )
        )
    return Move(tuple(cells), tuple((step, 130) for step in range(12)), still=4)


def _alarmed() -> Move:
    """Jump with both gloves up while the lamp turns."""
    cells = []
    for step in range(10):
        turn = TAU * step / 10
        high = max(0.0, math.sin(turn))
        shake = 1.6 * math.sin(3 * turn)
        squash = 0.10 if step in (0, 5) else 0.05 if step in (6, 9) else -0.04 * high
        jump = 9 * high
        flash = 1.0 + 0.16 * math.sin(2 * turn)
        cells.append(
            Pose(
                x=shake * 0.5,
                jump=jump,
                squash=squash,
                head=(0, 1),
                tilt=shake * 1.6,
                left=(19, 74 + 5 * math.sin(turn * 2)),
                right=(109, 74 - 5 * math.sin(turn * 2)),
                feet=(4 * high, 2 * high),
                eyes="wide",
                look=(0.9 * math.sin(turn), 0.6 * math.cos(2 * turn)),
                mouth="shout",
                tail=-20 * high,
                extras=(
                    lamp(64 + shake * 0.5, 23 - jump + squash * 92, 36.0 * step),
                    alarm(8, 34, -12, flash),
                    alarm(120, 34, 12, 2 - flash),
                ),
            )
        )
    return Move(tuple(cells), tuple((step, 84) for step in range(10)), still=2)


def _asleep() -> Move:
    """Sit and breathe slowly, the chin on the gloves."""
    cells = []
    for step in range(12):
        turn = TAU * step / 12
        breath = math.sin(turn)
        cells.append(
            Pose(
                sits=True,
                squash=0.02 - 0.016 * breath,
                head=(-2, 14 - 1.6 * breath),
                tilt=-6 + 0.8 * breath,
                left=(50, 108 - 0.5 * breath),
                right=(78, 108 - 0.5 * breath),
                behind=True,
                eyes="closed",
                mouth="doze",
                ears=14 - 2 * breath,
                tail=22 + 3 * breath,
                extras=(bubble(66, 87 - 1.6 * breath, 5 + 3.4 * breath), snore(step / 12)),
            )
        )
    return Move(tuple(cells), tuple((step, 190) for step in range(12)), still=3)


def _cheer() -> Move:
    """Jump for joy under paper rain."""
    cells = []
    for step in range(10):
        turn = TAU * step / 10
        high = max(0.0, math.sin(turn))
        squash = 0.09 if step in (0, 5) else 0.05 if step in (6, 9) else 0.02 if step > 5 else -0.03 * high
        wave = 4 * math.sin(turn * 2)
        cells.append(
            Pose(
                jump=8 * high,
                squash=squash,
                tilt=4 * math.sin(turn),
                left=(20 - wave * 0.4, 58 + wave),
                right=(108 + wave * 0.4, 58 + wave),
                feet=(5 * high, 5 * high),
                eyes="happy",
                mouth="open",
                tail=-18 * math.cos(turn),
                extras=(confetti(step / 10),),
            )
        )
    return Move(tuple(cells), tuple((step, 85) for step in range(10)), still=2)


def _working() -> Move:
    """Hammer on a box, in a hard hat: lift, strike, bounce."""
    cells = []
    # how far the hammer is up, for each cell; the blow falls in the last but two, and sparks fly from there on
    lifts = (0.1, 0.35, 0.65, 0.9, 1.0, 0.55, 0.0, 0.12, 0.06)
    sparks = {6: 0.35, 7: 0.7, 8: 1.0}
    for step, lift in enumerate(lifts):
        cells.append(
            Pose(
                x=-11,
                squash=0.05 if step == 6 else -0.015 * lift,
                lean=2.5 - 5 * lift,
                head=(0.5 - 2.5 * lift, 1.5 - 1.5 * lift),
                tilt=4 - 8 * lift,
                left=(36, 92 - 3 * lift),
                right=(98 + 15 * lift, 87 - 25 * lift),
                eyes="tight" if step in (6, 7) else "open",
                look=(2.6, 2.2),
                mouth="open" if 2 <= step <= 4 else "grit",
                tail=-10 + 18 * lift,
                hat=True,
                hammer=90 - 94 * lift,
                extras=(crate(116, 102, sparks.get(step, 0.0)),),
            )
        )
    durations = (90, 90, 90, 90, 220, 60, 110, 90, 100)
    return Move(tuple(cells), tuple(enumerate(durations)), still=3)
