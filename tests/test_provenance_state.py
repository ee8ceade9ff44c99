"""The quick look at a record behind the state of a table."""

from __future__ import annotations

from wsss.provenance.state import changed_input, changed_output, content_digest

pytest_plugins = ("provenance_fixtures",)


def test_an_untouched_table_has_not_changed(finished):
    record = finished.table.with_name("record.json")
    assert changed_input(record) is None
    assert changed_output(record) is None
    assert content_digest(record) == finished.audit().content


def test_what_has_changed_is_named(chain):
    record, metrics = chain.table.with_name("record.json"), chain.path("seam/seam/seed0/measure/walk_measured.json")
    metrics.write_text("{}")
    assert changed_input(record).endswith("walk_measured.json has changed")
    metrics.unlink()
    assert changed_input(record).endswith("walk_measured.json is gone")
    chain.table.write_text("99.00")
    assert changed_output(record).endswith("table.csv has changed")
    record.write_text("{}")
    assert changed_input(record).endswith("cannot be read")
    assert content_digest(record) == ""
