"""Whether pictures show what their scenes say.

    judge = Judge(data, load_classifier(data, folder), canvas=(64, 64))
    verdicts = judge(pictures, scenes)
    print(summary(verdicts).top1)

Three resemblances of what lies at an object's place are compared for all icons: colours, shapes, and what the
classifier says. Each is standardised over icons and boxes, and their sum is the score; the best box counts.
Two objects are in place if they score higher as said than swapped, and neither place is empty: half of all guesses
are right. One is if no other corner holds more of it: a quarter.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from rich.progress import track

from data import PATCH, EmojiData
from emoji_quality.classifier import Classifier
from emoji_quality.colour import Backdrop, FloatArray, backdrop, pixels
from emoji_quality.looks import Looks, resized
from emoji_quality.places import Canvas, Room, corners, rooms
from scenes import CORNERS, STYLES, Scene

SEEN = 32
"""Side of the windows that the classifier names: it knows smaller objects best, and large ones shrink to it."""
FILLED = 0.03
"""Part of a window that is not background, from which it holds something."""


@dataclass(frozen=True)
class Verdict:
    """On one picture. ranks: of each object's name among all, 1 is the best. place: None where none was said."""

    ranks: tuple[int, ...]
    background: bool
    place: bool | None


class Judge:
    """Knows all icons of `data` on canvases of one size."""

    def __init__(self, data: EmojiData, classifier: Classifier, canvas: Canvas) -> None:
        self.canvas, self.classifier, self.looks = canvas, classifier, Looks(data)
        self.index = {name: i for i, name in enumerate(data.names)}

    def __call__(self, pictures: FloatArray, scenes: Sequence[Scene], title: str = "judging") -> list[Verdict]:
        """One verdict for each of the pictures (B, 3, H, W) and scenes."""
        pairs = list(zip(pictures, scenes, strict=True))
        return [self.verdict(pixels(picture), scene) for picture, scene in track(pairs, title, transient=True)]

    def verdict(self, picture: FloatArray, scene: Scene) -> Verdict:
        """The verdict on pixels (H, W, 3)."""
        there = rooms(scene, self.canvas, PATCH)
        behind = self.behind(picture, scene)
        scores = [self.scores(picture, room, behind) for room in there]
        as_said, swapped = (self.total(order, scene) for order in (scores, scores[::-1]))
        if scene.place is None and swapped > as_said:
            scores.reverse()
        ranks = tuple(self.rank(score, name, scene.style) for score, name in zip(scores, scene.objects, strict=True))
        place = None
        if len(there) == 2 and scene.place is not None:
            place = as_said > swapped and min(filled(picture, there, behind)) > FILLED
        elif scene.place is not None:
            place = self.corner(picture, behind) == scene.place
        return Verdict(ranks, behind.shows(scene.background), place)

    def behind(self, picture: FloatArray, scene: Scene) -> Backdrop:
        """The background of pixels (H, W, 3). One object may lie anywhere, whatever was said."""
        anywhere = replace(scene, place=None) if len(scene.objects) == 1 else scene
        return backdrop(picture, rooms(anywhere, self.canvas, PATCH))

    def scores(self, picture: FloatArray, room: Room, behind: Backdrop) -> FloatArray:
        """How well each icon (N, S) fits what is in a room."""
        window = torch.from_numpy(resized(crop(picture, room.window), SEEN) / 127.5 - 1).permute(2, 0, 1)
        logits = self.classifier(window[None]).numpy()  # (1, N, S)
        colours, shapes = self.resemblances(picture, room, behind)  # (O, N, S) each
        scores: FloatArray = np.max(standard(logits) + standard(colours) + standard(shapes), 0)
        return scores

    def resemblances(self, picture: FloatArray, room: Room, behind: Backdrop) -> tuple[FloatArray, FloatArray]:
        """Of the colours and of the shapes in every box of a room to every icon: (O, N, S)."""
        colours, shapes = [], []
        for top in dict.fromkeys(top for _, top, _ in room.boxes):  # icons are composed once a height
            boxes = [box for box in room.boxes if box[1] == top]
            crops = np.stack([resized(crop(picture, box)) for box in boxes])
            rows = resized(np.repeat(behind.rows[top : top + boxes[0][2], None], boxes[0][2], 1))[:, 0]
            colours += [self.looks.colours(one, rows) for one in crops]
            shapes += list(self.looks.shapes(crops, rows))
        return np.stack(colours), np.stack(shapes)

    def total(self, scores: Sequence[FloatArray], scene: Scene) -> float:
        """Of the scores (N, S) of the objects of a scene, each in its room."""
        pairs = zip(scores, scene.objects, strict=True)
        return sum(positive(score[self.index[name]], scene.style) for score, name in pairs)

    def rank(self, scores: FloatArray, name: str, style: str | None) -> int:
        """Of a name by scores (N, S): in the style that was said, against all others in any."""
        others = np.delete(scores, self.index[name], 0).max(1)
        return 1 + int((others >= positive(scores[self.index[name]], style)).sum())

    def corner(self, picture: FloatArray, behind: Backdrop) -> str | None:
        """Where most of an object is."""
        parts = filled(picture, corners(self.canvas, PATCH), behind)
        return CORNERS[int(np.argmax(parts))] if max(parts) > FILLED else None


def filled(picture: FloatArray, rooms: Sequence[Room], behind: Backdrop) -> list[float]:
    """What part of each room is not background."""
    foreground = behind.objects(picture)
    return [float(crop(foreground, room.window).mean()) for room in rooms]


def crop(picture: np.ndarray, box: tuple[int, int, int]) -> np.ndarray:
    """The pixels of a box."""
    left, top, side = box
    return picture[top : top + side, left : left + side]


def standard(x: FloatArray) -> FloatArray:
    """With mean 0 and deviation 1."""
    result: FloatArray = (x - x.mean()) / max(float(x.std()), 1e-6)
    return result


def positive(scores: FloatArray, style: str | None) -> float:
    """Of the scores (S,) of a name: that of the style, or the best."""
    return float(scores.max() if style is None else scores[STYLES.index(style)])


@dataclass(frozen=True)
class Summary:
    """Shares of the objects named at once and among five, of the backgrounds, and of the said places that are right."""

    pictures: int
    top1: float
    top5: float
    background: float
    place: float | None


def summary(verdicts: Iterable[Verdict]) -> Summary:
    """Of at least one verdict."""
    verdicts = list(verdicts)
    ranks = [rank for verdict in verdicts for rank in verdict.ranks]
    places = [verdict.place for verdict in verdicts if verdict.place is not None]
    return Summary(
        pictures=len(verdicts),
        top1=statistics.fmean(rank == 1 for rank in ranks),
        top5=statistics.fmean(rank <= 5 for rank in ranks),
        background=statistics.fmean(verdict.background for verdict in verdicts),
        place=statistics.fmean(places) if places else None,
    )
