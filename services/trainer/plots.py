"""Every figure that the trainer draws. Each function returns a figure; nothing here opens a window."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import matplotlib as mpl
import numpy as np
import numpy.typing as npt

mpl.use("Agg")

import pandas as pd  # after the backend is chosen
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shared.atomic import atomic_file
from shared.choices import Probabilities
from shared.emotions import EMOTIONS
from shared.scores import Harms

_DPI: Final = 110


class Bin(Protocol):
    """Answers of about the same confidence, as training/metrics.py counts them."""

    @property
    def number(self) -> int: ...
    @property
    def confidence(self) -> float: ...
    @property
    def accuracy(self) -> float: ...
    @property
    def share(self) -> float: ...


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    with atomic_file(path) as beside:
        figure.savefig(beside, dpi=_DPI)


def class_distribution(images: Mapping[Any, Mapping[str, int]]) -> Figure:
    """Bars of images per class, one colour per split."""
    rows = [(emotion, split, count) for split, counts in images.items() for emotion, count in counts.items()]
    table = pd.DataFrame(rows, columns=["emotion", "split", "images"])
    figure, axes = _figure(9, 4.5)
    seaborn.barplot(table, x="emotion", y="images", hue="split", palette="deep", ax=axes)
    for bars in axes.containers:
        axes.bar_label(bars, fontsize=7, padding=2)  # type: ignore[arg-type] # bar plots hold bars
    axes.set(xlabel="", ylabel="images", title="Images per class and split")
    _legend_below(figure, axes)
    return figure


def confusion(matrix: Sequence[Sequence[int]], title: str) -> Figure:
    """The confusion matrix as counts and as shares of each row (the true class)."""
    counts = np.array(matrix)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) * 100
    figure = Figure(figsize=(13, 5.4), layout="constrained")
    for axes, values, form, name in zip(
        figure.subplots(1, 2), (counts, shares), ("d", ".0f"), ("images", "% of the row"), strict=True
    ):
        options: dict[str, Any] = {"xticklabels": EMOTIONS, "yticklabels": EMOTIONS, "cmap": "Blues", "cbar": False}
        seaborn.heatmap(values, annot=True, fmt=form, square=True, linewidths=0.5, ax=axes, **options)
        axes.set(xlabel="predicted", ylabel="true", title=name)
    figure.suptitle(title)
    return figure


def curves(history: Sequence[Mapping[str, float]], others: Mapping[str, Mapping[int, float]] | None = None) -> Figure:
    """Loss and accuracy of training and validation by epoch; `others` are points to compare accuracy with."""
    table = pd.DataFrame(history)
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        axes.plot(table["epoch"], table[name], label="training", color="#8fa8c9")
        axes.plot(table["epoch"], table[f"val_{name}"], label="validation", color="#1f5fbf")
        if name == "accuracy":
            for label, points in (others or {}).items():
                axes.plot(list(points), list(points.values()), "o", label=label, color="#d9622b")
        axes.set(xlabel="epoch", title=name)
        axes.grid(alpha=0.3)
        _clean(axes)
    _legend_below(figure, axes)  # of accuracy, which has every line that loss has
    return figure


def reliability(before: Sequence[Bin], after: Sequence[Bin], bins: int) -> Figure:
    """Accuracy by confidence, before and after temperature scaling; on the diagonal, confidence is honest."""
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    for axes, filled, title in zip(figure.subplots(1, 2), (before, after), ("before", "after"), strict=True):
        shares = [b.share for b in filled]
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=1)
        axes.bar([b.number / bins for b in filled], shares, 1 / bins, align="edge", color="#dde6f3")
        axes.scatter(
            [b.confidence for b in filled],
            [b.accuracy for b in filled],
            s=20 + 300 * np.array(shares),
            color="#1f5fbf",
            clip_on=False,
        )
        axes.set(
            xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share that is right", title=f"{title} temperature"
        )
        _clean(axes)
    return figure


def robustness_curves(results: Mapping[str, Harms]) -> Figure:
    """Accuracy under each kind of degradation, from none to the strongest, one line per model."""
    harms = list(next(iter(results.values())).harms)
    columns = 4
    rows = -(-len(harms) // columns)
    figure = Figure(figsize=(3.3 * columns, 2.6 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True).ravel()
    for axes, harm in zip(grid, harms, strict=False):
        for name, result in results.items():
            accuracies = result.harms[harm]
            ticks = ["none", *accuracies]
            axes.plot(range(len(ticks)), [result.clean, *accuracies.values()], marker="o", markersize=3, label=name)
            axes.set_xticks(range(len(ticks)), ticks, fontsize=7)
        axes.set_title(harm, fontsize=9)
        axes.set_ylim(0, 1)
        axes.grid(alpha=0.3)
        _clean(axes)
    for axes in grid[len(harms) :]:
        axes.axis("off")
    _legend_below(figure, grid[0])
    return figure


def samples(
    faces: npt.NDArray[np.uint8], labels: npt.NDArray[np.int8], probabilities: Probabilities, title: str
) -> Figure:
    """Faces with their label, the prediction and the seven probabilities."""
    columns = 6
    rows = max(1, -(-len(faces) // columns))
    figure = Figure(figsize=(2.1 * columns, 3.5 * rows), layout="constrained")
    grid = figure.subplots(rows * 2, columns, squeeze=False, height_ratios=[2, 1.5] * rows)
    for axes in grid.ravel():
        axes.axis("off")
    for number, (face, label, row) in enumerate(zip(faces, labels, probabilities, strict=True)):
        picture, bars = grid[number // columns * 2, number % columns], grid[number // columns * 2 + 1, number % columns]
        picture.imshow(face, cmap="gray", vmin=0, vmax=255)
        predicted = int(row.argmax())
        picture.set_title(
            f"{EMOTIONS[predicted]} {row[predicted]:.0%}\nlabelled {EMOTIONS[label]}",
            fontsize=8,
            color="#2e7d32" if predicted == label else "#a4262c",
        )
        colors = ["#2e7d32" if i == label else "#8fa8c9" for i in range(len(EMOTIONS))]
        bars.axis("on")
        bars.barh(range(len(EMOTIONS)), row, color=colors)
        bars.set_yticks(range(len(EMOTIONS)), EMOTIONS, fontsize=6)
        bars.set_xticks([])
        bars.set_xlim(0, 1)
        bars.invert_yaxis()
        _clean(bars)
    figure.suptitle(title)
    return figure


def explanations(
    faces: npt.NDArray[np.uint8], maps: Mapping[str, npt.NDArray[np.float32]], captions: Sequence[str]
) -> Figure:
    """One column per face: the face, and each kind of map on top of it."""
    figure = Figure(figsize=(1.7 * len(faces), 2.0 * (len(maps) + 1)), layout="constrained")
    grid = figure.subplots(len(maps) + 1, len(faces), squeeze=False)
    for column, (face, caption) in enumerate(zip(faces, captions, strict=True)):
        for axes in grid[:, column]:
            axes.imshow(face, cmap="gray", vmin=0, vmax=255, extent=(0, 1, 0, 1))
            axes.set_xticks([])
            axes.set_yticks([])
        grid[0, column].set_title(caption, fontsize=7)
        for axes, (name, values) in zip(grid[1:, column], maps.items(), strict=True):
            heat = values[column] / max(float(values[column].max()), 1e-9)
            axes.imshow(heat, cmap="inferno", alpha=0.5, extent=(0, 1, 0, 1), interpolation="bilinear")
            if column == 0:
                axes.set_ylabel(name, fontsize=8)
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    _clean(axes)
    return figure, axes


def _legend_below(figure: Figure, axes: Axes) -> None:
    """The legend of `axes` under the whole figure, where it covers nothing."""
    if legend := axes.get_legend():
        legend.remove()
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)


def _clean(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
