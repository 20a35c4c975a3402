"""Every source once, in shards that stay what they are."""

import tracemalloc
from pathlib import Path

from services.batch.plan import extend_plan, finished, shards, sources_of
from services.batch.sources import Source
from services.batch.storage import Output


def photos(count: int, start: int = 0) -> list[Source]:
    return [Source(f"/in/{number:07d}.jpg", "photo", 10) for number in range(start, start + count)]


def planned(output: Output) -> list[str]:
    return [source.url for shard in shards(output) for source in sources_of(output, shard)]


def test_photos_share_shards_and_a_film_has_its_own(tmp_path: Path) -> None:
    output = Output.at(str(tmp_path))
    film = Source("/in/film.mp4", "film", 7)
    extend_plan(output, [*photos(40), film, *photos(10, 40)])
    assert [(shard.sources, shard.bytes) for shard in shards(output)] == [(32, 320), (1, 7), (18, 180)]
    assert sources_of(output, shards(output)[1]) == [film]


def test_a_source_that_is_named_twice_is_scored_once(tmp_path: Path) -> None:
    output = Output.at(str(tmp_path))
    assert extend_plan(output, [*photos(5), *photos(5)]) == 5
    assert extend_plan(output, photos(5)) == 0
    assert len(planned(output)) == 5


def test_a_folder_that_grew_adds_shards_and_changes_none(tmp_path: Path) -> None:
    output = Output.at(str(tmp_path))
    extend_plan(output, photos(50))
    before = shards(output)
    output.write_json(before[0].manifest, {})
    assert extend_plan(output, photos(60)) == 10
    assert shards(output)[: len(before)] == before
    assert sorted(planned(output)) == [source.url for source in photos(60)]
    assert finished(output) == {before[0].id}


def test_planning_a_long_list_needs_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    peaks = []
    for count in (35_000, 105_000):  # from 32,000 on, shards have their full size
        listed = (Source(f"/in/{number:07d}.jpg", "photo", 10) for number in range(count))
        tracemalloc.start()
        extend_plan(Output.at(str(tmp_path / str(count))), listed)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0]
