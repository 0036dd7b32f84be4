import base64
import io
import re
import tempfile
import unittest
from html.parser import HTMLParser
from pathlib import Path

from PIL import Image

from DALAnomalySlicer.export.report import write_report
from Testing.slicer.export_phantom import (
    DIRECTIONS,
    IDENTIFIERS,
    MODEL_DIGEST,
    context_of,
    scan_with,
    write_source,
)

RUNS_IN_SLICER = True

BANNER = "Research use only. Not for diagnosis."
VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """What a page shows.

    Attributes:
        text: visible text, one string per element.
        images: the decoded pictures.
        tables: cells of the findings tables, row by row.
        sources: everything that the page refers to.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.images: list[bytes] = []
        self.tables: list[list[list[str]]] = []
        self.sources: list[str] = []
        self.tags: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        values = dict(attributes)
        self.sources += [values[name] for name in ("src", "href", "srcset", "action") if name in values]
        if tag == "img":
            self.images.append(base64.b64decode(values["src"].removeprefix("data:image/png;base64,"), validate=True))
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] != "style":
            self.text.append(data)
        if "td" in self._open or "th" in self._open:
            self.tables[-1][-1][-1] += data


class ReportTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def html(self, *arguments, **changes):
        write_report(context_of(*arguments, **changes), self.folder / "report.html")
        return (self.folder / "report.html").read_text(encoding="utf-8")

    def page(self, *arguments, **changes):
        return Page(self.html(*arguments, **changes))

    def test_banner_stands_at_both_ends(self):
        _title, banner, warning, *_, last_banner, last_warning = self.page(scan_with()).text
        assert banner == last_banner == BANNER
        assert "not a diagnosis" in warning
        assert warning == last_warning

    def test_nothing_outside_the_file_is_needed(self):
        page = self.page(scan_with())
        assert page.sources
        assert all(source.startswith("data:image/png;base64,") for source in page.sources)
        assert not {"script", "link", "iframe", "object"} & set(page.tags)

    def test_images_decode(self):
        page = self.page(scan_with())
        assert len(page.images) == 2
        for data in page.images:
            with Image.open(io.BytesIO(data)) as image:
                image.verify()
                assert min(image.size) > 400

    def test_numbers_are_those_of_the_table(self):
        context = context_of(scan_with(DIRECTIONS["oblique"]))
        first = self.page(context.scan).tables[0]
        for row, cells in zip(context.rows, first[1:-1], strict=True):
            measures = [f"{row.volume_ml:.2f}", f"{row.peak:.3g}", f"{row.mean:.3g}"]
            extent = " x ".join(f"{side:.0f}" for side in row.extent_mm)
            assert cells[:7] == [str(row.number), *measures, row.tissue, row.side, extent]
            right, anterior, superior = row.centroid_ras
            letters = ("RL"[right < 0], "AP"[anterior < 0], "SI"[superior < 0])
            sizes = [f"{abs(value):.0f}" for value in row.centroid_ras]
            assert cells[7] == ", ".join(" ".join(pair) for pair in zip(letters, sizes, strict=True))
        assert first[-1][1] == f"{sum(row.volume_ml for row in context.rows):.2f}"

    def test_dismissed_findings_stand_apart(self):
        page = self.page(scan_with(), ("dismissed", "marked"))
        kept, dismissed = page.tables[:2]
        assert [cells[0] for cells in kept[1:-1]] == ["2 marked"]
        assert [cells[0] for cells in dismissed[1:-1]] == ["1"]
        assert len(page.images) == 1
        assert any("1 finding" in text and "1 more dismissed" in text for text in page.text)

    def test_scan_without_findings(self):
        page = self.page(scan_with(), ("dismissed", "dismissed"))
        assert any("No finding; 2 more dismissed" in text for text in page.text)
        assert len(page.images) == 1
        assert "Highest score" in page.text

    def test_warnings_are_shown_as_text(self):
        assert "rough <brain> mask" in self.page(scan_with()).text

    def test_model_parameters_versions_and_times(self):
        text = self.page(scan_with()).text
        for expected in (MODEL_DIGEST, "chosen threshold", "2.8.0+cu128", "model grid shape", "60, 76, 60", "14.5 s"):
            with self.subTest(expected):
                assert expected in text

    def test_patient_is_not_in_it(self):
        scan = scan_with()
        files = write_source(self.folder / "Doe^Jane", scan)
        html = self.html(scan, dicom_files=files, warnings=(f"{files[0]}: rough mask of Doe^Jane born 1970-01-02",))
        said = re.sub("base64,[^']*", "", html)  # three letters occur in any picture's digits
        assert "&lt;path&gt;: rough mask of &lt;name&gt; born &lt;date&gt;" in said
        assert not [word for word in (*IDENTIFIERS, str(self.folder)) if word in said]

    def test_name_is_shown_if_the_user_wants_it(self):
        html = self.html(scan_with(), name="Case <7>")
        assert "Case &lt;7&gt;" in html
        assert "Case" not in self.html(scan_with())
