"""summary.html: shares of the emotions, the course of each film, and the surest faces, on one page."""

import html
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any, Final

from services.batch.plan import DONE, SHARDS, UNREADABLE
from services.batch.storage import Output
from shared.emotions import EMOTION_COLORS, EMOTIONS

SUMMARY: Final = "summary.html"
_SUREST: Final = 12
_FILMS: Final = 40  # drawn; the page stays small whatever the archive
_PAGE: Final = Path(__file__).parent / "summary.html"


@dataclass(slots=True)
class Summary:
    """What the shards' manifests add up to; held no larger than one page shows."""

    pictures: int = 0
    frames: int = 0
    empty: int = 0
    faces: int = 0
    again: int = 0  # files that the next run tries again
    emotions: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    films: dict[str, dict[str, Any]] = field(default_factory=dict)
    films_left_out: int = 0
    surest: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def add(self, manifest: dict[str, Any]) -> None:
        """Take a shard's manifest."""
        for name in ("pictures", "frames", "empty", "faces", "again"):
            setattr(self, name, getattr(self, name) + manifest[name])
        self.emotions.update(manifest["emotions"])
        self.errors.update(manifest["errors"])
        for emotion, found in manifest["surest"].items():
            both = [*self.surest.get(emotion, ()), *found]
            self.surest[emotion] = sorted(both, key=lambda face: -face["sure"])[:_SUREST]
        for name, film in manifest["films"].items():
            if len(self.films) < _FILMS:
                self.films[name] = film
            else:
                self.films_left_out += 1


def summarize(output: Output) -> Summary:
    """The sum of every finished shard of `output`."""
    summary = Summary()
    for name in output.names(SHARDS):
        if name.endswith((DONE, UNREADABLE)):
            summary.add(output.read_json(f"{SHARDS}/{name}"))
    return summary


def write_report(output: Output, summary: Summary, by: dict[str, str]) -> None:
    """Write summary.html. It shows faces: it is as private as they are. Raises OSError."""
    page = Template(_PAGE.read_text(encoding="utf-8")).substitute(
        colors="".join(f".{name} {{ --color: {color}; }}\n" for name, color in EMOTION_COLORS.items()),
        model=html.escape(f"{by['model']} {by['model_version']} ({by['answer']})"),
        detector=html.escape(f"{by['detector']} {by['detector_version']}"),
        counts=_counts(summary),
        shares=_shares(summary),
        errors=_errors(summary.errors),
        films=_films(summary),
        surest=_contact_sheet(summary.surest),
    )
    with output.written(SUMMARY) as path:
        path.write_text(page, encoding="utf-8")


def _counts(summary: Summary) -> str:
    photos = summary.pictures - summary.frames
    cells = {
        "photos": photos,
        "frames": summary.frames,
        "faces": summary.faces,
        "without a face": summary.empty,
        "errors": sum(summary.errors.values()),
    }
    return "".join(
        f"<div><dt>{name}</dt><dd>{value:,}</dd></div>"
        for name, value in cells.items()
        if value or name not in ("photos", "frames")
    )


def _shares(summary: Summary) -> str:
    total = sum(summary.emotions.values())
    if not total:
        return "<p>No face was found.</p>"
    rows = []
    for emotion in EMOTIONS:
        count = summary.emotions[emotion]
        rows.append(
            f'<tr class="{emotion}"><th scope="row">{emotion}</th><td>{count:,}</td><td>{count / total:.1%}</td>'
            f'<td class="bar"><i style="width:{100 * count / max(summary.emotions.values()):.1f}%"></i></td></tr>'
        )
    return f"<table><tbody>{''.join(rows)}</tbody></table>"


def _errors(errors: Counter[str]) -> str:
    if not errors:
        return ""
    rows = "".join(
        f"<tr><th scope='row'>{html.escape(code)}</th><td>{n:,}</td></tr>" for code, n in errors.most_common()
    )
    return f"<h2>What could not be read</h2><p>The rows with an error name the files.</p><table><tbody>{rows}</tbody></table>"


def _contact_sheet(surest: dict[str, list[dict[str, Any]]]) -> str:
    parts = []
    for emotion in EMOTIONS:
        faces = "".join(_thumbnail(face) for face in surest.get(emotion, ()))
        parts.append(f'<h3 class="{emotion}"><i></i>{emotion}</h3><div class="sheet">{faces or "<p>none</p>"}</div>')
    return "".join(parts)


def _thumbnail(face: dict[str, Any]) -> str:
    at = f", {_clock(face['time_s'])}" if face["time_s"] is not None else ""
    where = html.escape(f"{face['source']}{'/' + face['member'] if face['member'] else ''}{at}", quote=True)
    return (
        f'<figure title="{where}"><img alt="{where}" src="data:image/jpeg;base64,{face["jpeg"]}" width="72" height="72">'
        f"<figcaption>{face['sure']:.2f}</figcaption></figure>"
    )


def _films(summary: Summary) -> str:
    if not summary.films:
        return ""
    drawn = "".join(_film(name, film) for name, film in summary.films.items())
    more = f"<p>{summary.films_left_out} more films are in the table.</p>" if summary.films_left_out else ""
    return f"<h2>Films</h2><p>Above, the mean over all faces; below, a line for each face that was seen most, by its id.</p>{drawn}{more}"


_WIDTH, _HEIGHT, _LINE = 960, 96, 16  # of a film's drawing


def _film(name: str, film: dict[str, Any]) -> str:
    title = html.escape(name.rpartition("/")[2])
    if not film["all"]:
        return f"<h3>{title}</h3><p>No face in {_clock(film['end_s'])}.</p>"
    bins = max(1, int(film["end_s"] / film["bin_s"]) + 1)
    width = _WIDTH / bins
    parts = [rect for place, shares in film["all"].items() for rect in _stack(int(place) * width, width, shares)]
    for line, (person, places) in enumerate(sorted(film["people"].items(), key=lambda item: int(item[0]))):
        top = _HEIGHT + 6 + line * _LINE
        for place, shares in places.items():
            emotion = EMOTIONS[max(range(len(EMOTIONS)), key=shares.__getitem__)]
            parts.append(_rect(emotion, int(place) * width, top, width, _LINE - 4))
        parts.append(f'<text x="{_WIDTH + 6}" y="{top + 10}">face {html.escape(person)}</text>')
    height = _HEIGHT + 6 + len(film["people"]) * _LINE
    ticks = "".join(
        f'<text x="{_WIDTH * part / 4:.0f}" y="{height + 14}" text-anchor="{anchor}">{_clock(film["end_s"] * part / 4)}</text>'
        for part, anchor in enumerate(("start", "middle", "middle", "middle", "end"))
    )
    return (
        f'<h3>{title}</h3><div class="film" tabindex="0"><svg viewBox="0 0 {_WIDTH + 70} {height + 20}" role="img" shape-rendering="crispEdges" '
        f'aria-label="Emotions over time in {title}"><rect class="ground" width="{_WIDTH}" height="{_HEIGHT}"/>'
        f"{''.join(parts)}{ticks}</svg></div>"
    )


def _stack(left: float, width: float, shares: Sequence[float]) -> list[str]:
    """The seven shares of a bin, one on the other."""
    rects, top = [], 0.0
    for emotion, share in zip(EMOTIONS, shares, strict=True):
        if share >= 0.005:
            rects.append(_rect(emotion, left, top * _HEIGHT, width, share * _HEIGHT))
        top += share
    return rects


def _rect(emotion: str, x: float, y: float, width: float, height: float) -> str:
    # A little wider than its bin: no ground shines through between two.
    return f'<rect class="{emotion}" x="{x:.1f}" y="{y:.1f}" width="{width + 0.3:.1f}" height="{height:.1f}"/>'


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"
