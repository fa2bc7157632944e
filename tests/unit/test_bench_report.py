"""The page, the plots and the README's table that are written from results."""

from __future__ import annotations

from xml.etree import ElementTree

import orjson
import pytest

pytest.importorskip("onnx", reason="the benchmarks need the extra [import]")

from bench import kit, plot, report

RESULT = {
    "conditions": {"command": "./dev bench cache", "cpu": "A CPU", "settings": [], "cores": 2},
    "figures": {
        "ratio": {"median": 4.2, "min": 4.0},
        "texts": 12,
        "rows": [{"at": 1, "ms": 0.5}, {"at": 2, "ms": None}],
    },
}


def test_a_section_has_command_conditions_and_tables():
    """What has the same columns is one table; lists are tables of their own; what is empty is not told."""
    text = report.section("cache", RESULT)
    assert text.startswith("## cache\n\n`./dev bench cache`\n\ncpu: A CPU; cores: 2.\n")
    assert "| figure | median | min |\n|---|---|---|\n| ratio | 4.2 | 4 |" in text
    assert "| figure | value |\n|---|---|\n| texts | 12 |" in text
    assert "`rows`:\n\n| at | ms |\n|---|---|\n| 1 | 0.5 |\n| 2 |  |" in text
    assert "svg" not in text
    assert "![cache](benchmarks/cache.svg)" in report.section("cache", RESULT, plot=True)


def test_every_result_can_be_told():
    """What is in `bench/results` makes a section, and a plot where its kind has one."""
    for path in sorted(kit.RESULTS.glob("*.json")):
        result = orjson.loads(path.read_bytes())
        drawn = report.plotted(path.stem, result["figures"])
        assert report.section(path.stem, result, drawn is not None).startswith(f"## {path.stem}\n")
        if drawn is not None:
            ElementTree.fromstring(drawn)


README = f"# Title\n\n{report.BEGIN}| old | 1 |\n{report.END}\nMore.\n"


def test_the_readmes_figures_are_those_of_the_results():
    """Between the marks, one line for each figure that was measured; all else stays."""
    results = {
        "graph-small": {"best_to_dynamic": 1.514, "best_to_fp32": 4.06},
        "exits": {"channels": [{"ratio": 1.0}, {"ratio": 2.345}]},
    }
    written = report.with_figures(README, results)
    assert written.startswith(f"# Title\n\n{report.BEGIN}| what | figure |\n|---|---|\n")
    assert written.endswith(f"|\n{report.END}\nMore.\n")
    assert "| 1.51 × |" in written
    assert "| 4.06 × |" in written
    assert "| 2.35 × |" in written or "| 2.34 × |" in written
    assert "old" not in written
    assert "start to ready" not in written
    assert report.with_figures(written, results) == written


def test_a_readme_without_marks_stays_as_it_is():
    """Nothing is written where nobody asked for it."""
    assert report.with_figures("# Title\n", {"graph-small": {"best_to_fp32": 4.0}}) == "# Title\n"


@pytest.mark.parametrize("path", [("a", "b"), ("list", "3", "x"), ("nothing",)])
def test_what_was_not_measured_is_none(path: tuple[str, ...]):
    """A key or a place that is not there is no figure."""
    assert report.value_at({"a": {"c": 1.0}, "list": [{"x": 2.0}]}, path) is None
    assert report.value_at({"a": {"c": 1.0}, "list": [{"x": 2.0}]}, ("list", "-1", "x")) == 2.0


def test_bars_are_as_long_as_their_values():
    """A value half as large has a bar half as long; names are escaped."""
    drawn = ElementTree.fromstring(plot.bars("a < b", {"one & two": 10.0, "half": 5.0}, "/s"))
    space = "{http://www.w3.org/2000/svg}"
    widths = [float(each.get("width", "0")) for each in drawn.iter(f"{space}rect") if each.get("x")]
    assert widths[0] == pytest.approx(2 * widths[1])
    assert {"one & two", "half", "10/s", "5/s", "a < b"} <= {each.text for each in drawn.iter(f"{space}text")}


def test_lines_rise_with_their_values_on_a_logarithmic_axis():
    """Ten times as much is one decade higher, a hundred times two."""
    drawn = ElementTree.fromstring(plot.lines("title", [20, 50, 70], {"p50": [1.0, 10.0, 100.0]}, "load", "ms"))
    points = next(drawn.iter("{http://www.w3.org/2000/svg}polyline")).get("points", "").split()
    (x0, y0), (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in points)
    assert x0 < x1 < x2
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2)
    assert y0 > y1


def test_names_of_lines_that_end_together_can_be_read():
    """Each name has a line's height for itself."""
    drawn = ElementTree.fromstring(plot.lines("t", [1, 2], {"p99": [1.0, 99.0], "p99.9": [2.0, 100.0]}, "x", "ms"))
    names = [e for e in drawn.iter("{http://www.w3.org/2000/svg}text") if (e.text or "").startswith("p99")]
    first, second = (float(each.get("y", "0")) for each in names)
    assert first - second == pytest.approx(14.0)


def test_one_load_alone_can_be_drawn():
    """A single place, and values that are all the same, make a plot too."""
    ElementTree.fromstring(plot.lines("title", [20], {"p50": [1.0]}, "load", "ms"))
